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
    /// The process has used so much so far. Returns the share of a core over the window, once there are two readings at different times.
    /// A clock that goes backwards (another process, under the same number) begins anew.
    pub(crate) fn handle_time(&mut self, used: Duration, window: Duration, now: Instant) -> Option<f64> {
        if self.readings.back().is_some_and(|(at, before)| *before > used || *at > now) {
            self.readings.clear();
        }
        // One that is older than the window stays as its beginning.
        while self.readings.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= window) {
            self.readings.pop_front();
        }
        let (since, before) = self.readings.front().copied().unwrap_or((now, used));
        let is_spare = self.readings.len() >= READINGS;
        let spacing = window / READINGS as u32;
        let is_new = self.readings.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) > spacing);
        if is_new && !is_spare {
            self.readings.push_back((now, used));
        }
        let passed = now.saturating_duration_since(since).as_secs_f64();
        (passed > 0.0).then(|| used.saturating_sub(before).as_secs_f64() / passed)
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
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 2 * SECOND), Some(1.0));
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 4 * SECOND), Some(0.5));
        // The first two seconds have left the window.
        assert_eq!(usage.handle_time(SECOND * 3, 4 * SECOND, begin + 6 * SECOND), Some(0.0));
        assert_eq!(usage.handle_time(Duration::ZERO, 4 * SECOND, begin + 7 * SECOND), None, "somebody else");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn however_often_it_is_read_few_readings_are_kept() {
        let (begin, mut usage) = (Instant::now(), Usage::default());
        for step in 0..100_000_u32 {
            let now = begin + Duration::from_micros(100) * step;
            let share = usage.handle_time((now - begin) / 2, SECOND, now);
            assert!(step < 100 || share.is_some_and(|share| (share - 0.5).abs() < 0.01), "{share:?}");
            assert!(usage.readings.len() <= READINGS);
        }
    }
}
