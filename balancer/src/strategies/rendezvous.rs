//! Rendezvous hashing: each key to the member that wins it.

use super::cursor::Cursor;
use crate::hash::mix;
use crate::strategy::{Candidates, Strategy};

/// Picks for each key the member with the highest hash of both, weights considered: a key moves only if its member leaves or
/// a newcomer wins it.
///
/// Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (IEEE/ACM ToN, 1998); weights by -w / ln(h)
/// (Schindelhauer and Schomaker, 2005). Items without a key go to the least loaded.
///
/// O(n), without allocation or table: for up to some 64 members; for more, [`Maglev`](crate::strategy::Maglev).
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Rendezvous, Request, Strategy};
/// use cluster_balancer::hash_of;
///
/// let all = [Candidate::new(0, 1), Candidate::new(0, 1), Candidate::new(0, 1)];
/// let among = Candidates::new(&all).for_request(Request::new().key(hash_of("anna")));
/// let mut strategy = Rendezvous::new();
/// let home = strategy.pick(&among);
/// assert!((0..10).all(|_| strategy.pick(&among) == home));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rendezvous {
    cursor: Cursor,
}

impl Rendezvous {
    /// The same for everybody: there is nothing to choose.
    pub fn new() -> Self {
        Self::default()
    }
}

/// How much a member of this weight wants a key: larger wins.
pub(crate) fn score(key: u64, identity: u64, weight: u32) -> f64 {
    // 53 bits, so that every value is a number between 0 and 1, and neither.
    let hash = (mix(key ^ mix(identity)) >> 11) as f64 + 0.5;
    let unit = hash / (1u64 << 53) as f64;
    f64::from(weight) / -unit.ln()
}

impl Strategy for Rendezvous {
    fn name(&self) -> &'static str {
        "rendezvous"
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let Some(key) = among.key() else {
            return self.cursor.least_loaded(among);
        };
        let mut best: Option<(usize, f64)> = None;
        for (index, candidate) in among.eligible_from(0) {
            let score = score(key, among.figures(index).identity(), candidate.weight());
            if best.is_none_or(|(_, most)| score > most) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    }

    fn insists(&self) -> bool {
        true
    }
}
