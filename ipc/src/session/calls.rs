//! Requests that wait for their answers: this side's own, and the peer's.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// A request of this side, until it completes.
///
/// Slot and generation in one: a late answer to an earlier request in the same slot finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u64);

impl CallId {
    pub(super) fn from_wire(id: u64) -> Self {
        Self(id)
    }

    pub(super) fn to_wire(self) -> u64 {
        self.0
    }

    fn new(slot: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | slot as u64)
    }

    fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

/// A request of the peer, until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Somebody waits for the answer. `order`: the how-manieth request this is.
    Waiting {
        order: u64,
        deadline: Option<Instant>,
    },
    /// Nobody waits any more, but the peer hasn't answered yet: the slot stays taken, so that this side never has
    /// more requests at the peer than agreed.
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    state: State,
    /// Where in the data lane the request ends.
    end: u64,
}

/// What an answer from the peer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// A request that somebody waits for.
    Waiting,
    /// A request that nobody waits for any more.
    Late,
    /// No request of ours.
    Unknown,
}

/// The requests of this side. Each completes exactly once: by [`answer`](Self::answer),
/// [`abandon`](Self::abandon) or [`fail_all`](Self::fail_all), whichever comes first.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Slot>,
    free: Vec<usize>,
    deadlines: BTreeSet<(Instant, CallId)>,
    begun: u64,
}

impl Calls {
    /// How many slots are taken.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot.
    pub(super) fn begin(&mut self, deadline: Option<Instant>) -> CallId {
        let state = State::Waiting { order: self.begun, deadline };
        self.begun += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, state: State::Free, end: 0 });
            self.slots.len() - 1
        });
        let id = match self.slots.get_mut(slot) {
            Some(taken) => {
                taken.state = state;
                CallId::new(slot, taken.generation)
            }
            // Not reached: the slot was just found or made.
            None => CallId::new(slot, 0),
        };
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        id
    }

    /// The request has been queued and ends there in the data lane.
    pub(super) fn queued(&mut self, id: CallId, end: u64) {
        if let Some(slot) = self.current(id) {
            slot.end = end;
        }
    }

    /// Frees the slot of an answered request.
    pub(super) fn answer(&mut self, id: CallId) -> Answered {
        let Some(slot) = self.current(id) else { return Answered::Unknown };
        let state = std::mem::replace(&mut slot.state, State::Free);
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot());
        match state {
            State::Waiting { deadline, .. } => {
                self.forget_deadline(deadline, id);
                Answered::Waiting
            }
            State::Abandoned | State::Free => Answered::Late,
        }
    }

    /// Nobody waits any more. Returns where the request ends in the data lane; `None` if nobody waited before.
    pub(super) fn abandon(&mut self, id: CallId) -> Option<u64> {
        let slot = self.current(id)?;
        let State::Waiting { deadline, .. } = slot.state else { return None };
        slot.state = State::Abandoned;
        let end = slot.end;
        self.forget_deadline(deadline, id);
        Some(end)
    }

    /// The next request whose deadline has come.
    pub(super) fn next_expired(&self, now: Instant) -> Option<CallId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Empties the table and returns those that somebody waited for, oldest first.
    pub(super) fn fail_all(&mut self) -> Vec<CallId> {
        let mut waiting: Vec<(u64, CallId)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match slot.state {
                State::Waiting { order, .. } => Some((order, CallId::new(index, slot.generation))),
                State::Free | State::Abandoned => None,
            })
            .collect();
        waiting.sort_unstable();
        *self = Self { begun: self.begun, ..Self::default() };
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    fn current(&mut self, id: CallId) -> Option<&mut Slot> {
        let generation = u32::try_from(id.0 >> 32).ok()?;
        self.slots
            .get_mut(id.slot())
            .filter(|slot| slot.generation == generation && slot.state != State::Free)
    }

    fn forget_deadline(&mut self, deadline: Option<Instant>, id: CallId) {
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }
}

/// The peer's requests that this side has not answered yet, and whether the peer still waits for each.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: HashMap<u64, Wanted>,
}

/// Whether the peer still waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// `false` if there is one of this id already.
    pub(super) fn begin(&mut self, id: RequestId) -> bool {
        self.open.insert(id.0, Wanted::Yes).is_none()
    }

    /// The peer has given up on it. `true` if it is open and this is news.
    pub(super) fn cancel(&mut self, id: RequestId) -> bool {
        match self.open.get_mut(&id.0) {
            Some(wanted) => std::mem::replace(wanted, Wanted::No) == Wanted::Yes,
            None => false,
        }
    }

    pub(super) fn wanted(&self, id: RequestId) -> Option<Wanted> {
        self.open.get(&id.0).copied()
    }

    pub(super) fn answer(&mut self, id: RequestId) -> Option<Wanted> {
        self.open.remove(&id.0)
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
