//! How unlikely a silence is, given the gaps so far: phi-accrual detectors.
//!
//! Hayashibara et al., "The φ Accrual Failure Detector" (2004): φ = -log₁₀ of the probability that a gap is longer than the silence.
//! The normal distribution as in Akka, by its logistic approximation, with an acceptable pause added to the mean; the exponential one as
//! in Cassandra. Textbook phi without the pause was the worst of all detectors on traces with heavy tails.

use std::collections::VecDeque;
use std::f64::consts::LOG10_E;
use std::time::Duration;

/// Gaps that are remembered, as in Akka.
const WINDOW: usize = 1000;

/// With fewer the distribution says nothing.
const ENOUGH: usize = 10;

/// How a suspicion is come to. Death is a matter of time in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Detector {
    /// After a fixed number of missed beats. The default: at an equal rate of false alarms nothing did better on steady traces, and its
    /// deadline can be told beforehand.
    #[default]
    Fixed,
    /// Gaps are exponential: suspect when the silence is `threshold` × ln 10 mean gaps. For loads that change; Cassandra's threshold is 8.
    PhiExponential {
        /// Of φ: 5 lets one in 100,000 gaps through.
        threshold: f64,
    },
    /// Gaps are normal about their mean plus an acceptable pause. Akka's threshold is 8, its pause 3 s with a beat each second.
    PhiNormal {
        /// Of φ.
        threshold: f64,
        /// What is always acceptable beyond the mean. Without it, real gaps raise two alarms a minute.
        pause: Duration,
        /// The deviation is taken to be at least this.
        min_deviation: Duration,
    },
}

/// The gaps between beats so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    seconds: VecDeque<f64>,
    sum: f64,
    squares: f64,
    /// How many came since the sums were made anew.
    added: usize,
}

impl Gaps {
    /// A gap, of which no more counts than `longest`: one long hang would blind the detector for the next thousand beats.
    pub(crate) fn handle_gap(&mut self, gap: Duration, longest: Duration) {
        // Beats that are read together are one.
        if gap.is_zero() {
            return;
        }
        if self.seconds.len() == WINDOW
            && let Some(oldest) = self.seconds.pop_front()
        {
            self.sum -= oldest;
            self.squares -= oldest * oldest;
        }
        let gap = gap.min(longest).as_secs_f64();
        self.seconds.push_back(gap);
        self.sum += gap;
        self.squares += gap * gap;
        self.added += 1;
        if self.added >= WINDOW {
            // What rounding has left of gaps that are long gone goes with them.
            self.added = 0;
            self.sum = self.seconds.iter().sum();
            self.squares = self.seconds.iter().map(|gap| gap * gap).sum();
        }
    }

    /// How unlikely it is that a gap is longer than this. `None` while too little is known, and for the fixed detector.
    ///
    /// The mean is taken to be at least the interval: one who beats more often than it should, or catches up with many beats at once,
    /// may still be silent for as long as everybody.
    pub(crate) fn phi(&self, silence: Duration, interval: Duration, detector: Detector) -> Option<f64> {
        let count = self.seconds.len();
        if count < ENOUGH {
            return None;
        }
        let (count, silence) = (count as f64, silence.as_secs_f64());
        let mean = self.sum / count;
        let expected = mean.max(interval.as_secs_f64());
        match detector {
            Detector::Fixed => None,
            Detector::PhiExponential { .. } => Some(silence / expected * LOG10_E),
            Detector::PhiNormal { pause, min_deviation, .. } => {
                let variance = (self.squares / count - mean * mean).max(0.0);
                let deviation = variance.sqrt().max(min_deviation.as_secs_f64()).max(f64::MIN_POSITIVE);
                let y = (silence - expected - pause.as_secs_f64()) / deviation;
                Some(-tail(y).log10())
            }
        }
    }
}

/// The probability that a standard normal variable is larger.
fn tail(y: f64) -> f64 {
    let e = (-y * (1.597_6 + 0.070_566 * y * y)).exp();
    // Akka's two forms: each keeps its precision on its side.
    if y > 0.0 { e / (1.0 + e) } else { 1.0 - 1.0 / (1.0 + e) }
}

