//! Panic threshold: with too few healthy members, health is ignored.

use crate::strategy::{Candidate, Candidates, Ended, Strategy};

/// When less than a part of the members is healthy, shows the strategy inside the unhealthy ones too.
///
/// Envoy's: if most look unhealthy the fault is more likely in the looking, or in the load; what is left would be overrun.
/// Those that have no room, are withdrawn or gone, are never shown.
///
/// O(n), without allocation once it has seen as many members.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, PanicThreshold, RoundRobin, Strategy};
///
/// let sick = Candidate::new(0, 1).unhealthy();
/// let mut strategy = PanicThreshold::new(RoundRobin::new());
/// let mostly_well = [Candidate::new(0, 1), Candidate::new(0, 1), sick];
/// assert!((0..9).all(|_| strategy.pick(&Candidates::new(&mostly_well)) != Some(2)));
/// let mostly_sick = [Candidate::new(0, 1), sick, sick];
/// assert!((0..9).any(|_| strategy.pick(&Candidates::new(&mostly_sick)) == Some(2)));
/// ```
#[derive(Clone, Debug)]
pub struct PanicThreshold<S> {
    inner: S,
    part: f64,
    seen: Vec<Candidate>,
}

impl<S: Strategy> PanicThreshold<S> {
    /// At half of the members.
    pub fn new(inner: S) -> Self {
        Self { inner, part: 0.5, seen: Vec::new() }
    }

    /// The same at this part of them: 0 never panics.
    #[must_use]
    pub fn part(self, part: f64) -> Self {
        Self { part: part.clamp(0.0, 1.0), ..self }
    }
}

impl<S: Strategy> Strategy for PanicThreshold<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let (mut present, mut healthy) = (0u32, 0u32);
        for candidate in
            among.iter().filter(|candidate| candidate.is_admitted() && candidate.takes(among.class()))
        {
            present += 1;
            healthy += u32::from(candidate.is_healthy());
        }
        if f64::from(healthy) >= self.part * f64::from(present) || healthy == present {
            return self.inner.pick(among);
        }
        self.seen.clear();
        self.seen.extend(among.iter().map(Candidate::healthy));
        self.inner.pick(&among.seen_as(&self.seen))
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }

    fn insists(&self) -> bool {
        self.inner.insists()
    }

    fn looks_beyond_health(&self) -> bool {
        true
    }
}
