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

/// The classes that items have here.
const CLASSES: [Option<u8>; 3] = [None, Some(0), Some(1)];

/// What is known of an item for as long as it can come back.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) class: Option<u8>,
    pub(crate) key: Option<u64>,
    pub(crate) since: Duration,
    /// By whom, and in which of its stints.
    pub(crate) refusals: Vec<(Key, u32)>,
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
    beyond_health: bool,
    /// Classes in the order in which an item of each came first.
    pub(crate) lanes: Vec<Option<u8>>,
    pub(crate) queue_limit: usize,
    pub(crate) wait_at_most: Option<Duration>,
    pub(crate) now: Duration,
    pub(crate) members: Vec<Option<Member>>,
    pub(crate) offers: BTreeMap<Item, Offer>,
    pub(crate) waiting: BTreeSet<Item>,
    /// Members by place, in the order in which they got their first item of this round.
    round: Vec<usize>,
    /// The place of the member that finished something last.
    pub(crate) finisher: Option<usize>,
}

impl Naive {
    pub(crate) fn new(
        strategy: Box<dyn Strategy>,
        queue_limit: usize,
        wait_at_most: Option<Duration>,
    ) -> Self {
        Self {
            beyond_health: strategy.looks_beyond_health(),
            strategy,
            lanes: Vec::new(),
            queue_limit,
            wait_at_most,
            now: Duration::ZERO,
            members: Vec::new(),
            offers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            round: Vec::new(),
            finisher: None,
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
        self.finisher = self.finisher.filter(|finisher| *finisher != place);
        self.members[place].take().unwrap()
    }

    pub(crate) fn accepts(&self, class: Option<u8>) -> bool {
        if self.room_for(class) > 0 {
            return true;
        }
        // Those for which there is no place, as far as that can be said without handing them out.
        let plain = || self.waiting.iter().filter(|item| self.offers[item].refusals.is_empty());
        let refused = self.waiting.len() - plain().count();
        let stuck = CLASSES.map(|class| self.count(class).saturating_sub(self.room_of(class)));
        let overall = plain().count().saturating_sub(self.room_of(None));
        refused + overall.max(stuck.iter().sum()) < self.queue_limit
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
        member.picked += member.pending.len() as u64;
        Some((member.key, std::mem::take(&mut member.pending)))
    }

    /// What a round does, item by item.
    fn assign(&mut self) {
        let mut stuck = BTreeSet::new();
        for item in self.waiting.clone() {
            let offer = &self.offers[&item];
            let (class, is_plain) = (offer.class, offer.refusals.is_empty());
            if is_plain && stuck.contains(&class) {
                continue;
            }
            if !self.place_item(item) && is_plain {
                stuck.insert(class);
            }
        }
        // Those that stick to somebody who drains, lane by lane in the order in which there were any.
        for class in self.lanes.clone() {
            for item in self.waiting.clone() {
                let offer = &self.offers[&item];
                let is_next = offer.class == class && offer.refusals.is_empty() && offer.key.is_some();
                if is_next && self.iter().any(|member| member.is_drainer() && member.room() > 0) {
                    self.place_item(item);
                }
            }
        }
    }

    fn place_item(&mut self, item: Item) -> bool {
        if !self.iter().any(|member| member.room() > 0) {
            return false;
        }
        let Some(place) = self.pick(&self.offers[&item].clone()) else { return false };
        self.waiting.remove(&item);
        self.members[place].as_mut().unwrap().pending.push(item);
        if !self.round.contains(&place) {
            self.round.push(place);
        }
        true
    }

    /// Whom the twin picks, of those who have not refused it.
    fn pick(&mut self, offer: &Offer) -> Option<usize> {
        let all = self.candidates(offer);
        self.ask(&all, offer)
    }

    fn ask(&mut self, all: &[Candidate], offer: &Offer) -> Option<usize> {
        let figures =
            |member: &Option<Member>| member.as_ref().map_or_else(Figures::default, Member::figures);
        let figures: Vec<_> = self.members.iter().map(figures).collect();
        let request = offer.request().at(self.now);
        let among = Candidates::new(all).with_figures(&figures).for_request(request);
        let among = self.finisher.map_or(among, |place| among.with_last_to_finish(place));
        let picked = self.strategy.pick(&among);
        let possible = |place: &usize| all.get(*place).is_some_and(Candidate::is_available);
        picked.filter(possible).or_else(|| (0..all.len()).find(|place| all[*place].is_eligible()))
    }

    /// All of them as they look to an item.
    fn candidates(&self, offer: &Offer) -> Vec<Candidate> {
        let seen = |member: &Member| {
            let candidate = member.candidate();
            let refused = offer.refusals.contains(&(member.key, member.stint));
            if member.takes(offer.class) && !refused { candidate } else { candidate.ineligible() }
        };
        self.members.iter().map(|member| member.as_ref().map_or_else(Candidate::vacant, seen)).collect()
    }

    pub(crate) fn poll_expired(&mut self) -> Option<Item> {
        let limit = self.wait_at_most?;
        let stuck = |item: &&Item| {
            let offer = &self.offers[item];
            offer.since + limit <= self.now && !self.candidates(offer).iter().any(Candidate::is_eligible)
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
        let waiting: usize = CLASSES.map(|class| self.count(class).min(self.room_of(class))).iter().sum();
        self.room_of(None).saturating_sub(waiting)
    }

    pub(crate) fn room_for(&self, class: Option<u8>) -> usize {
        if class.is_none() {
            return self.free();
        }
        self.room_of(class).saturating_sub(self.count(class)).min(self.free())
    }

    /// How many items wait of this class that nobody has refused.
    fn count(&self, class: Option<u8>) -> usize {
        let is_one = |offer: &Offer| offer.class == class && offer.refusals.is_empty();
        self.waiting.iter().filter(|item| is_one(&self.offers[item])).count()
    }

    /// Places of those who take it and would get it.
    fn room_of(&self, class: Option<u8>) -> usize {
        let usable = |member: &&Member| {
            let well = if member.healthy { !member.draining } else { self.beyond_health };
            well && member.takes(class)
        };
        self.iter().filter(usable).map(Member::room).sum()
    }

    /// Forgets an item, if no member was handed it and it has not left.
    pub(crate) fn retract(&mut self, item: Item) -> bool {
        if self.waiting.remove(&item) {
            return true;
        }
        let holds = |member: &&mut Member| member.pending.contains(&item);
        let Some(member) = self.members.iter_mut().flatten().find(holds) else { return false };
        member.pending.retain(|other| *other != item);
        member.clamp();
        true
    }

    /// What was assigned and not polled waits again when the standing of its member changes.
    pub(crate) fn unassign(&mut self, key: Key) {
        let Some(member) = self.members.iter_mut().flatten().find(|member| member.key == key) else { return };
        self.waiting.extend(member.pending.drain(..));
        member.clamp();
    }
}
