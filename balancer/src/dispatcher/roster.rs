//! Who is a member, and what follows from their counts: the candidates and the room there is.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::member::Member;
use super::queue::{Refusal, Waiting};
use super::room::{Room, Share};
use super::ticket::Arrival;
use crate::Strategy;
use crate::candidate::{Candidate, Figures};
use crate::members::Members;

/// All members. Every change goes through [`update`](Self::update), which keeps candidates and room true.
pub(super) struct Roster<K, C> {
    /// A member keeps its place while it stays, so that strategies may remember indices.
    places: Vec<Option<Member<K, C>>>,
    place_of: HashMap<K, usize>,
    /// What strategies see of `places`, index by index.
    members: Members,
    room: Room,
    /// Of all members.
    untaken: usize,
}

impl<K: Copy + Eq + Hash, C> Roster<K, C> {
    pub(super) fn for_strategy<S: Strategy + ?Sized>(strategy: &S) -> Self {
        Self {
            places: Vec::new(),
            place_of: HashMap::new(),
            members: Members::for_strategy(strategy),
            room: Room::new(strategy.looks_beyond_health()),
            untaken: 0,
        }
    }

    /// Makes sure that there is a member with this key. A new one gets the first vacant place, and is known by
    /// `identity` there.
    pub(super) fn ensure(&mut self, key: K, identity: u64, now: Duration) {
        if self.place_of.contains_key(&key) {
            return;
        }
        let member = Some(Member::new(key));
        let place = match self.places.iter_mut().enumerate().find(|(_, place)| place.is_none()) {
            Some((index, vacant)) => {
                *vacant = member;
                index
            }
            None => {
                self.places.push(member);
                self.members.add_place()
            }
        };
        self.members.occupy(place, identity, now);
        self.place_of.insert(key, place);
    }

    pub(super) fn remove(&mut self, key: K) -> Option<Member<K, C>> {
        let place = self.place_of.remove(&key)?;
        let member = self.places.get_mut(place)?.take()?;
        self.room.subtract(Share::of(&member));
        self.untaken -= member.untaken();
        self.members.vacate(place);
        Some(member)
    }

    pub(super) fn get(&self, key: K) -> Option<&Member<K, C>> {
        self.places.get(self.place(key)?)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<K, C>> {
        self.places.iter().flatten()
    }

    pub(super) fn update<R>(&mut self, key: K, change: impl FnOnce(&mut Member<K, C>) -> R) -> Option<R> {
        self.update_at(self.place(key)?, change)
    }

    pub(super) fn update_at<R>(
        &mut self,
        place: usize,
        change: impl FnOnce(&mut Member<K, C>) -> R,
    ) -> Option<R> {
        let member = self.places.get_mut(place)?.as_mut()?;
        let (before, untaken) = (Share::of(member), member.untaken());
        let result = change(member);
        self.room.replace(before, Share::of(member));
        self.untaken = self.untaken - untaken + member.untaken();
        self.members.set(place, member.candidate());
        Some(result)
    }

    /// See [`Member::finish`].
    pub(super) fn finish(&mut self, key: K, total: u64) {
        if let Some(place) = self.place(key)
            && self.update_at(place, |member| member.finish(total)) == Some(true)
        {
            self.members.finish(place);
        }
    }

    /// Picks a place for an item at this time, of those who have not refused it.
    pub(super) fn pick<S: Strategy + ?Sized>(
        &mut self,
        strategy: &mut S,
        waiting: &Waiting<K, C>,
        now: Duration,
    ) -> Option<usize> {
        let request = waiting.request().at(now);
        match self.others(waiting.refusals()) {
            Some(others) => self.members.pick_among(strategy, &self.members.view(request).seen_as(&others)),
            None => self.members.pick(strategy, request),
        }
    }

    /// Whether nobody may be picked for an item.
    pub(super) fn is_stuck(&self, waiting: &Waiting<K, C>) -> bool {
        let among = self.members.view(waiting.request());
        let mut eligible = match self.others(waiting.refusals()) {
            Some(others) => return among.seen_as(&others).eligible_from(0).next().is_none(),
            None => among.eligible_from(0),
        };
        eligible.next().is_none()
    }

    /// All candidates, those ineligible whose refusal still holds; `None` if there are none.
    fn others(&self, refusals: &[Refusal<K>]) -> Option<Vec<Candidate>> {
        let held = refusals.iter().filter(|refusal| self.holds(refusal));
        let mut places = held.filter_map(|refusal| self.place(refusal.key)).peekable();
        places.peek()?;
        Some(self.members.without(places))
    }

    /// Whether a refusal still holds: who refused is there, and has not been admitted or resumed since.
    pub(super) fn holds(&self, refusal: &Refusal<K>) -> bool {
        self.get(refusal.key).is_some_and(|member| member.stint() == refusal.stint)
    }

    pub(super) fn place(&self, key: K) -> Option<usize> {
        self.place_of.get(&key).copied()
    }

    pub(super) fn figures(&self, key: K) -> Option<&Figures> {
        self.members.figures(self.place(key)?)
    }

    pub(super) fn figures_mut(&mut self, place: usize) -> Option<&mut Figures> {
        self.members.figures_mut(place)
    }

    /// Assigns an item to the member at `place`. Returns whether it is the first of the round.
    pub(super) fn assign(&mut self, place: usize, waiting: Waiting<K, C>) -> bool {
        self.update_at(place, |member| member.assign(waiting)) == Some(true)
    }

    /// Takes an item back from whom it was assigned to, if that has not been handed it.
    pub(super) fn retract(&mut self, arrival: Arrival) -> Option<Waiting<K, C>> {
        (0..self.places.len()).find_map(|place| self.update_at(place, |member| member.retract(arrival))?)
    }

    /// How many items members have that they did not take.
    pub(super) fn untaken(&self) -> usize {
        self.untaken
    }

    /// How many items could be assigned now.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }
}
