//! Smooth weighted round-robin: everyone in proportion, evenly spread.

use crate::strategy::{Candidates, Strategy};

/// Over as many picks as the weights sum up to, picks each member exactly as often as its weight, and spreads them.
///
/// nginx's algorithm (Igor Sysoev, commit 52327e0, 2012): at each pick every current value grows by the member's weight; the
/// largest is picked and loses the sum. Within a cycle, each is about a pick off its share at most (the worst that a search
/// among up to nine members found: 1.24).
///
/// Like round-robin it is blind to load: with members that are slower than their weight says it is unstable.
///
/// O(n), without allocation but for a newcomer.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, SmoothWeighted, Strategy};
///
/// let among = [Candidate::new(0, 5), Candidate::new(0, 1), Candidate::new(0, 1)];
/// let mut strategy = SmoothWeighted::new();
/// let picks: Vec<_> = (0..7).filter_map(|_| strategy.pick(&Candidates::new(&among))).collect();
/// assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SmoothWeighted {
    /// By place.
    current: Vec<Current>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Current {
    /// Whose this is.
    identity: u64,
    weight: i64,
    /// By how much it is behind.
    behind: i64,
}

impl SmoothWeighted {
    /// Starts with the heaviest.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for SmoothWeighted {
    fn name(&self) -> &'static str {
        "smooth-weighted"
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        self.current.resize(among.len(), Current::default());
        let (mut sum, mut best) = (0, None);
        for (index, candidate) in among.eligible_from(0) {
            let identity = among.figures(index).identity();
            let Some(current) = self.current.get_mut(index) else { continue };
            let weight = i64::from(candidate.weight());
            if current.identity != identity {
                // Somebody else had this place.
                *current = Current { identity, weight, behind: 0 };
            } else if current.weight != weight {
                // What it is owed grows and shrinks with its weight.
                let scaled =
                    i128::from(current.behind) * i128::from(weight) / i128::from(current.weight.max(1));
                current.behind = i64::try_from(scaled).unwrap_or(0);
                current.weight = weight;
            }
            current.behind += weight;
            sum += weight;
            if best.is_none_or(|(_, most)| current.behind > most) {
                best = Some((index, current.behind));
            }
        }
        let (index, _) = best?;
        if let Some(current) = self.current.get_mut(index) {
            current.behind -= sum;
        }
        Some(index)
    }

    fn insists(&self) -> bool {
        true
    }
}
