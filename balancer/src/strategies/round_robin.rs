//! Round-robin: everyone in turn.

use super::cursor::Cursor;
use crate::strategy::{Candidates, Strategy};

/// Picks the next eligible member after the last pick, whatever its load and weight.
///
/// For those who need its regularity. Where members differ in speed it is unstable: at 70 % total load,
/// one slow member of four grows a queue without bound. [`LeastLoaded`](crate::LeastLoaded) is the same
/// thing as long as all are equal.
///
/// O(1) per pick unless members must be skipped, without allocation.
///
/// ```
/// use cluster_balancer::{Candidate, Candidates, RoundRobin, Strategy};
///
/// let mut strategy = RoundRobin::new();
/// let among = [Candidate::new(7, 1), Candidate::new(0, 1).ineligible(), Candidate::new(0, 1)];
/// let picks: Vec<_> = (0..3).map(|_| strategy.pick(&Candidates::new(&among))).collect();
/// assert_eq!(picks, [Some(0), Some(2), Some(0)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    cursor: Cursor,
}

impl RoundRobin {
    /// Starts with the first member.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    #[inline(always)]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let start = self.cursor.start(among);
        let start = if start < among.len() { start } else { 0 };
        // Mostly the next may be picked.
        let index = if among.is_eligible(start) { start } else { among.eligible_from(start).next()?.0 };
        self.cursor.pass(among, index);
        Some(index)
    }

    fn insists(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Candidate;

    #[test]
    fn nobody_eligible_means_no_pick_and_no_lost_turn() {
        let mut strategy = RoundRobin::new();
        let ready = [Candidate::new(0, 1), Candidate::new(0, 1)];
        assert_eq!(strategy.pick(&Candidates::new(&ready)), Some(0));
        assert_eq!(strategy.pick(&Candidates::new(&ready.map(Candidate::ineligible))), None);
        assert_eq!(strategy.pick(&Candidates::new(&ready)), Some(1));
    }
}
