//! One test per trap of Unix sockets that carry descriptors: each fails when its guard in the crate is taken away.
//!
//! The list is that of those who were caught before us: a short read taken for "drained", descriptors lost by `read()`,
//! by an empty body, by padding, by the limit of open files, on a full socket or sent twice after a partial write; ends
//! of the stream that don't look like one, or don't come; signals; flags that others may change; deadlocks of
//! two writers; identifiers and lengths that lie.

#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "../common/alone.rs"]
mod alone;
mod ending;
mod inheritance;
mod lengths;
mod reading;
mod signals;
mod sys;
#[path = "../common/wires.rs"]
mod wires;
mod writing;
