//! Who is compared: the default, and detectors at one beat each 100 ms.

use std::time::Duration;

use cluster_health::{Detector, Heartbeat};

/// One way to watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) heartbeat: Heartbeat,
}

pub(crate) const DEFAULT: &str = "default";
pub(crate) const FIXED_3: &str = "fixed, 3 missed";

/// How often a worker beats for all but the default.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn all() -> Vec<Contender> {
    let base = Heartbeat::new().interval(INTERVAL);
    let fixed = |name, missed| Contender { name, heartbeat: base.suspect_missed(missed) };
    let phi = |name, detector| Contender { name, heartbeat: base.detect_by(detector) };
    let exponential = |name, threshold| phi(name, Detector::PhiExponential { threshold });
    let normal =
        |name, pause| phi(name, Detector::PhiNormal { threshold: 8.0, pause, min_deviation: INTERVAL / 10 });
    vec![
        Contender { name: DEFAULT, heartbeat: Heartbeat::new() },
        fixed(FIXED_3, 3),
        fixed("fixed, 5 missed", 5),
        fixed("fixed, 12 missed", 12),
        exponential("phi exponential 2", 2.0),
        exponential("phi exponential 5", 5.0),
        exponential("phi exponential 8", 8.0),
        normal("phi normal 8", Duration::ZERO),
        normal("phi normal 8, pause of 3 beats", 3 * INTERVAL),
    ]
}
