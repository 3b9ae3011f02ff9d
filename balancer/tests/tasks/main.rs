//! The pool of tasks: its rules one by one, and random runs of it with members that lag, refuse and die, beside a naive model.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod member;
mod model;
mod naive;
mod rules;
