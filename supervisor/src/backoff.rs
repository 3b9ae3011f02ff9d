//! How long to wait before the next try.

use std::time::Duration;

/// The wait before a restart: none at first, then doubling up to a cap, spread by jitter.
///
/// The first failure after a stable run is restarted at once, since most crashes are not repeated and every
/// moment without the worker costs capacity.
/// The n-th failure in a row waits base × 2ⁿ⁻², at most the cap.
/// Jitter spreads workers that die together, so that they do not come back together; it applies after the cap.
///
/// Failed spawns use the same steps but wait the base already the first time: an immediate second try would meet
/// the same shortage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    jitter_percent: u8,
}

impl Backoff {
    /// Base 1 s, cap 30 s, jitter ± 20 %.
    pub const fn new() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(30), jitter_percent: 20 }
    }

    /// The wait after the second failure in a row.
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest wait, before jitter.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How far a wait may be off to either side, in percent of it; more than 100 counts as 100.
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = if percent > 100 { 100 } else { percent };
        self
    }

    /// The wait after the `failures`-th failure in a row, counted from 1.
    pub(crate) fn after_failure(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        match failures.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => self.wait(doublings, rng),
        }
    }

    /// The wait after the `failures`-th failed spawn in a row, counted from 1.
    pub(crate) fn after_spawn_failure(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        self.wait(failures.saturating_sub(1), rng)
    }

    fn wait(&self, doublings: u32, rng: &mut fastrand::Rng) -> Duration {
        let factor = 1_u32.checked_shl(doublings);
        let wait = factor.and_then(|factor| self.base.checked_mul(factor)).unwrap_or(self.cap).min(self.cap);
        if self.jitter_percent == 0 {
            return wait;
        }
        let spread = f64::from(self.jitter_percent) / 100.0;
        let seconds = wait.as_secs_f64() * (1.0 + spread * (2.0 * rng.f64() - 1.0));
        // Only a cap of thousands of years could fail to convert, and that one needs no jitter.
        Duration::try_from_secs_f64(seconds).unwrap_or(wait)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: Backoff, count: u32) -> Vec<u64> {
        let mut rng = fastrand::Rng::with_seed(1);
        (1..=count).map(|n| backoff.after_failure(n, &mut rng).as_secs()).collect()
    }

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double_up_to_the_cap() {
        assert_eq!(waits(Backoff::new().jitter_percent(0), 9), [0, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_spawn_failure_waits_the_base_already_the_first_time() {
        let (backoff, mut rng) = (Backoff::new().jitter_percent(0), fastrand::Rng::with_seed(1));
        let waits: Vec<_> = (1..=3).map(|n| backoff.after_spawn_failure(n, &mut rng).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4]);
    }

    #[test]
    fn jitter_stays_within_its_share_and_uses_both_sides() {
        let mut rng = fastrand::Rng::with_seed(5);
        let waits: Vec<_> =
            (0..500).map(|_| Backoff::new().after_failure(3, &mut rng).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (1.6..=2.4).contains(wait)), "2 s ± 20 %");
        assert!(waits.iter().any(|&wait| wait < 1.7) && waits.iter().any(|&wait| wait > 2.3));
    }

    #[test]
    fn extreme_settings_and_counts_never_overflow() {
        let mut rng = fastrand::Rng::with_seed(3);
        let endless = Backoff::new().base(Duration::MAX).cap(Duration::MAX).jitter_percent(255);
        for failures in [0, 1, 2, 33, 34, 35, u32::MAX] {
            let _ = endless.after_failure(failures, &mut rng);
            assert!(Backoff::new().after_failure(failures, &mut rng) <= Duration::from_secs(36));
        }
    }

    #[test]
    fn equal_seeds_give_equal_waits() {
        let draw = |seed| Backoff::new().after_failure(6, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(draw(9), draw(9));
        assert_ne!(draw(9), draw(10));
    }
}
