//! Messages among many, all in one process: the switch knows no difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and looks at the clock"
)]

mod limits;
mod messages;
mod team;
