//! Any closure.

use std::fmt;

use crate::strategy::{Candidates, Strategy};

/// A strategy made of a closure, by [`from_fn`].
pub struct FromFn<F> {
    name: &'static str,
    pick: F,
}

/// Makes a strategy of a name and a closure.
///
/// ```
/// use cluster_balancer::{Candidate, Candidates, Strategy, strategy};
///
/// let mut heaviest = strategy::from_fn("heaviest", |among: &Candidates<'_>| {
///     among.eligible_from(0).max_by_key(|(_, candidate)| candidate.weight()).map(|(index, _)| index)
/// });
/// let among = [Candidate::new(0, 1), Candidate::new(5, 3)];
/// assert_eq!(heaviest.pick(&Candidates::new(&among)), Some(1));
/// ```
pub fn from_fn<F>(name: &'static str, pick: F) -> FromFn<F>
where
    F: FnMut(&Candidates<'_>) -> Option<usize> + Send,
{
    FromFn { name, pick }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F> Strategy for FromFn<F>
where
    F: FnMut(&Candidates<'_>) -> Option<usize> + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        (self.pick)(among)
    }
}
