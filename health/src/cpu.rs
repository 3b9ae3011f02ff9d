//! The share of a core that a process uses, from the processor time it has used so far.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Readings of the last window, at most this many: more often than that they are thinned out.
const READINGS: usize = 64;

/// Processor time over a sliding window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    readings: VecDeque<(Instant, Duration)>,
}

impl Usage {
    /// The process has used so much so far. Returns the share of a core over the window, once readings span it: what a process uses
    /// as it starts is not what it uses. A clock that goes backwards (another process, under the same number) begins anew.
    pub(crate) fn handle_time(&mut self, used: Duration, window: Duration, now: Instant) -> Option<f64> {
        if self.readings.back().is_some_and(|(_, before)| *before > used) {
            self.readings.clear();
        }
        // Time that goes backwards stands still.
        let now = self.readings.back().map_or(now, |(at, _)| now.max(*at));
        // One that is older than the window stays as its beginning.
        while self.readings.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= window) {
            self.readings.pop_front();
        }
        let (since, before) = self.readings.front().copied().unwrap_or((now, used));
        let spacing = window / READINGS as u32;
        let is_new = self.readings.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) > spacing);
        // Not more than that fit, but for the one that is older.
        if is_new && self.readings.len() <= READINGS {
            self.readings.push_back((now, used));
        }
        let passed = now.saturating_duration_since(since);
        let is_enough = passed >= window && !passed.is_zero();
        is_enough.then(|| used.saturating_sub(before).as_secs_f64() / passed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn the_share_is_that_of_the_window() {
        let (begin, mut usage) = (Instant::now(), Usage::default());
        assert_eq!(usage.handle_time(SECOND, 4 * SECOND, begin), None, "one reading says nothing");
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 2 * SECOND), None, "half a window");
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 4 * SECOND), Some(0.5));
        // The first two seconds have left the window.
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 6 * SECOND), Some(0.0));
        assert_eq!(usage.handle_time(Duration::ZERO, 4 * SECOND, begin + 7 * SECOND), None, "somebody else");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn a_time_that_goes_backwards_stands_still_and_one_of_no_length_says_nothing() {
        let (begin, mut usage) = (Instant::now() + 9 * SECOND, Usage::default());
        for _ in 0..2 {
            assert_eq!(usage.handle_time(SECOND, Duration::ZERO, begin), None, "the same instant");
        }
        assert_eq!(usage.handle_time(2 * SECOND, Duration::ZERO, begin - SECOND), None);
        assert_eq!(usage.handle_time(2 * SECOND, Duration::ZERO, begin + 2 * SECOND), Some(0.5));
        assert_eq!(usage.handle_time(4 * SECOND, Duration::ZERO, begin + 3 * SECOND), Some(2.0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn however_often_it_is_read_few_readings_are_kept() {
        let (begin, mut usage) = (Instant::now(), Usage::default());
        for step in 0..100_000_u32 {
            let now = begin + Duration::from_micros(100) * step;
            let share = usage.handle_time((now - begin) / 2, SECOND, now);
            assert!(step < 10_000 || share.is_some_and(|share| (share - 0.5).abs() < 0.01), "{share:?}");
            assert!(usage.readings.len() <= READINGS + 1);
        }
    }
}
