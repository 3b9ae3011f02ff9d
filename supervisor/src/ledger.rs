//! What is counted over all lives of all workers: it never goes back, whoever dies.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Add;
use std::sync::Arc;

use crate::WorkerId;

/// What has been counted over the life of a cluster, or of one of its slots. Nothing of it ever goes back.
///
/// With feature `serde` it can be serialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Totals {
    /// Workers that were started.
    pub created: u64,
    /// Workers that have ended, for whatever reason.
    pub died: u64,
    /// Restarts that followed an end that nobody had asked for, those included that wait for their time.
    pub restarted: u64,
    /// Workers that were replaced while they lived: by a roll, one by one, or because a verdict on their health said so.
    pub replaced: u64,
    /// Connections that applications have taken.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with a server error.
    pub errors: u64,
    /// How often a worker's memory, CPU time and descriptors were measured, and held against its limits.
    pub health_checks: u64,
}

impl Totals {
    /// The mean of [`requests`](Self::requests) over all workers that there were; 0 without any.
    pub fn requests_per_worker(&self) -> f64 {
        if self.created == 0 { 0.0 } else { self.requests as f64 / self.created as f64 }
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            created: self.created.saturating_add(other.created),
            died: self.died.saturating_add(other.died),
            restarted: self.restarted.saturating_add(other.restarted),
            replaced: self.replaced.saturating_add(other.replaced),
            connections: self.connections.saturating_add(other.connections),
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            health_checks: self.health_checks.saturating_add(other.health_checks),
        }
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// What one worker has counted in its life, as it shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// Connections that its application has taken.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with a server error.
    pub errors: u64,
    /// The application's own, by number.
    pub counters: Vec<u64>,
}

impl Counted {
    /// So much, and nothing of the application's own.
    pub const fn new(connections: u64, requests: u64, errors: u64) -> Self {
        Self { connections, requests, errors, counters: Vec::new() }
    }

    /// The application's own, by number.
    #[must_use]
    pub fn counters(self, counters: impl Into<Vec<u64>>) -> Self {
        Self { counters: counters.into(), ..self }
    }

    /// What it takes back is not believed.
    fn raise(&mut self, seen: &Self) {
        self.connections = self.connections.max(seen.connections);
        self.requests = self.requests.max(seen.requests);
        self.errors = self.errors.max(seen.errors);
        self.counters.resize(self.counters.len().max(seen.counters.len()), 0);
        for (counter, seen) in self.counters.iter_mut().zip(&seen.counters) {
            *counter = *seen.max(counter);
        }
    }

    fn totals(&self) -> Totals {
        let (connections, requests, errors) = (self.connections, self.requests, self.errors);
        Totals { connections, requests, errors, ..Totals::default() }
    }
}

/// The account of a worker that lives.
#[derive(Debug, Default)]
struct Life {
    counted: Counted,
    /// What it calls its counters.
    names: BTreeMap<u8, Arc<str>>,
}

impl Life {
    fn named(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let value = |number: u8| self.counted.counters.get(usize::from(number)).copied().unwrap_or(0);
        self.names.iter().map(move |(number, name)| (name, value(*number)))
    }
}

/// The accounts of all workers.
///
/// Each worker counts from 0. The ledger remembers the most that each living one has shown; when it ends, that is added to its slot's
/// account. So a total is the sum over all lives, in whatever order they end, and whatever a worker shows later.
///
/// ```
/// use cluster_supervisor::{Counted, Ledger, WorkerId};
///
/// let (first, second) = (WorkerId::new(0, 1), WorkerId::new(0, 2));
/// let mut ledger = Ledger::new();
/// ledger.begin(first);
/// ledger.observe(first, &Counted::new(1, 10, 0));
/// ledger.end(first, &Counted::new(1, 12, 1));
/// ledger.begin(second);
/// ledger.observe(second, &Counted::new(1, 3, 0));
/// assert_eq!(ledger.totals().requests, 15);
/// assert_eq!((ledger.totals().created, ledger.totals().died), (2, 1));
/// ```
#[derive(Debug, Default)]
pub struct Ledger {
    living: BTreeMap<WorkerId, Life>,
    /// What those have counted that have ended, and what befell a slot.
    slots: BTreeMap<u32, Totals>,
    /// The same of the application's counters. It has all names that are known.
    counters: BTreeMap<Arc<str>, u64>,
}

