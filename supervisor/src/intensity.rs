//! How many restarts a slot has used lately.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Budget;

/// The restarts of one slot in the sliding period of its [`Budget`].
///
/// The period is measured on a clock that runs only while a worker of the slot is ready: see [`Budget`] for why.
/// Holds at most as many restarts as the budget allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intensity {
    /// How long workers of this slot were ready, all together.
    served: Duration,
    /// What `served` was at each restart.
    restarts: VecDeque<Duration>,
}

impl Intensity {
    /// A worker of this slot that did not fail has been ready for so long.
    pub(crate) fn serve(&mut self, ready_for: Duration) {
        self.served = self.served.saturating_add(ready_for);
    }

    /// Takes one restart from the budget, for a worker that has been ready for so long.
    ///
    /// When none is left it takes nothing and returns how many were used in the period, as the error.
    pub(crate) fn spend(&mut self, budget: Budget, ready_for: Duration) -> Result<(), u32> {
        self.serve(ready_for);
        let Some(limit) = budget.limit() else { return Ok(()) };
        let is_over = |restart: &Duration| self.served.saturating_sub(*restart) >= budget.period();
        while self.restarts.front().is_some_and(is_over) {
            self.restarts.pop_front();
        }
        let used = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if used >= limit {
            return Err(used);
        }
        self.restarts.push_back(self.served);
        Ok(())
    }

    /// Starts afresh, as for a slot that the user starts anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_restart_leaves_the_budget_when_the_slot_has_served_for_the_period() {
        let (mut intensity, budget) = (Intensity::default(), Budget::new(2, 10 * SECOND));
        assert_eq!(intensity.spend(budget, SECOND), Ok(()));
        assert_eq!(intensity.spend(budget, SECOND), Ok(()));
        assert_eq!(intensity.spend(budget, 8 * SECOND), Err(2), "the first is 9 s old");
        assert_eq!(intensity.spend(budget, SECOND), Ok(()), "now it is 10 s old");
        assert_eq!(intensity.spend(budget, Duration::ZERO), Err(2));
    }

    #[test]
    fn a_worker_that_is_never_ready_uses_the_budget_up() {
        let (mut intensity, budget) = (Intensity::default(), Budget::new(3, SECOND));
        for _ in 0..3 {
            assert_eq!(intensity.spend(budget, Duration::ZERO), Ok(()));
        }
        assert_eq!(intensity.spend(budget, Duration::ZERO), Err(3));
        intensity.clear();
        assert_eq!(intensity.spend(budget, Duration::ZERO), Ok(()));
    }

    #[test]
    fn an_unlimited_budget_records_nothing() {
        let mut intensity = Intensity::default();
        for _ in 0..1000 {
            assert_eq!(intensity.spend(Budget::unlimited(), SECOND), Ok(()));
        }
        assert!(intensity.restarts.is_empty(), "memory must not grow with the number of restarts");
    }
}
