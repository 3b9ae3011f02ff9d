//! What the tests share. Not each uses all of it.
#![allow(dead_code)]

pub(crate) mod raw;
pub(crate) mod wire;

use std::ops::Range;

/// Says how to repeat the schedule that failed.
pub(crate) struct Repeat {
    pub(crate) test: &'static str,
    pub(crate) seed: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { test, seed } = self;
            eprintln!("to repeat: CLUSTER_TEST_SEED={seed} cargo test -p cluster-shared-state --test {test}");
        }
    }
}

/// So many seeds; a hundred times as many if `CLUSTER_TEST_LONG=1`, or the one that `CLUSTER_TEST_SEED` says.
pub(crate) fn seeds(count: u64) -> Range<u64> {
    if let Ok(seed) = std::env::var("CLUSTER_TEST_SEED") {
        let seed = seed.parse().unwrap_or_else(|_| panic!("CLUSTER_TEST_SEED={seed} is no number"));
        return seed..seed + 1;
    }
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    0..if is_long { 100 * count } else { count }
}
