//! Trees of real processes: how they are stopped, who reaps them, and which signals arrive.
//!
//! What needs a process of its own (a subreaper, PID 1, handlers for signals) is a role of this binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "it says what it skips")]
#![allow(clippy::disallowed_methods, reason = "tests with real processes have a clock")]

mod autopsy;
mod orphans;
mod pid1;
#[path = "../processes/mod.rs"]
mod processes;
mod signals;
mod stop;
mod support;

use cluster_supervisor::os::trampoline;
use libtest_mimic::{Arguments, Trial};

/// What a process of its own does.
const ROLES: &[(&str, fn())] = &[
    ("daemon", orphans::a_daemon_comes_to_the_subreaper_and_is_ended),
    ("many-orphans", orphans::many_orphans_are_reaped_at_once),
    ("not-stolen", orphans::the_exit_of_a_child_is_left_to_who_started_it),
    ("setsid-chain", orphans::a_chain_that_leaves_its_session_at_each_step_ends),
    ("signals", signals::signals_arrive_as_values),
    ("inherited", signals::a_child_starts_with_no_signal_ignored_or_blocked),
    ("init", pid1::init_gets_its_signals_and_reaps_orphans),
    ("no-descriptors", stop::without_descriptors_the_group_is_killed),
    ("refused", stop::who_may_not_be_killed_any_more_is_not_left_stopped),
    ("reused-pid", pid1::a_stranger_with_the_pid_of_a_member_is_left_alone),
];

/// What runs in the test's own process.
const TESTS: &[(&str, fn())] = &[
    ("a_child_that_ignores_sigterm_is_killed", stop::a_child_that_ignores_sigterm_is_killed),
    ("a_grandchild_with_a_session_of_its_own_is_killed", stop::a_grandchild_with_its_own_session_is_killed),
    ("a_child_that_stopped_itself_acts_on_sigterm", stop::a_child_that_stopped_itself_acts_on_sigterm),
    ("a_chain_of_forks_ends", stop::a_chain_of_forks_ends),
    (
        "the_group_of_a_reaped_child_is_killed",
        stop::the_rest_of_a_group_is_killed_after_its_leader_was_reaped,
    ),
    ("everybody_is_killed_at_once", stop::everybody_is_killed_at_once),
    ("a_child_that_is_given_up_ends_with_its_group", stop::a_child_that_is_given_up_ends_with_its_group),
    ("only_who_is_asked_ends", stop::only_who_is_asked_ends),
    ("a_core_dump_is_told", autopsy::a_core_dump_is_told),
    ("the_senders_of_signals", autopsy::a_signal_of_ours_is_told_from_anothers),
];

fn main() {
    trampoline();
    if let Ok(role) = std::env::var(support::ROLE) {
        let (_, run) = ROLES.iter().find(|(name, _)| *name == role).unwrap();
        return run();
    }
    let mut arguments = Arguments::from_args();
    // They count descriptors and look for zombies of this process.
    arguments.test_threads = Some(1);
    let own = TESTS.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let roles = ROLES.iter().map(|&(role, _)| {
        Trial::test(format!("role::{role}"), move || {
            support::run_role(role);
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, own.chain(roles).collect()).exit();
}
