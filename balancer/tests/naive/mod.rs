//! What the model test compares with: a dispatcher that counts everything anew.

mod member;
mod strategies;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_balancer::strategy::{Candidate, Candidates, Ended, Figures, Request, Strategy};

pub(crate) use member::Member;
pub(crate) use strategies::{kinds, strategy};

/// An item is its own place in the order of arrival.
pub(crate) type Item = u32;

/// Never used again for another member of the same run.
pub(crate) type Key = u16;

/// What is known of an item for as long as it can come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) class: Option<u8>,
    pub(crate) key: Option<u64>,
    pub(crate) since: Duration,
    pub(crate) refused_by: Option<Key>,
}

impl Offer {
    pub(crate) fn request(&self) -> Request {
        let request = self.class.map_or_else(Request::new, |class| Request::new().class(class));
        self.key.map_or(request, |key| request.key(key)).at(self.since)
    }
}

pub(crate) struct Naive {
    /// The twin of the dispatcher's strategy.
    strategy: Box<dyn Strategy>,
    pub(crate) queue_limit: usize,
    pub(crate) wait_at_most: Option<Duration>,
    pub(crate) now: Duration,
    pub(crate) members: Vec<Option<Member>>,
    pub(crate) offers: BTreeMap<Item, Offer>,
    pub(crate) waiting: BTreeSet<Item>,
    /// Members by place, in the order in which they got their first item of this round.
    round: Vec<usize>,
}

impl Naive {
    pub(crate) fn new(
        strategy: Box<dyn Strategy>,
        queue_limit: usize,
        wait_at_most: Option<Duration>,
    ) -> Self {
        Self {
            strategy,
            queue_limit,
            wait_at_most,
            now: Duration::ZERO,
            members: Vec::new(),
            offers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            round: Vec::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    pub(crate) fn place(&self, key: Key) -> usize {
        let mut places = self.members.iter();
        places.position(|member| member.as_ref().is_some_and(|member| member.key == key)).unwrap()
    }

    pub(crate) fn member(&mut self, key: Key) -> &mut Member {
        let place = self.place(key);
        self.members[place].as_mut().unwrap()
    }

    /// The member with this key, which is new if there is none.
    pub(crate) fn ensure(&mut self, key: Key) -> &mut Member {
        if !self.iter().any(|member| member.key == key) {
            let member = Some(Member::new(key, self.now));
            match self.members.iter().position(Option::is_none) {
                Some(vacant) => self.members[vacant] = member,
                None => self.members.push(member),
            }
        }
        self.member(key)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Member {
        self.unassign(key);
        let place = self.place(key);
        self.members[place].take().unwrap()
    }

    pub(crate) fn accepts(&self, class: Option<u8>) -> bool {
        // Those for which there is no place, as far as that can be said without handing them out.
        let stuck = self.waiting.len().saturating_sub(self.room());
        stuck < self.queue_limit || self.room_for(class) > 0
    }

    /// The next batch of a round, as items: what the dispatcher makes tickets of.
    pub(crate) fn poll_batch(&mut self) -> Option<(Key, Vec<Item>)> {
        let has_items = |member: &Member| !member.pending.is_empty();
        self.round.retain(|place| self.members[*place].as_ref().is_some_and(has_items));
        if self.round.is_empty() {
            self.assign();
        }
        if self.round.is_empty() {
            return None;
        }
        let member = self.members[self.round.remove(0)].as_mut().unwrap();
        Some((member.key, std::mem::take(&mut member.pending)))
    }

    /// What a round does, item by item.
    fn assign(&mut self) {
        let mut stuck = BTreeSet::new();
        for item in self.waiting.clone() {
            if self.room() == 0 {
                return;
            }
            let offer = self.offers[&item];
            let hopeless = stuck.contains(&None) || stuck.contains(&offer.class);
            let place = if hopeless && offer.key.is_none() { None } else { self.pick(&offer) };
            let Some(place) = place else {
                stuck.insert(offer.class);
                continue;
            };
            self.waiting.remove(&item);
            self.members[place].as_mut().unwrap().pending.push(item);
            if !self.round.contains(&place) {
                self.round.push(place);
            }
        }
    }

    /// Whom the twin picks, of others than who refused it if there are others.
    fn pick(&mut self, offer: &Offer) -> Option<usize> {
        let all = self.candidates(offer.class);
        if let Some(key) = offer.refused_by
            && let Some(place) = self.members.iter().position(|m| m.as_ref().is_some_and(|m| m.key == key))
        {
            let mut others = all.clone();
            others[place] = others[place].ineligible();
            let elsewhere = self.ask(&others, offer);
            if elsewhere.is_some() {
                return elsewhere;
            }
        }
        self.ask(&all, offer)
    }

    fn ask(&mut self, all: &[Candidate], offer: &Offer) -> Option<usize> {
        let figures =
            |member: &Option<Member>| member.as_ref().map_or_else(Figures::default, Member::figures);
        let figures: Vec<_> = self.members.iter().map(figures).collect();
        let request = Offer { class: None, ..*offer }.request().at(self.now);
        let picked = self.strategy.pick(&Candidates::new(all).with_figures(&figures).for_request(request));
        let possible = |place: &usize| all.get(*place).is_some_and(Candidate::is_available);
        picked.filter(possible).or_else(|| (0..all.len()).find(|place| all[*place].is_eligible()))
    }

    /// All of them as they look to an item of this class.
    fn candidates(&self, class: Option<u8>) -> Vec<Candidate> {
        let seen = |member: &Member| {
            let candidate = member.candidate();
            if member.takes(class) { candidate } else { candidate.ineligible() }
        };
        self.members.iter().map(|member| member.as_ref().map_or_else(Candidate::vacant, seen)).collect()
    }

    pub(crate) fn poll_expired(&mut self) -> Option<Item> {
        let limit = self.wait_at_most?;
        let stuck = |item: &&Item| {
            let offer = self.offers[item];
            offer.since + limit <= self.now
                && !self.candidates(offer.class).iter().any(Candidate::is_eligible)
        };
        let item = *self.waiting.iter().find(stuck)?;
        self.waiting.remove(&item);
        Some(item)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        Some(self.offers[self.waiting.first()?].since + self.wait_at_most?)
    }

    pub(crate) fn observe(&mut self, key: Key, ended: Ended) {
        let place = self.place(key);
        self.strategy.observe(place, ended);
        self.member(key).failed += u64::from(ended.failed());
    }

    /// Free places less the items that wait for them.
    pub(crate) fn free(&self) -> usize {
        self.room().saturating_sub(self.waiting.len())
    }

    pub(crate) fn room_for(&self, class: Option<u8>) -> usize {
        if class.is_none() {
            return self.free();
        }
        let places: usize = self.iter().filter(|member| member.takes(class)).map(Member::room).sum();
        let waiting = self.waiting.iter().filter(|item| self.offers[item].class == class).count();
        places.saturating_sub(waiting).min(self.free())
    }

    fn room(&self) -> usize {
        self.iter().map(Member::room).sum()
    }

    /// What was assigned and not polled waits again when the standing of its member changes.
    pub(crate) fn unassign(&mut self, key: Key) {
        let Some(member) = self.members.iter_mut().flatten().find(|member| member.key == key) else { return };
        self.waiting.extend(member.pending.drain(..));
        member.clamp();
    }
}
