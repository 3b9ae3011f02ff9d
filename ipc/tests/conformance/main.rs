//! One suite for all drivers: what a connection promises, whoever moves its bytes.
//!
//! | driver | its ends | what is special |
//! |---|---|---|
//! | `memory` | `Connection`s over `cluster_ipc::memory`, narrow and in odd steps | no kernel; its clock is turned when nothing else can happen |
//! | `mio` | `Connection`s over sockets in a loop with `mio::Poll` | edge-triggered |
//! | `blocking` | `cluster_ipc::blocking` | no background thread: who waits drives |
//! | `tokio` | `cluster_ipc::tokio` | a task per connection, on one thread |
//!
//! A scenario is written once, against [`end::End`], and knows nothing of its driver. Nothing here waits for a time to
//! pass; what should happen and doesn't shows as a scenario that doesn't end, see [`run`].

#![cfg(all(feature = "blocking", feature = "mio", feature = "test-util", feature = "tokio"))]
#![allow(clippy::disallowed_methods, reason = "drivers look at clocks and start threads")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod drivers;
mod end;
#[path = "../common/frames.rs"]
mod frames;
mod scenarios;
mod stranger;

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// So long a scenario may take on a machine that does a lot besides. They take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a scenario, unless it hangs.
pub(crate) fn run(scenario: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _done = done;
        scenario();
    });
    match ended.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => panic!("it hangs: what it waits for should have happened by now"),
        _ => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

macro_rules! suite {
    ($(driver $driver:ident: $type:ty { $($own:ident::$own_scenario:ident),* $(,)? })* all $scenarios:tt) => {
        $(mod $driver {
            suite!(@tests $type, $scenarios);
            $(#[test]
            fn $own_scenario() {
                crate::run(crate::scenarios::$own::$own_scenario::<$type>);
            })*
        })*
    };
    (@tests $type:ty, { $($file:ident::$scenario:ident),* $(,)? }) => {
        $(#[test]
        fn $scenario() {
            crate::run(crate::scenarios::$file::$scenario::<$type>);
        })*
    };
}

suite! {
    driver memory: crate::drivers::Memory {
        requests::a_cancelled_request_is_not_wanted_any_more,
        requests::a_request_cancelled_before_it_was_sent_leaves_the_others_alone,
    }
    driver mio: crate::drivers::Mio {
        requests::a_cancelled_request_is_not_wanted_any_more,
        requests::a_request_cancelled_before_it_was_sent_leaves_the_others_alone,
    }
    // A thread that waits for an answer can't be told to stop waiting.
    driver blocking: crate::drivers::Blocking {}
    driver tokio: crate::drivers::Tokio {
        requests::a_cancelled_request_is_not_wanted_any_more,
        requests::a_request_cancelled_before_it_was_sent_leaves_the_others_alone,
    }
    all {
        handshake::it_tells_greetings_descriptors_and_schemas,
        handshake::a_long_greeting_arrives_whole,
        handshake::garbage_instead_of_an_answer_is_an_error,
        handshake::garbage_instead_of_a_welcome_is_an_error,
        handshake::a_frame_that_has_no_place_before_it_is_an_error,
        handshake::a_parent_is_told_why_its_child_rejects_it,
        handshake::a_child_rejects_a_welcome_of_another_version_readably,
        handshake::a_peer_that_closes_instead_is_gone,
        handshake::its_time_is_limited,
        handshake::what_waits_for_it_learns_how_it_failed,
        handshake::settings_of_a_later_version_are_passed_over,

        messages::they_keep_their_order_in_a_lane,
        messages::large_and_small_ones_keep_their_order,
        messages::an_urgent_one_overtakes_what_is_queued,
        messages::those_of_every_size_arrive_whole_with_their_descriptors,
        messages::those_of_every_size_arrive_whole_through_the_stream,
        messages::one_that_is_larger_than_the_peer_takes_costs_only_itself,
        messages::one_with_too_many_descriptors_costs_only_itself,
        messages::a_large_one_may_carry_as_many_descriptors_as_a_small_one,
        messages::a_large_one_reaches_a_peer_that_takes_no_descriptors,
        messages::a_large_one_may_use_up_the_descriptors_that_the_peer_takes,
        messages::an_urgent_one_that_is_too_large_costs_only_itself,
        messages::descriptors_that_nobody_takes_are_closed,
        messages::a_gap_is_reported_in_its_place,

        pressure::a_full_window_refuses_and_opens_again,
        pressure::a_sender_waits_for_a_full_window,
        pressure::a_window_of_one_message_is_enough,
        pressure::a_message_larger_than_the_window_goes_alone,
        pressure::bytes_count,
        pressure::descriptors_count,
        pressure::a_small_outbox_is_enough,
        pressure::two_that_flood_each_other_go_on,
        pressure::one_that_only_tries_gets_its_turn,
        pressure::a_peer_that_exceeds_its_credit_is_cut_off,
        pressure::each_side_keeps_to_the_limits_of_the_other,

        requests::one_is_answered_with_a_value_and_descriptors,
        requests::one_is_answered_with_an_error,
        requests::one_that_nobody_handles_is_answered_so,
        requests::one_that_is_let_go_is_answered_so,
        requests::large_ones_get_large_answers,
        requests::one_that_is_too_large_costs_only_itself,
        requests::an_answer_that_is_too_large_is_a_failure,
        requests::many_are_answered_in_any_order,
        requests::both_sides_ask_at_the_same_time,
        requests::an_answer_needs_nobody_to_take_the_messages_before_it,
        requests::one_that_times_out_is_not_wanted_any_more,
        requests::a_late_answer_is_dropped_and_the_next_request_works,
        requests::time_runs_while_a_request_waits_for_credit,
        requests::only_so_many_are_open_at_a_time,
        requests::the_lower_limit_of_the_two_sides_counts,
        requests::a_peer_that_asks_too_much_is_cut_off,

        endings::finish_comes_after_the_last_message_and_answers_after_it,
        endings::one_that_has_finished_still_receives_and_answers,
        endings::both_may_finish,
        endings::what_was_sent_before_leaving_arrives,
        endings::what_was_accepted_before_leaving_arrives_though_the_transport_was_full,
        endings::leaving_is_told_though_the_transport_was_full,
        endings::the_last_words_of_a_dead_peer_come_before_its_end,
        endings::a_dead_peer_ends_what_waits_for_it,
        endings::a_peer_that_died_with_unread_messages_is_gone_all_the_same,
        endings::wrong_words_end_it_with_an_error_after_what_was_right,
        endings::memory_that_could_change_is_refused,
        endings::a_peer_that_does_not_read_its_answers_is_cut_off,
    }
}
