//! A pool: members, a strategy, and exact counts of who has what.

mod shared;

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

pub use self::shared::{Guard, SharedPool};

use crate::candidate::Candidate;
use crate::candidates::Request;
use crate::members::Members;
use crate::status::{MemberStatus, Status};
use crate::strategy::Ended;
use crate::{Limits, Strategy, hash_of};

/// Members by key, and who is picked next. For one thread; [`SharedPool`] is for several.
///
/// A pick counts at once, and until it is [`release`](Self::release)d. Ids carry a generation: what is released late, after the
/// member has left, never touches its successor.
///
/// Unlike a [`Dispatcher`](crate::Dispatcher) a pool has no items and no queue: when nobody can be picked, the caller knows.
///
/// ```
/// use cluster_balancer::{LeastLoaded, Limits, Pool};
///
/// let mut pool = Pool::new(LeastLoaded::new());
/// pool.add("10.0.0.1:80", Limits::new());
/// pool.add("10.0.0.2:80", Limits::new().weight(2));
/// let picked = pool.pick().expect("both have room");
/// assert_eq!(pool.key(picked), Some(&"10.0.0.2:80"));
/// assert_eq!(pool.outstanding(picked), Some(1));
/// pool.release(picked);
/// ```
#[derive(Debug)]
pub struct Pool<K, S = Box<dyn Strategy>> {
    strategy: S,
    members: Members,
    /// By place: what every pick touches, and the rest.
    counters: Vec<Counter>,
    slots: Vec<Slot<K>>,
    vacant: Vec<usize>,
    by_key: HashMap<K, usize>,
}

/// A member of a pool, in one life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberId {
    index: u32,
    /// Not zero, so that an `Option` of this is no larger.
    generation: NonZeroU32,
}

#[derive(Debug)]
struct Counter {
    generation: NonZeroU32,
    /// The most it may have now: nothing while it is paused.
    most: u32,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    limits: Limits,
    paused: bool,
    failed: u64,
}

impl<K: Clone + Eq + Hash, S: Strategy> Pool<K, S> {
    /// A pool without members.
    pub fn new(strategy: S) -> Self {
        let members = Members::for_strategy(&strategy);
        Self {
            strategy,
            members,
            counters: Vec::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    /// Adds a member, or changes the limits of the one with this key, which keeps its counts and no longer drains. Of the limits, `window` has no
    /// meaning here: what is picked is taken.
    pub fn add(&mut self, key: K, limits: Limits) -> MemberId {
        self.add_at(key, limits, Duration::ZERO)
    }

    /// The same at this time, for [`SlowStart`](crate::strategy::SlowStart).
    pub fn add_at(&mut self, key: K, limits: Limits, now: Duration) -> MemberId {
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => self.occupy(key, limits, now),
        };
        self.change(index, |slot, candidate| {
            slot.limits = limits;
            candidate.with_weight(limits.weight).taking(limits.classes).staying()
        });
        // The place is there: it was found or made above.
        self.id(index).unwrap_or(MemberId { index: u32::MAX, generation: NonZeroU32::MIN })
    }

    fn occupy(&mut self, key: K, limits: Limits, now: Duration) -> usize {
        let identity = limits.identity.unwrap_or_else(|| hash_of(&key));
        let slot = Slot { key: Some(key.clone()), limits, paused: false, failed: 0 };
        let index = self.vacant.pop().unwrap_or_else(|| self.members.add_place());
        match self.slots.get_mut(index) {
            Some(vacant) => *vacant = slot,
            None => {
                self.slots.push(slot);
                self.counters.push(Counter { generation: NonZeroU32::MIN, most: 0 });
            }
        }
        self.members.occupy(index, identity, now);
        self.by_key.insert(key, index);
        index
    }

    /// Removes a member. What it has can still be released; that does nothing then. Returns its key, `None` if it was removed
    /// before.
    pub fn remove(&mut self, id: MemberId) -> Option<K> {
        let index = self.index(id)?;
        let key = self.slots.get_mut(index)?.key.take()?;
        let counter = self.counters.get_mut(index)?;
        counter.generation = counter.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.by_key.remove(&key);
        self.members.vacate(index);
        self.vacant.push(index);
        Some(key)
    }

    /// Gives a member nothing new, but what [sticks](crate::strategy::Sticky) to it; what it has it keeps.
    pub fn drain(&mut self, id: MemberId) {
        self.mark(id, Candidate::draining);
    }

    /// Says whether a member is well. One that isn't gets nothing; who would rather have it get something than nobody anything
    /// wraps the strategy in a [`PanicThreshold`](crate::strategy::PanicThreshold).
    pub fn set_healthy(&mut self, id: MemberId, healthy: bool) {
        self.mark(id, |candidate| if healthy { candidate.healthy() } else { candidate.unhealthy() });
    }

    /// Skips a member, or ends that.
    pub fn set_paused(&mut self, id: MemberId, paused: bool) {
        if let Some(index) = self.index(id) {
            self.change(index, |slot, candidate| {
                slot.paused = paused;
                candidate
            });
        }
    }

    /// Tells what a member uses of what is measured, for [`LeastUsed`](crate::strategy::LeastUsed).
    pub fn report(&mut self, id: MemberId, used: u64) {
        if let Some(index) = self.index(id)
            && let Some(outstanding) = self.members.get(index).map(Candidate::outstanding)
            && let Some(figures) = self.members.figures_mut(index)
        {
            *figures = figures.gauge(used, outstanding);
        }
    }

    fn mark(&mut self, id: MemberId, change: impl FnOnce(Candidate) -> Candidate) {
        if let Some(index) = self.index(id) {
            self.change(index, |_, candidate| change(candidate));
        }
    }

    /// Changes a member, and what follows from it.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Slot<K>, Candidate) -> Candidate) {
        if let (Some(slot), Some(counter), Some(candidate)) =
            (self.slots.get_mut(index), self.counters.get_mut(index), self.members.get(index))
        {
            let candidate = change(slot, *candidate);
            counter.most = if slot.paused { 0 } else { slot.limits.capacity };
            self.members.set(index, candidate.with_available(candidate.outstanding() < counter.most));
        }
    }

