//! Hand-made histories, good and bad ones; runs of the real cores; mutants; and another judge.

#![allow(clippy::disallowed_methods, reason = "tests begin some time")]

mod by_hand;
mod foreign;
mod mutants;
mod runs;
mod speed;
mod world;

/// How many seeds: more if asked for.
fn seeds(few: u64, many: u64) -> std::ops::Range<u64> {
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    0..if is_long { many } else { few }
}