impl Detector {
    /// Whether phi says that a silence is one.
    pub(crate) fn is_suspicious(self, phi: f64) -> bool {
        match self {
            Self::Fixed => false,
            Self::PhiExponential { threshold } | Self::PhiNormal { threshold, .. } => phi >= threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn steady(gap: Duration, count: usize) -> Gaps {
        let mut gaps = Gaps::default();
        (0..count).for_each(|_| gaps.handle_gap(gap, 1000 * MS));
        gaps
    }

    #[test]
    fn exponential_phi_grows_with_the_number_of_mean_gaps() {
        let detector = Detector::PhiExponential { threshold: 8.0 };
        let gaps = steady(100 * MS, 50);
        let phi = gaps.phi(1842 * MS, 100 * MS, detector).unwrap();
        assert!((phi - 8.0).abs() < 0.01, "Cassandra's 18.4 intervals: {phi}");
        assert!(detector.is_suspicious(8.0) && !detector.is_suspicious(7.99));
    }

    #[test]
    fn normal_phi_knows_its_pause_and_its_deviation() {
        let detector = Detector::PhiNormal { threshold: 8.0, pause: 300 * MS, min_deviation: 100 * MS };
        let gaps = steady(100 * MS, 50);
        let at = |silence: u32| gaps.phi(silence * MS, 100 * MS, detector).unwrap();
        assert!((at(400) - 2.0_f64.log10()).abs() < 0.01, "half of all gaps are longer: {}", at(400));
        assert!(at(900) < 8.0 && at(1000) > 8.0, "5.6 deviations: {} {}", at(900), at(1000));
        assert!(at(10_000).is_infinite() || at(10_000) > 300.0);
    }

    #[test]
    fn little_knowledge_and_no_gaps_at_all_say_nothing() {
        let detector = Detector::PhiExponential { threshold: 8.0 };
        assert_eq!(steady(MS, ENOUGH - 1).phi(MS, MS, detector), None);
        assert_eq!(steady(Duration::ZERO, 2000).phi(MS, MS, detector), None, "beats that are read together");
        assert_eq!(steady(MS, 50).phi(MS, MS, Detector::Fixed), None);
    }

    #[test]
    fn a_burst_of_beats_makes_nobody_suspect_sooner() {
        for detector in [
            Detector::PhiExponential { threshold: 8.0 },
            Detector::PhiNormal { threshold: 8.0, pause: 300 * MS, min_deviation: 10 * MS },
        ] {
            let mut gaps = steady(100 * MS, WINDOW);
            let before = gaps.phi(500 * MS, 100 * MS, detector).unwrap();
            (0..WINDOW).for_each(|_| gaps.handle_gap(Duration::from_nanos(1), 1000 * MS));
            let after = gaps.phi(500 * MS, 100 * MS, detector).unwrap();
            assert!(after <= before * 1.01, "{detector:?}: {after} after {before}");
        }
    }

    #[test]
    fn extreme_values_are_no_nan() {
        let ages = Duration::MAX;
        for (gap, silence, pause, min_deviation) in [
            (ages, ages, ages, ages),
            (ages, MS, MS, Duration::ZERO),
            (MS, ages, Duration::ZERO, Duration::ZERO),
        ] {
            let mut gaps = Gaps::default();
            (0..50).for_each(|_| gaps.handle_gap(gap, ages));
            for detector in [
                Detector::PhiExponential { threshold: 8.0 },
                Detector::PhiNormal { threshold: 8.0, pause, min_deviation },
            ] {
                let phi = gaps.phi(silence, MS, detector).unwrap();
                assert!(!phi.is_nan(), "{detector:?}");
            }
        }
    }

    #[test]
    fn the_window_slides_and_nothing_is_left_of_what_leaves_it() {
        let mut gaps = steady(MS, 5 * WINDOW);
        gaps.handle_gap(Duration::from_secs(1_000_000_000), Duration::MAX);
        (0..2 * WINDOW).for_each(|_| gaps.handle_gap(100 * MS, 1000 * MS));
        assert_eq!(gaps.seconds.len(), WINDOW);
        assert!((gaps.sum / WINDOW as f64 - 0.1).abs() < 1e-9);
        assert!((gaps.squares / WINDOW as f64 - 0.01).abs() < 1e-9, "{}", gaps.squares);
    }
}
