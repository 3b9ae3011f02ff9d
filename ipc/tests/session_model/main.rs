//! Two sessions over a simulated stream: random operations against a naive model, and each rule by itself.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod credit;
mod handshake;
mod lanes;
mod requests;
mod strangers;
mod wire;
