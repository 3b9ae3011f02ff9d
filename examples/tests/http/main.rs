//! The example as a user runs it: real processes, real signals, real faults.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod faults;
mod lifecycle;
mod limits;
mod server;
mod serving;
#[path = "../../../cluster/tests/support/mod.rs"]
mod support;

fn main() {
    support::run(&[
        ("serves_and_reports", serving::serves_and_reports),
        ("round_robin_spreads_evenly", serving::round_robin_spreads_evenly),
        ("a_blocked_worker_gets_less", serving::a_blocked_worker_delays_only_its_own),
        ("serves_in_every_mode", serving::serves_in_every_mode),
        ("inline_mode_serves_from_one_process", serving::inline_mode_serves_from_one_process),
        ("sigterm_lets_a_request_finish", lifecycle::sigterm_lets_a_request_finish),
        ("a_second_signal_ends_at_once", lifecycle::a_second_signal_ends_at_once),
        ("ctrl_c_reaches_the_primary_only", lifecycle::ctrl_c_reaches_the_primary_only),
        ("a_port_in_use_is_reported", lifecycle::a_port_in_use_ends_in_a_clear_error),
        ("an_unknown_strategy_is_reported", lifecycle::an_unknown_strategy_lists_those_that_exist),
        ("an_unknown_mode_is_reported", lifecycle::an_unknown_mode_lists_those_that_exist),
        ("signals_reload_and_scale", lifecycle::signals_replace_workers_and_change_how_many_there_are),
        ("no_orphan_outlives_the_primary", lifecycle::no_orphan_outlives_the_primary),
        ("killed_workers_lose_only_what_they_took", faults::killed_workers_lose_only_what_they_had_taken),
        (
            "a_stopped_worker_gives_back",
            faults::connections_of_a_stopped_then_killed_worker_are_served_by_another,
        ),
        ("a_stopped_worker_is_steered_around", faults::a_stopped_worker_is_steered_around_and_comes_back),
        ("few_descriptors_no_spin", limits::few_descriptors_make_no_spin),
    ])
}
