//! Asking members whether they are well: foreign programs, mostly, that don't beat.
//!
//! ```text
//!  insert / remove ──▶ ┌──────────┐  due   ┌─────────────┐  answers, a descriptor
//!                      │ Schedule │───────▶│ n threads:  │──────────────────────▶ driver ─▶ Monitor::handle_probe
//!                      │ (no I/O) │◀───────│ Target::ask │
//!                      └──────────┘  done  └─────────────┘
//! ```
//!
//! `schedule` and `timing` decide and do no I/O; `connect`, `http` and `command` ask, with one `wait` for all of it; `prober` has
//! the threads.

mod prober;
mod schedule;
mod target;
mod timing;

mod command;
mod connect;
mod http;
mod reason;
mod wait;

pub use self::command::CommandLine;
pub use self::http::HttpGet;
pub use self::prober::{Answer, Prober};
pub use self::schedule::{Due, Schedule, Ticket};
pub use self::target::{Outcome, Target};
pub use self::timing::Timing;
