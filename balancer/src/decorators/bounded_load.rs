//! Bounded load: nobody gets much more than the mean, however popular a key is.

use crate::strategy::{Candidate, Candidates, Ended, Strategy};

/// Keeps each member below `factor` × its share of the load, and passes a key whose member is full on to the next that the
/// strategy inside would choose.
///
/// Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads" (SODA 2018). The bound of a member is
/// ⌈factor × (outstanding of all + 1) × weight / weights of all⌉, over those that may be picked. At 1.25, the
/// default, nine of ten keys stay at home even when some are far more popular than others, if members have some 25
/// items each. With a few items each the bound is at one more than the mean, and every second key is somewhere else: for
/// caches, say [`at_least`](Self::at_least) how many items of one member hurt nobody.
///
/// O(n), without allocation once it has seen as many members.
///
/// ```
/// use cluster_balancer::strategy::{BoundedLoad, Candidate, Candidates, Rendezvous, Request, Strategy};
///
/// let mut strategy = BoundedLoad::new(Rendezvous::new());
/// let mut all = [Candidate::new(0, 1); 4];
/// for _ in 0..100 {
///     // One key, asked for a hundred times at once.
///     let picked = strategy.pick(&Candidates::new(&all).for_request(Request::new().key(7))).unwrap();
///     all[picked] = Candidate::new(all[picked].outstanding() + 1, 1);
/// }
/// assert!(all.iter().all(|candidate| candidate.outstanding() <= 32), "⌈1.25 × 100 / 4⌉");
/// ```
#[derive(Clone, Debug)]
pub struct BoundedLoad<S> {
    inner: S,
    factor: f64,
    at_least: f64,
    seen: Vec<Candidate>,
}

impl<S: Strategy> BoundedLoad<S> {
    /// With a factor of 1.25.
    pub fn new(inner: S) -> Self {
        Self { inner, factor: 1.25, at_least: 1.0, seen: Vec::new() }
    }

    /// The same with another factor; below 1 counts as 1.
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        Self { factor: factor.max(1.0), ..self }
    }

    /// The same with bounds of at least so many items, however few there are in all. Default: 1.
    #[must_use]
    pub fn at_least(self, items: u32) -> Self {
        Self { at_least: f64::from(items.max(1)), ..self }
    }
}

/// Whether one item more keeps a candidate within the bound, `load` being factor × (all outstanding + 1) / all weights.
fn fits(candidate: &Candidate, load: f64, at_least: f64) -> bool {
    let bound = (load * f64::from(candidate.weight())).ceil().max(at_least);
    f64::from(candidate.outstanding()) + 1.0 <= bound
}

impl<S: Strategy> Strategy for BoundedLoad<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let (mut outstanding, mut weights) = (1.0, 0.0);
        for (_, candidate) in among.eligible_from(0) {
            outstanding += f64::from(candidate.outstanding());
            weights += f64::from(candidate.weight());
        }
        if weights == 0.0 {
            // Whether anybody may have it all the same is the other's to say.
            return self.inner.pick(among);
        }
        let (load, at_least) = (self.factor * outstanding / weights, self.at_least);
        let home = self.inner.pick(among)?;
        if among.get(home).is_none_or(|candidate| fits(&candidate, load, at_least)) {
            return Some(home);
        }
        self.seen.clear();
        self.seen.extend(among.iter().map(|candidate| {
            if fits(&candidate, load, at_least) { candidate } else { candidate.ineligible() }
        }));
        // The bounds of all sum up to more than there is, so somebody is below.
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
        self.inner.looks_beyond_health()
    }
}
