//! Which probe of which member is due when. No I/O, no clock.
//!
//! | state \ input | time has come, a place is free | done         | remove, or insert anew |
//! |---------------|--------------------------------|--------------|------------------------|
//! | Waiting       | UnderWay  A                    | -            | gone                   |
//! | UnderWay      | -                              | Waiting    C | Orphaned               |
//! | Orphaned      | -                              | gone         | -                      |
//!
//! A it is to be asked, C its answer counts, - ignored. Insert anew leaves a new one Waiting beside the orphan. Those under way and
//! the orphans have a place each; while none is free, whose time has come waits, the oldest first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Timing;
use crate::Probe;

/// Decides which probe of which member is to be carried out when: one at a time of each, and only so many of all.
///
/// `K` names a member. After any `insert` or `handle_*`, and when [`poll_timeout`](Self::poll_timeout) says so, poll
/// [`poll_due`](Self::poll_due) until it returns `None`, carry out what it returned, and tell
/// [`handle_done`](Self::handle_done).
///
/// A [`Prober`](super::Prober) does all that in threads; this is for those who have I/O of their own.
///
/// ```
/// use std::time::Instant;
/// use cluster_health::Probe;
/// use cluster_health::os::{Schedule, Timing};
///
/// let mut schedule = Schedule::new(4, 7);
/// let now = Instant::now();
/// schedule.insert("anna", Probe::Liveness, Timing::new(), now);
///
/// let first = schedule.poll_timeout().expect("somebody is asked");
/// let due = schedule.poll_due(first).expect("her time has come");
/// assert_eq!((due.key, due.probe), ("anna", Probe::Liveness));
/// assert!(schedule.poll_due(first).is_none());
/// assert!(schedule.handle_done(due.ticket, first + due.timeout), "her answer counts");
/// ```
#[derive(Debug)]
pub struct Schedule<K> {
    most: usize,
    rng: Rng,
    asked: HashMap<(K, Probe), Asked>,
    /// By when they are due. The number tells two of one instant apart.
    waiting: BTreeMap<(Instant, u64), (K, Probe)>,
    /// Orphans are those that `asked` doesn't know under this ticket.
    under_way: HashMap<Ticket, Begun<K>>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    timing: Timing,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { place: (Instant, u64) },
    UnderWay { ticket: Ticket },
}

#[derive(Clone, Copy, Debug)]
struct Begun<K> {
    key: K,
    probe: Probe,
    at: Instant,
}

/// Names one asking, and no other one ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A probe that is to be carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Due<K> {
    /// What to name when it is done.
    pub ticket: Ticket,
    /// Who is asked.
    pub key: K,
    /// What about.
    pub probe: Probe,
    /// How long it may take.
    pub timeout: Duration,
}

impl<K: Copy + Eq + Hash> Schedule<K> {
    /// Asks nobody yet, and at most so many at a time (at least 1). Equal seeds and inputs give equal times.
    pub fn new(most: usize, seed: u64) -> Self {
        Self {
            most: most.max(1),
            rng: Rng::with_seed(seed),
            asked: HashMap::new(),
            waiting: BTreeMap::new(),
            under_way: HashMap::new(),
            next: 0,
        }
    }

    // Verbs: what the user wants.

    /// Asks this of a member from now on. What was asked of it by this kind of probe before is [removed](Self::remove_probe).
    pub fn insert(&mut self, key: K, probe: Probe, timing: Timing, now: Instant) {
        self.remove_probe(key, probe);
        let after = timing.first(self.rng.f64());
        self.wait(key, probe, timing, later(now, after));
    }

    /// Asks nothing of a member any more. What is under way keeps its place until it is done, and its answer counts no more.
    /// Idempotent.
    pub fn remove(&mut self, key: K) {
        for probe in Probe::ALL {
            self.remove_probe(key, probe);
        }
    }

    /// Asks only this no more.
    pub fn remove_probe(&mut self, key: K, probe: Probe) {
        if let Some(Asked { state: State::Waiting { place }, .. }) = self.asked.remove(&(key, probe)) {
            self.waiting.remove(&place);
        }
    }

    // Inputs: what happened.

    /// It has been carried out, and how it ended is known. Returns whether the answer counts: not if it was removed meanwhile, or is
    /// not known to be under way.
    pub fn handle_done(&mut self, ticket: Ticket, now: Instant) -> bool {
        let is_current = self.is_current(ticket);
        let Some(Begun { key, probe, at }) = self.under_way.remove(&ticket) else { return false };
        let Some(Asked { timing, .. }) = self.asked.get(&(key, probe)).copied().filter(|_| is_current) else {
            return false;
        };
        let period = timing.next(self.rng.f64());
        self.wait(key, probe, timing, later(at, period).max(now));
        true
    }

    // Outputs: what to do next.

    /// What is to be carried out now, if anything: its time has come, and a place is free.
    pub fn poll_due(&mut self, now: Instant) -> Option<Due<K>> {
        if self.is_full() {
            return None;
        }
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let (key, probe) = first.remove();
        let ticket = Ticket(self.number());
        // Whoever waits is asked: both change together, everywhere.
        let asked = self.asked.get_mut(&(key, probe))?;
        asked.state = State::UnderWay { ticket };
        let timeout = asked.timing.times_out_after();
        self.under_way.insert(ticket, Begun { key, probe, at: now });
        Some(Due { ticket, key, probe, timeout })
    }

    /// When to call [`poll_due`](Self::poll_due) again. `None` if nobody waits, or no place is free before the next
    /// [`handle_done`](Self::handle_done). Later than `now` once `poll_due(now)` has returned `None`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (first, _) = self.waiting.first_key_value()?;
        (!self.is_full()).then_some(first.0)
    }

    // Getters.

    /// Whether it is under way, and its answer will count.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        let Some(begun) = self.under_way.get(&ticket) else { return false };
        let asked = self.asked.get(&(begun.key, begun.probe));
        asked.is_some_and(
            |asked| matches!(asked.state, State::UnderWay { ticket: current } if current == ticket),
        )
    }

    /// How many are under way, with those that count no more.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn is_full(&self) -> bool {
        self.under_way.len() >= self.most
    }

    fn wait(&mut self, key: K, probe: Probe, timing: Timing, due: Instant) {
        let place = (due, self.number());
        self.waiting.insert(place, (key, probe));
        self.asked.insert((key, probe), Asked { timing, state: State::Waiting { place } });
    }

    /// Another one each time. 64 bits last for ages.
    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

/// Where there is no such instant, the latest that there is of those tried: a clock at its very end must not panic anyone.
fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).or_else(|| now.checked_add(Duration::from_secs(1))).unwrap_or(now)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
