//! Random: anyone.

use fastrand::Rng;

use crate::strategy::{Candidates, Strategy};

/// Draws before eligible candidates are counted: with half of them eligible, one in 256 picks counts.
const DRAWS: usize = 8;

/// Draws an eligible candidate, each as likely as any other.
#[inline(always)]
pub(super) fn draw(rng: &mut Rng, among: &Candidates<'_>) -> Option<usize> {
    let len = among.len();
    if len == 0 {
        return None;
    }
    for _ in 0..DRAWS {
        let index = rng.usize(..len);
        if among.is_eligible(index) {
            return Some(index);
        }
    }
    let eligible = among.eligible_from(0).count();
    if eligible == 0 {
        return None;
    }
    among.eligible_from(0).nth(rng.usize(..eligible)).map(|(index, _)| index)
}

/// Picks any eligible member, each as likely as any other, whatever its load and weight.
///
/// For comparison, and where nothing is known of anybody. Its longest queues are 3 to 9 times as long as least-loaded's.
///
/// O(1), without allocation.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Random, Strategy};
///
/// let among = [Candidate::new(0, 1), Candidate::new(0, 1)];
/// let (mut one, mut other) = (Random::seeded(7), Random::seeded(7));
/// for _ in 0..100 {
///     assert_eq!(one.pick(&Candidates::new(&among)), other.pick(&Candidates::new(&among)), "a seed repeats");
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Random {
    rng: Rng,
}

impl Random {
    /// With a seed of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this seed: the same members and the same seed give the same picks.
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }
}

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    #[inline(always)]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        draw(&mut self.rng, among)
    }
}
