//! The runner with children that behave badly: whatever they do, they are kept running, and in the end nobody is left.
//!
//! Signals and trampolines belong to a whole process, so each test is played by one of its own: the example `supervise_only`, or this
//! binary with the name of a scene as its argument. Only without one it runs tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod example;
#[path = "../processes/mod.rs"]
mod processes;
mod supervised;

use cluster_supervisor::os::trampoline;
use libtest_mimic::{Arguments, Trial};

/// Played by the example.
const TESTS: &[(&str, fn())] = &[
    ("what_fails", example::what_fails_is_restarted_then_given_up_with_its_last_words),
    ("a_crash", example::a_crash_is_answered_with_a_new_life),
    ("stubborn", example::nobody_is_left_of_those_who_would_not_go),
    ("a_second_signal", example::a_second_signal_waits_for_nobody),
    ("killed", example::nobody_outlives_a_supervisor_that_was_killed),
    ("nonsense", example::a_command_that_makes_no_sense_is_a_clear_error),
];

fn main() {
    trampoline();
    let tests = TESTS.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit();
}
