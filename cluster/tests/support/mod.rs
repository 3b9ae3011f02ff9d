//! What the tests with real processes share: waiting for conditions, an HTTP client, a look at processes.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

pub(crate) mod client;
pub(crate) mod process;

use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

/// Runs tests by name, as `cargo test` does, but in a `main` that can become a worker first.
pub(crate) fn run(tests: &[(&str, fn())]) -> ! {
    let mut arguments = Arguments::from_args();
    // Each test loads the machine by itself; side by side they would only wait for one another.
    arguments.test_threads.get_or_insert(1);
    let trial = |&(name, test): &(&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit()
}

/// How long a condition may take to come true. Generous: the machines are shared.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for this: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
