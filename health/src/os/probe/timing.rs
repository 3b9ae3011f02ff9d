//! How often something is asked, and how long an answer may take.

use std::time::Duration;

/// How often a probe is carried out, and how long its answer may take.
///
/// | | default | at least |
/// |---|---|---|
/// | period, from one beginning to the next | 10 s | 1 ms |
/// | [`timeout`](Self::timeout), of the whole probe | 1 s | 1 ms |
/// | [`jitter`](Self::jitter), of each period, up or down | 10 % | 0 |
///
/// The first one comes at random within the first period, so that members who began together are not asked together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Timing {
    period: Duration,
    timeout: Duration,
    jitter: f64,
}

const SHORTEST: Duration = Duration::from_millis(1);
/// What is longer counts as this long: an instant so far ahead can still be told.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A period must not come to nothing.
const MOST_JITTER: f64 = 0.9;

impl Timing {
    /// The defaults of the table.
    pub fn new() -> Self {
        Self { period: Duration::from_secs(10), timeout: Duration::from_secs(1), jitter: 0.1 }
    }

    /// From one beginning to the next. What takes longer than that is begun again as soon as it has ended. 1 ms to 366 days.
    pub fn period(self, period: Duration) -> Self {
        Self { period: period.clamp(SHORTEST, LONGEST), ..self }
    }

    /// How long the whole probe may take, whatever happens meanwhile. 1 ms to 366 days.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.clamp(SHORTEST, LONGEST), ..self }
    }

    /// By which part of it each period is shorter or longer at most. 0 to 0.9.
    pub fn jitter(self, part: f64) -> Self {
        Self { jitter: if part.is_nan() { 0.0 } else { part.clamp(0.0, MOST_JITTER) }, ..self }
    }

    /// How long the whole probe may take.
    pub fn times_out_after(&self) -> Duration {
        self.timeout
    }

    /// How long to wait before the first one; `chance` is from 0 to 1.
    pub(super) fn first(&self, chance: f64) -> Duration {
        self.period.mul_f64(chance)
    }

    /// How long this period is, never nothing.
    pub(super) fn next(&self, chance: f64) -> Duration {
        let factor = 1.0 + self.jitter * (2.0 * chance - 1.0);
        self.period.mul_f64(factor).max(SHORTEST / 10)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_values_give_usable_periods() {
        for jitter in [f64::NAN, f64::INFINITY, -1.0, 0.0, 7.0] {
            for period in [Duration::ZERO, Duration::MAX] {
                let timing = Timing::new().period(period).timeout(period).jitter(jitter);
                for chance in [0.0, 0.5, 1.0] {
                    assert!(timing.next(chance) > Duration::ZERO, "a period of no length would spin");
                    assert!(timing.next(chance) <= 2 * LONGEST);
                    assert!(timing.first(chance) <= LONGEST);
                }
                assert!(timing.times_out_after() > Duration::ZERO);
            }
        }
    }
}
