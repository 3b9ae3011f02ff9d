//! Two versions of a program that talk during a rolling restart, and what stands on the wire between them.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "../common/alone.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod alone;
#[path = "../common/frames.rs"]
mod frames;
mod golden;
mod rolling;
mod rule;
