//! A pool and its workers in one process, over socket pairs: the switch knows no difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod bounds;
mod deaths;
mod ends;
mod leaving;
mod limits;
mod team;
mod words;
