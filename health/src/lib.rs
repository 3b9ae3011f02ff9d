//! Decides which member (a worker, a thread, a host) is well, from its heartbeats.
//!
//! Death of a process on the same machine is an event and needs no detector; heartbeats find those that
//! *hang*. Two rungs, since the two have different prices: *suspect* soon (send it nothing more; free to
//! undo), *dead* late (replace it). And one rule above all: a monitor that was late itself blames nobody.
//!
//! There is no I/O in here, no clock, no thread: a driver reads the beats, hands in the time and waits
//! until the next deadline.
//!
//! ```text
//!   insert / remove(key)        ──┐     ┌──────────────────────┐
//!                                 ├────▶│       Monitor        │──▶ poll_verdict(): who is suspect, dead,
//!   handle_beat(key, now)       ──┤     │                      │    recovered, and why
//!   handle_counter(key, n, now) ──┤     │  Well ─▶ Suspect ─▶  │
//!   handle_timeout(now)         ──┘     │   ▲         │  Dead  │──▶ poll_timeout(): when to call
//!                                       │   └─ beat ──┴───┘    │    handle_timeout
//!                                       └──────────────────────┘
//! ```
//!
//! Time is whatever the driver says and should not go backwards; where it does, it is taken to stand
//! still. The figures that a member writes are not trusted, and no input makes a method panic.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use cluster_health::{Heartbeat, Monitor, VerdictKind};
//!
//! let mut now = Instant::now();
//! let mut monitor = Monitor::new(Heartbeat::new());
//! monitor.insert("anna", now);
//! monitor.insert("bert", now);
//!
//! // A driver sleeps until the deadline. Here, time just jumps there, and only Anna beats.
//! let verdict = loop {
//!     now = monitor.poll_timeout().expect("there are members");
//!     monitor.handle_beat("anna", now);
//!     monitor.handle_timeout(now);
//!     if let Some(verdict) = monitor.poll_verdict() {
//!         break verdict;
//!     }
//! };
//! assert_eq!((verdict.key(), verdict.kind()), ("bert", VerdictKind::Suspect));
//! assert_eq!(verdict.to_string(), "no heartbeat for 1.0 s (5 missed at 200 ms)");
//!
//! monitor.handle_beat("bert", now + Duration::from_millis(50));
//! let verdict = monitor.poll_verdict().expect("bert is back");
//! assert_eq!(verdict.kind(), VerdictKind::Recovered);
//! ```

#![forbid(unsafe_code)]

mod monitor;

mod member;
mod pending;
mod verdict;

mod deadline;
mod lateness;
mod phi;
mod silence;

mod cpu;
mod limit;
mod limits;
mod quantity;
mod sample;

mod outliers;
mod probe;

mod checks;

#[cfg(feature = "os")]
pub mod os;

pub use checks::Checks;
pub use deadline::Heartbeat;
pub use limit::{Consequence, Excess, Limit};
pub use monitor::Monitor;
pub use outliers::{Failures, Outliers};
pub use phi::Detector;
pub use probe::{InARow, Probe, ProbeFailure};
pub use quantity::Quantity;
pub use sample::Sample;
pub use verdict::{Cause, Silence, Standing, Verdict, VerdictKind};

/// Runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
