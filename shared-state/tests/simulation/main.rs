//! Thousands of schedules of faults in virtual time.
//!
//! A primary and some replicas over connections that are slow, stall and break at any moment, with some of what
//! was under way arriving and the rest lost; some hear what is broadcast, late or not in time; either side ends and begins anew; histories are too short, chunks and
//! queues tiny; keys and leases expire; users write in bursts, in transactions, on conditions, wait, watch, cancel.
//! After each step the store is held against a plain [`model`], each replica against the model's log at its cursor,
//! each watcher against all it was told, each answer against what the model answers.
//!
//! - `CLUSTER_TEST_LONG=1` runs twenty times as many schedules.
//! - `CLUSTER_TEST_SEED=n` runs the one of that seed (with `CLUSTER_TEST_REPLICAS` and `CLUSTER_TEST_STEPS`, a
//!   smaller one), and with `CLUSTER_TEST_TELL=1 … -- --nocapture` tells what happens in it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a simulator may panic, and begins some time"
)]
#![allow(clippy::print_stdout, reason = "it tells its story to who asks for it")]

mod acts;
mod air;
mod ask;
mod follower;
mod look;
mod machine;
mod model;
#[cfg(feature = "test-faults")]
mod planted;
mod schedule;
mod settings;
mod wire;
mod witness;

use std::collections::BTreeSet;

use schedule::{Budget, shrink};

const SCHEDULES: u64 = if cfg!(debug_assertions) { 4000 } else { 10_000 };

/// What the schedules must reach, all together.
const TO_BE_MET: [&str; 32] = [
    "a gap",
    "a replica ended",
    "a request came twice",
    "asked again",
    "at least",
    "at least, of another epoch",
    "busy",
    "cancelled",
    "conflict",
    "fell behind",
    "forgotten",
    "full",
    "heard a broadcast",
    "history was too short",
    "in doubt, and was carried out",
    "in doubt, and was not carried out",
    "joined anew",
    "joined another epoch",
    "live",
    "missed a broadcast",
    "refused",
    "resumed",
    "resynchronised",
    "sync",
    "the primary ended",
    "told changes",
    "told changes as one",
    "told of a gap",
    "told of another state",
    "told of loss",
    "told what is there",
    "written",
];

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn the_rules_hold_under_random_faults_and_everybody_agrees_after_them() {
    if let Some(seed) = number("CLUSTER_TEST_SEED") {
        let is_told = std::env::var_os("CLUSTER_TEST_TELL").is_some();
        drop(Budget::from_environment().play(seed, is_told));
        return;
    }
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    let schedules = if is_long { 20 * SCHEDULES } else { SCHEDULES };
    let mut met = BTreeSet::new();
    for seed in 0..schedules {
        match Budget::WHOLE.run(seed) {
            Ok(mut these) => met.append(&mut these),
            Err(failure) => panic!("{}", shrink(seed, failure)),
        }
    }
    assert_eq!(met.into_iter().collect::<Vec<_>>(), TO_BE_MET, "the schedules must reach all of it");
}

#[test]
fn equal_seeds_give_equal_schedules() {
    let run = |seed| Budget::WHOLE.play(seed, false);
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
