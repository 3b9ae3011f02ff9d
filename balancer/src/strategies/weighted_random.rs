//! Weighted random: anyone, in proportion.

use fastrand::Rng;

use super::random::draw;
use crate::strategy::{Candidates, Strategy};

/// Draws that may hit somebody who is not eligible before the others are looked through.
const DRAWS: usize = 8;

/// Picks any eligible member, each as likely as its weight.
///
/// Vose's alias method ("A linear algorithm for generating random numbers with a given distribution", IEEE TSE, 1991): O(1)
/// per pick, without allocation; the table is made anew when members or weights change.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Strategy, WeightedRandom};
///
/// let among = [Candidate::new(0, 1), Candidate::new(0, 9)];
/// let mut strategy = WeightedRandom::seeded(1);
/// let heavy = (0..1000).filter(|_| strategy.pick(&Candidates::new(&among)) == Some(1)).count();
/// assert!((850..950).contains(&heavy));
/// ```
#[derive(Clone, Debug, Default)]
pub struct WeightedRandom {
    rng: Rng,
    /// Of which members and weights this is the table: their version, or themselves where nobody counts.
    version: u64,
    weights: Vec<u32>,
    /// For each place the share, of 2^32, that it keeps, and who gets the rest.
    table: Vec<(u64, usize)>,
}

impl WeightedRandom {
    /// With a seed of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), ..Self::default() }
    }

    fn is_current(&self, among: &Candidates<'_>) -> bool {
        match among.version() {
            Some(version) => version == self.version,
            None => among.iter().map(|candidate| weight(&candidate)).eq(self.weights.iter().copied()),
        }
    }

    fn renew(&mut self, among: &Candidates<'_>) {
        self.version = among.version().unwrap_or(0);
        self.weights = among.iter().map(|candidate| weight(&candidate)).collect();
        let (count, sum) =
            (self.weights.len() as u128, self.weights.iter().map(|w| u128::from(*w)).sum::<u128>());
        const WHOLE: u128 = 1 << 32;
        // Each place holds one part of the whole: what is too little is filled up by one that has too much.
        let mut shares: Vec<u128> =
            self.weights.iter().map(|weight| u128::from(*weight) * count * WHOLE).collect();
        let full = sum * WHOLE;
        self.table = (0..shares.len()).map(|index| (WHOLE as u64, index)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|index| shares.get(*index).is_some_and(|share| *share < full));
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            let share = shares.get(less).copied().unwrap_or(full);
            let kept = share.checked_div(sum).unwrap_or(WHOLE);
            if let Some(entry) = self.table.get_mut(less) {
                *entry = (kept as u64, more);
            }
            if let Some(rest) = shares.get_mut(more) {
                *rest -= full - share;
                if *rest < full { small.push(more) } else { large.push(more) }
            }
        }
    }
}

/// A vacant place has none.
fn weight(candidate: &crate::Candidate) -> u32 {
    if candidate.is_present() { candidate.weight() } else { 0 }
}

impl Strategy for WeightedRandom {
    fn name(&self) -> &'static str {
        "weighted-random"
    }

    #[inline]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        if !self.is_current(among) {
            self.renew(among);
        }
        for _ in 0..DRAWS {
            if self.table.is_empty() {
                return None;
            }
            let place = self.rng.usize(..self.table.len());
            let (kept, other) = *self.table.get(place)?;
            let picked = if u64::from(self.rng.u32(..)) < kept { place } else { other };
            if among.is_eligible(picked) {
                return Some(picked);
            }
        }
        // Few are eligible: their weights as they are.
        let sum: u64 = among.eligible_from(0).map(|(_, candidate)| u64::from(candidate.weight())).sum();
        if sum == 0 {
            return draw(&mut self.rng, among);
        }
        let mut rest = self.rng.u64(..sum);
        for (index, candidate) in among.eligible_from(0) {
            match rest.checked_sub(u64::from(candidate.weight())) {
                Some(less) => rest = less,
                None => return Some(index),
            }
        }
        None
    }
}
