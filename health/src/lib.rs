//! Decides which member (a worker, a thread, a host) is well, and says why.
//!
//! Death of a process on the same machine is an event and needs no detector. This finds the others: those that *hang* (heartbeats,
//! probes), that use too much (limits of memory, processors, descriptors, lag, and gauges of one's own), that fail more than the others
//! (outliers), and those whose life is to end (requests, lifetime). What follows has its price, so there are rungs: *suspect* soon (send
//! it nothing more; free to undo), *recycle* (replace it when convenient), *unhealthy* late (replace it now). And one rule above all: a
//! monitor that was late itself blames nobody.
//!
//! The core has no I/O, no clock, no thread: a driver reads beats and figures, hands in the time and waits until the next deadline.
//! Beside it, behind the feature `os` (on by default), `os` reads off Linux how processes are.
//!
//! ```text
//!   insert / remove(key)         ──┐     ┌─────────────────────────┐
//!                                  │     │         Monitor         │
//!   handle_beat(key, now)        ──┤     │                         │──▶ poll_verdict(): noticed, suspect, recycle,
//!   handle_counter(key, n, now)  ──┤     │  silence   Well Suspect │    unhealthy, recovered; why, and since when
//!   handle_sample(key, .., now)  ──┼────▶│            Unhealthy    │
//!   handle_value(key, .., now)   ──┤     │  limits    soft, hard   │──▶ poll_confirm(): whose memory to look at closely
//!   handle_probe(key, .., now)   ──┤     │  probes    n in a row   │
//!   handle_requests(key, ..)     ──┤     │  outliers  ejected      │──▶ poll_timeout(): when to call
//!   handle_timeout(now)          ──┘     │  lives     over         │    handle_timeout
//!                                        └─────────────────────────┘
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
#[cfg(all(doctest, feature = "os"))]
#[doc = include_str!("../README.md")]
struct Readme;
