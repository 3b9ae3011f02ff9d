//! What the model test compares with: members that count everything anew, and strategies that come in pairs.

use cluster_balancer::{Candidate, Candidates, LeastLoaded, RoundRobin, Strategy, Ticket};
use fastrand::Rng;

/// An item is its own place in the order of arrival.
pub(crate) type Item = u32;

/// Never used again for another member of the same run.
pub(crate) type Key = u16;

/// Answers anything, sensible or not. Two with one seed answer the same.
#[derive(Debug)]
struct Erratic(Rng);

impl Strategy for Erratic {
    fn name(&self) -> &'static str {
        "erratic"
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let index = self.0.usize(..among.len() + 3);
        (index < among.len() + 2).then_some(index)
    }
}

/// One of three strategies; the same seed makes the same one.
pub(crate) fn strategy(seed: u64) -> Box<dyn Strategy> {
    match seed % 3 {
        0 => Box::new(LeastLoaded::new()),
        1 => Box::new(RoundRobin::new()),
        _ => Box::new(Erratic(Rng::with_seed(seed))),
    }
}

/// A member that keeps lists and counts them.
pub(crate) struct Member {
    pub(crate) key: Key,
    pub(crate) window: u16,
    pub(crate) capacity: u32,
    pub(crate) weight: u32,
    pub(crate) admitted: bool,
    pub(crate) paused: bool,
    pub(crate) pending: Vec<Item>,
    pub(crate) flying: Vec<(Ticket, Item)>,
    pub(crate) taken: u64,
    /// What it reported, cut down to what can be true at the time.
    pub(crate) finished: u64,
}

impl Member {
    pub(crate) fn new(key: Key, window: u16, capacity: u32, weight: u32) -> Self {
        let (pending, flying) = (Vec::new(), Vec::new());
        let (admitted, paused, taken, finished) = (true, false, 0, 0);
        Self { key, window, capacity, weight, admitted, paused, pending, flying, taken, finished }
    }

    pub(crate) fn untaken(&self) -> usize {
        self.pending.len() + self.flying.len()
    }

    pub(crate) fn assigned(&self) -> u64 {
        self.taken + self.untaken() as u64
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.assigned().saturating_sub(self.finished).max(self.untaken() as u64)
    }

    pub(crate) fn room(&self) -> usize {
        let mut room = 0;
        let fits = |more: usize| {
            self.untaken() + more < usize::from(self.window)
                && self.outstanding() + (more as u64) < u64::from(self.capacity)
        };
        while self.admitted && !self.paused && fits(room) {
            room += 1;
        }
        room
    }

    pub(crate) fn candidate(&self) -> Candidate {
        let candidate = Candidate::new(self.outstanding() as u32, self.weight);
        if self.room() > 0 { candidate } else { candidate.ineligible() }
    }
}
