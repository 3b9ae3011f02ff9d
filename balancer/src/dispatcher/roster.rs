//! Who is a member, and what follows from their counts: the candidates and the room there is.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::member::Member;
use super::queue::Waiting;
use crate::candidate::Figures;
use crate::members::Members;
use crate::{Request, Strategy};

/// All members. Every change goes through [`update`](Self::update), which keeps candidates and room true.
pub(super) struct Roster<K, C> {
    /// A member keeps its place while it stays, so that strategies may remember indices.
    places: Vec<Option<Member<K, C>>>,
    place_of: HashMap<K, usize>,
    /// What strategies see of `places`, index by index.
    members: Members,
    /// The sum over all members.
    room: usize,
}

impl<K: Copy + Eq + Hash, C> Roster<K, C> {
    pub(super) fn for_strategy<S: Strategy + ?Sized>(strategy: &S) -> Self {
        Self {
            places: Vec::new(),
            place_of: HashMap::new(),
            members: Members::for_strategy(strategy),
            room: 0,
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
        self.room -= member.room();
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
        let before = member.room();
        let result = change(member);
        self.room = self.room - before + member.room();
        self.members.set(place, member.candidate());
        Some(result)
    }

    /// Picks a place for this request, of somebody else than `refused_by` if there is anybody else.
    pub(super) fn pick<S: Strategy + ?Sized>(
        &self,
        strategy: &mut S,
        request: Request,
        refused_by: Option<K>,
    ) -> Option<usize> {
        let elsewhere = refused_by.and_then(|key| self.place(key)).and_then(|place| {
            let all = self.members.without(place);
            self.members.pick_among(strategy, &self.members.view(request).seen_as(&all))
        });
        elsewhere.or_else(|| self.members.pick(strategy, request))
    }

    /// Whether nobody may be picked for this request.
    pub(super) fn is_stuck(&self, request: Request) -> bool {
        self.members.view(request).eligible_from(0).next().is_none()
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
        if let Some(figures) = self.members.figures_mut(place) {
            figures.picked += 1;
        }
        self.update_at(place, |member| member.assign(waiting)) == Some(true)
    }

    /// How many items of a class could be assigned now.
    pub(super) fn room_for(&self, class: u8) -> usize {
        self.iter().map(|member| member.room_for(class)).sum()
    }

    /// How many items could be assigned now, to all members together.
    pub(super) fn room(&self) -> usize {
        self.room
    }
}
