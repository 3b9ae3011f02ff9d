//! Real servers and real programs, well and sick, and what probes say of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "tests with real servers have a clock and threads")]

mod commands;
mod network;
mod prober;
mod servers;

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use cluster_health::os::Outcome;

/// How long what must happen may take. Generous: the machines are shared.
const LONG: Duration = Duration::from_secs(60);

/// After which time what never happens is given up.
const SHORT: Duration = Duration::from_millis(100);

/// Waits until `condition` gives something.
#[track_caller]
fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for this: {what}");
        park_timeout(Duration::from_millis(2));
    }
}

/// What was wrong.
#[track_caller]
fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Bad(reason) => reason,
        other => panic!("a bad answer was expected, not {other:?}"),
    }
}
