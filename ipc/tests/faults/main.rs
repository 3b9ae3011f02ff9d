//! What must hold when things go wrong: nothing leaks, nothing hangs, nothing that was said before is lost.

#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "../common/alone.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod alone;
mod conservation;
mod flood;
mod kill;
mod random;
#[path = "../common/wires.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod wires;
