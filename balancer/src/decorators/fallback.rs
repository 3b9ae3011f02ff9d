//! Fallback: one strategy, and another for when it has no answer.

use crate::strategy::{Candidates, Ended, Strategy};

/// Asks the first strategy, and the second if the first has no answer or one that can't be used.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Fallback, LeastLoaded, Strategy, from_fn};
///
/// // The first member as long as it is idle.
/// let first = from_fn("first", |among: &Candidates<'_>| {
///     among.get(0).filter(|candidate| candidate.outstanding() == 0).map(|_| 0)
/// });
/// let mut strategy = Fallback::new(first, LeastLoaded::new());
/// assert_eq!(strategy.pick(&Candidates::new(&[Candidate::new(0, 1), Candidate::new(0, 1)])), Some(0));
/// assert_eq!(strategy.pick(&Candidates::new(&[Candidate::new(3, 1), Candidate::new(0, 1)])), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct Fallback<A, B> {
    first: A,
    second: B,
}

impl<A: Strategy, B: Strategy> Fallback<A, B> {
    /// `first`, and `second` behind it.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: Strategy, B: Strategy> Strategy for Fallback<A, B> {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        self.first.pick(among).filter(|index| among.is_possible(*index)).or_else(|| self.second.pick(among))
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.first.observe(index, ended);
        self.second.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.first.ranks_by_load() || self.second.ranks_by_load()
    }

    fn insists(&self) -> bool {
        self.first.insists() || self.second.insists()
    }

    fn looks_beyond_health(&self) -> bool {
        self.first.looks_beyond_health() || self.second.looks_beyond_health()
    }
}
