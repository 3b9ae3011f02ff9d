//! The output of children, captured line by line, never blocking a child.
//!
//! ```text
//!  child 0 ──pipe──▶ ┌─────────────┐           ┌────────────┐
//!  child 1 ──pipe──▶ │ one thread: │  bounded  │ one thread │
//!     …              │ Lines, Tail │──▶queue──▶│  your Sink │
//!  child n ──pipe──▶ └──────┬──────┘           └────────────┘
//!                           └─▶ the last lines of each child
//! ```
//!
//! `lines`, `tail` and `queue` decide and do no I/O; `pipes` reads, `capture` has the threads.

mod batch;
mod capture;
mod limits;
mod line;
mod lines;
mod pipes;
mod poller;
mod prefixed;
mod queue;
mod stream;
mod tail;

pub use self::capture::Capture;
pub use self::limits::CaptureLimits;
pub use self::line::{Line, Sink};
pub use self::lines::{Lines, Piece};
pub use self::prefixed::Prefixed;
pub use self::stream::Stream;
pub use self::tail::{Tail, TailLine};