    /// Picks a member, which has one item more from now on. `None` when nobody has room.
    #[inline]
    pub fn pick(&mut self) -> Option<MemberId> {
        self.pick_for(Request::new())
    }

    /// The same for a request with a key, a class, or a time.
    #[inline(always)]
    pub fn pick_for(&mut self, request: Request) -> Option<MemberId> {
        let index = self.members.pick(&mut self.strategy, request)?;
        let counter = self.counters.get(index)?;
        let id = MemberId { index: index as u32, generation: counter.generation };
        let outstanding = self.members.get(index)?.outstanding().saturating_add(1);
        self.members.count(index, outstanding, outstanding < counter.most);
        self.members.figures_mut(index)?.picked += 1;
        Some(id)
    }

    /// An item of the member has ended. Nothing happens for a member that has left.
    #[inline(always)]
    pub fn release(&mut self, id: MemberId) {
        let index = id.index as usize;
        if let Some(counter) = self.counters.get(index)
            && counter.generation == id.generation
            && let Some(candidate) = self.members.get(index)
        {
            let outstanding = candidate.outstanding().saturating_sub(1);
            self.members.count(index, outstanding, outstanding < counter.most);
            self.members.finish(index);
        }
    }

    /// The same, and how: for strategies that learn from it.
    pub fn finish(&mut self, id: MemberId, ended: Ended) {
        // First: a strategy that panics spoils the balance, not the counts.
        self.release(id);
        if let Some(index) = self.index(id) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.failed += u64::from(ended.failed());
            }
            self.strategy.observe(index, ended);
        }
    }

    fn id(&self, index: usize) -> Option<MemberId> {
        let generation = self.counters.get(index)?.generation;
        Some(MemberId { index: index as u32, generation })
    }

    fn index(&self, id: MemberId) -> Option<usize> {
        let index = id.index as usize;
        (self.counters.get(index)?.generation == id.generation).then_some(index)
    }

    /// The member with this key.
    pub fn id_of(&self, key: &K) -> Option<MemberId> {
        self.id(*self.by_key.get(key)?)
    }

    /// The key of a member, `None` if it has left.
    pub fn key(&self, id: MemberId) -> Option<&K> {
        self.slots.get(self.index(id)?)?.key.as_ref()
    }

    /// How many items it has, `None` if it has left.
    pub fn outstanding(&self, id: MemberId) -> Option<u32> {
        self.members.get(self.index(id)?).map(Candidate::outstanding)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The strategy and every member, for people and for monitoring.
    pub fn status(&self) -> Status<K> {
        let places = self.slots.iter().enumerate();
        let members = places.filter_map(|(index, slot)| {
            let (candidate, figures) = (self.members.get(index)?, self.members.figures(index)?);
            Some(MemberStatus {
                key: slot.key.clone()?,
                weight: candidate.weight(),
                outstanding: candidate.outstanding(),
                untaken: 0,
                capacity: (slot.limits.capacity != u32::MAX).then_some(slot.limits.capacity),
                eligible: candidate.is_eligible(),
                healthy: candidate.is_healthy(),
                draining: candidate.is_draining(),
                paused: slot.paused,
                withdrawn: false,
                picked: figures.picked,
                failed: slot.failed,
                gauge: figures.gauge,
            })
        });
        Status { strategy: self.strategy.name(), members: members.collect() }
    }
}