impl Ledger {
    /// How many names of counters are kept. Others have no effect.
    pub const NAMES: usize = 256;

    /// Nobody was started.
    pub fn new() -> Self {
        Self::default()
    }

    /// A worker was started.
    pub fn begin(&mut self, id: WorkerId) {
        if self.living.insert(id, Life::default()).is_none() {
            self.slot(id.slot()).created += 1;
        }
    }

    /// A worker that lives shows so much. Of one that has ended, or never was, nothing is believed.
    pub fn observe(&mut self, id: WorkerId, seen: &Counted) {
        if let Some(life) = self.living.get_mut(&id) {
            life.counted.raise(seen);
        }
    }

    /// A worker has ended, and it shows so much in the end.
    pub fn end(&mut self, id: WorkerId, seen: &Counted) {
        self.observe(id, seen);
        let Some(life) = self.living.remove(&id) else { return };
        for (name, value) in life.named() {
            let sum = self.counters.entry(Arc::clone(name)).or_default();
            *sum = sum.saturating_add(value);
        }
        let slot = self.slot(id.slot());
        *slot = *slot + life.counted.totals();
        slot.died += 1;
    }

    /// A worker calls one of its counters by this name, from now on and for what it has counted so far. It can't be called by another, and
    /// when the cluster knows too many names it has none.
    pub fn name(&mut self, id: WorkerId, number: u8, name: &str) {
        let Some(life) = self.living.get_mut(&id) else { return };
        if life.names.contains_key(&number) {
            return;
        }
        let known = self.counters.get_key_value(name).map(|(known, _)| Arc::clone(known));
        let has_room = self.counters.len() < Self::NAMES;
        if let Some(name) = known.or_else(|| has_room.then(|| Arc::from(name))) {
            self.counters.entry(Arc::clone(&name)).or_default();
            life.names.insert(number, name);
        }
    }

    /// A worker of this slot was measured.
    pub fn count_check(&mut self, slot: u32) {
        self.slot(slot).health_checks += 1;
    }

    /// A worker of this slot was replaced while it lived.
    pub fn count_replaced(&mut self, slot: u32) {
        self.slot(slot).replaced += 1;
    }

    /// This slot was restarted so often in all.
    pub fn observe_restarts(&mut self, slot: u32, restarts: u32) {
        let slot = self.slot(slot);
        slot.restarted = slot.restarted.max(u64::from(restarts));
    }

    /// What was counted in the whole cluster.
    pub fn totals(&self) -> Totals {
        self.slots().map(|(_, totals)| totals).sum()
    }

    /// What was counted in each slot that there ever was, in order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Totals)> {
        self.slots.iter().map(|(slot, ended)| {
            let lives = self.living.range(WorkerId::new(*slot, 0)..=WorkerId::new(*slot, u32::MAX));
            let living: Totals = lives.map(|(_, life)| life.counted.totals()).sum();
            (*slot, *ended + living)
        })
    }

    /// What the application's counters have come to, by name.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut sums: BTreeMap<String, u64> =
            self.counters.iter().map(|(name, ended)| (name.to_string(), *ended)).collect();
        for (name, value) in self.living.values().flat_map(Life::named) {
            // It has all names.
            if let Some(sum) = sums.get_mut(&**name) {
                *sum = sum.saturating_add(value);
            }
        }
        sums
    }

    fn slot(&mut self, slot: u32) -> &mut Totals {
        self.slots.entry(slot).or_default()
    }
}
