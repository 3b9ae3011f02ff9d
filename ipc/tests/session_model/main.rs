//! Two sessions over a simulated stream: random operations against a naive model, and each rule by itself.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod credit;
#[path = "../common/frames.rs"]
mod frames;
mod handshake;
mod lanes;
mod model;
mod ops;
mod requests;
mod strangers;
mod stream;
mod wire;
mod world;

use proptest::prelude::*;

use crate::world::World;

/// Fast by default; `CLUSTER_TEST_LONG=1` tries a hundred times as many. proptest prints what failed, and how to repeat it.
fn config() -> ProptestConfig {
    let long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if long { 25_600 } else { 256 })
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_sessions_agree_with_a_naive_model_of_them((limits, course) in ops::setting(), ops in ops::ops()) {
        let mut world = World::new(limits, course);
        for (side, op) in ops {
            world.apply(side, op);
            world.check_bounds(side);
        }
        world.settle();
    }
}
