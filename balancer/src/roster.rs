//! Who is a member, and what follows from their counts: the candidates and the room there is.

use std::collections::HashMap;
use std::hash::Hash;

use crate::member::Member;
use crate::members::Members;
use crate::{Request, Strategy, hash_of};

/// All members. Every change goes through [`update`](Self::update), which keeps candidates and room true.
pub(crate) struct Roster<K, C> {
    /// A member keeps its place while it stays, so that strategies may remember indices.
    places: Vec<Option<Member<K, C>>>,
    place_of: HashMap<K, usize>,
    /// What strategies see of `places`, index by index.
    members: Members,
    /// The sum over all members.
    room: usize,
}

impl<K: Copy + Eq + Hash, C> Roster<K, C> {
    pub(crate) fn for_strategy<S: Strategy + ?Sized>(strategy: &S) -> Self {
        Self {
            places: Vec::new(),
            place_of: HashMap::new(),
            members: Members::for_strategy(strategy),
            room: 0,
        }
    }

    /// Makes sure that there is a member with this key. A new one gets the first vacant place.
    pub(crate) fn ensure(&mut self, key: K) {
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
        self.members.occupy(place, hash_of(key), std::time::Duration::ZERO);
        self.place_of.insert(key, place);
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<Member<K, C>> {
        let place = self.place_of.remove(&key)?;
        let member = self.places.get_mut(place)?.take()?;
        self.room -= member.room();
        self.members.vacate(place);
        Some(member)
    }

    pub(crate) fn get(&self, key: K) -> Option<&Member<K, C>> {
        self.places.get(*self.place_of.get(&key)?)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member<K, C>> {
        self.places.iter().flatten()
    }

    pub(crate) fn update<R>(&mut self, key: K, change: impl FnOnce(&mut Member<K, C>) -> R) -> Option<R> {
        self.update_at(*self.place_of.get(&key)?, change)
    }

    pub(crate) fn update_at<R>(
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

    /// Picks a place for this request.
    pub(crate) fn pick<S: Strategy + ?Sized>(&self, strategy: &mut S, request: Request) -> Option<usize> {
        self.members.pick(strategy, request)
    }

    /// How many items of a class could be assigned now.
    pub(crate) fn room_for(&self, class: u8) -> usize {
        self.iter().map(|member| member.room_for(class)).sum()
    }

    /// How many items could be assigned now, to all members together.
    pub(crate) fn room(&self) -> usize {
        self.room
    }
}
