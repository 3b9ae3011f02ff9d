//! The runner with children that behave badly: whatever they do, they are kept running, and in the end nobody is left.
//!
//! Signals and trampolines belong to a whole process, so each test is played by one of its own: the example `supervise_only`, or this
//! binary with the name of a scene as its argument. Only without one it runs tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "a scene says what it sees")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod control;
mod deaths;
mod example;
#[path = "../processes/mod.rs"]
mod processes;
mod stage;
mod starts;
mod stops;
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
    ("ignored_deaths", example::deaths_are_known_where_their_signal_is_ignored),
    ("nonsense", example::a_command_that_makes_no_sense_is_a_clear_error),
];

/// Played by this binary.
const SCENES: &[(&str, fn())] = &[
    ("line", starts::a_line_on_a_descriptor_is_ready_and_what_comes_before_it_is_not),
    ("line-closed", starts::one_that_closes_the_descriptor_without_a_line_ends_by_its_start_timeout),
    ("never", starts::what_could_never_start_is_refused_at_once),
    ("heals", starts::one_that_can_not_start_says_why_and_starts_when_it_can),
    ("stop-signal", stops::a_service_is_asked_by_the_signal_that_its_program_wants),
    ("stop-signal-in-vain", stops::one_that_does_not_heed_its_signal_gets_sigterm),
    ("restart-beside", control::by_default_the_new_child_is_ready_before_the_old_one_has_to_go),
    ("restart-in-turn", control::one_that_needs_its_place_alone_is_restarted_when_the_old_one_has_gone),
    ("stop-and-start", control::a_service_that_was_stopped_starts_again_even_if_it_was_the_only_one),
    ("start-while-it-stops", control::one_that_still_stops_is_started_when_it_has_gone),
    ("stop-before-it-starts", control::one_that_is_stopped_before_it_could_be_started_again_stays_down),
    ("start-given-up", control::one_that_was_given_up_starts_again_with_a_clean_record),
    ("start-in-back-off", control::one_that_waits_out_its_back_off_is_started_at_once_or_stopped),
    ("last-control", control::nobody_is_waited_for_who_could_start_nothing_more),
    ("callback", control::the_callback_may_steer_and_no_descriptor_is_left),
    ("shutdown", control::a_shutdown_ends_all_and_refuses_what_comes_after_it),
    ("signal", control::after_a_signal_to_stop_nothing_begins_any_more),
    ("left-behind", deaths::nobody_is_left_of_one_that_crashed),
    ("talkative", deaths::one_that_is_ready_may_go_on_to_notify),
    ("hangup", deaths::that_the_terminal_has_gone_is_a_wish_to_stop),
    ("early-orders", control::orders_wait_for_the_runner_to_run),
    ("many-orders", control::orders_of_many_threads_leave_nobody_behind),
    (NO_TRAMPOLINE, starts::without_a_trampoline_a_line_is_refused),
];

/// The scene of a program that has none.
const NO_TRAMPOLINE: &str = "no-trampoline";

fn main() {
    let scene = stage::scene();
    if scene.as_deref() != Some(NO_TRAMPOLINE) {
        trampoline();
    }
    if scene.as_deref() == Some(deaths::NOTIFIER) {
        return deaths::notify();
    }
    if let Some(scene) = scene {
        let (_, play) = SCENES.iter().find(|(name, _)| *name == scene).unwrap();
        return play();
    }
    let trial = |name: &str, test: Box<dyn FnOnce() + Send>| {
        Trial::test(name, || {
            test();
            Ok(())
        })
    };
    let tests = TESTS.iter().map(|&(name, test)| trial(name, Box::new(test)));
    let scenes =
        SCENES.iter().map(|&(name, _)| trial(&format!("scene::{name}"), Box::new(|| stage::play(name))));
    libtest_mimic::run(&Arguments::from_args(), tests.chain(scenes).collect()).exit();
}
