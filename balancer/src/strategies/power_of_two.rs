//! Power of two choices: the better of two.

use fastrand::Rng;

use super::random::draw;
use crate::strategy::{Candidates, Strategy};

/// Draws two different members and picks the less loaded.
///
/// Mitzenmacher, "The power of two choices in randomized load balancing" (IEEE TPDS, 2001). For many dispatchers that
/// each see only their own share of the load: with exact counts [`LeastLoaded`](crate::LeastLoaded) is better.
///
/// O(1), without allocation.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, PowerOfTwoChoices, Strategy};
///
/// let among = [Candidate::new(9, 1), Candidate::new(1, 1)];
/// assert_eq!(PowerOfTwoChoices::new().pick(&Candidates::new(&among)), Some(1), "of two it sees both");
/// ```
#[derive(Clone, Debug, Default)]
pub struct PowerOfTwoChoices {
    rng: Rng,
}

impl PowerOfTwoChoices {
    /// With a seed of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }
}

/// Two eligible candidates, different if there are two.
#[inline(always)]
pub(super) fn draw_two(rng: &mut Rng, among: &Candidates<'_>) -> Option<(usize, usize)> {
    let first = draw(rng, among)?;
    // Seldom the same twice; with one eligible, always.
    for _ in 0..4 {
        let second = draw(rng, among)?;
        if second != first {
            return Some((first, second));
        }
    }
    let other = among.eligible_from(first + 1).next().map_or(first, |(index, _)| index);
    Some((first, other))
}

impl Strategy for PowerOfTwoChoices {
    fn name(&self) -> &'static str {
        "power-of-two"
    }

    #[inline(always)]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let (first, second) = draw_two(&mut self.rng, among)?;
        let less = among.at(second)?.compare_load(among.at(first)?).is_lt();
        Some(if less { second } else { first })
    }
}
