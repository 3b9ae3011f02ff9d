//! The facade, with real processes: this test starts itself as its workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod apps;
mod blocking;
mod deaths;
mod drain;
mod hang;
mod health;
mod history;
mod keys;
mod lifecycle;
mod limits;
mod listening;
mod modes;
mod restarts;
mod reuseport;
mod rolls;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod suspects;
mod wellbeing;

use std::time::Duration;

use cluster::supervisor::Event as Life;
use cluster::{Builder, Cluster, Event, Events, Handle, WorkerId};

fn main() {
    if let Ok(app) = std::env::var(apps::VARIABLE) {
        return apps::run(&app);
    }
    support::run(&[
        ("a_worker_that_aborts_at_start_is_given_up", lifecycle::a_worker_that_aborts_at_start_is_given_up),
        ("a_worker_that_is_never_ready_is_replaced", lifecycle::a_worker_that_is_never_ready_is_replaced),
        ("a_missing_executable_is_a_clear_error", lifecycle::a_missing_executable_is_a_clear_error),
        (
            "a_replaced_executable_is_not_picked_up",
            lifecycle::a_crash_after_the_file_was_replaced_starts_the_pinned_one,
        ),
        ("forked_workers_get_free_slots", lifecycle::forked_workers_get_free_slots_and_new_generations),
        ("nonsense_harms_only_its_worker", lifecycle::a_worker_that_talks_nonsense_harms_only_itself),
        (
            "a_worker_at_its_limit_is_replaced",
            lifecycle::a_worker_that_can_receive_no_more_is_replaced_without_loss,
        ),
        ("dropping_the_primary_ends_its_workers", lifecycle::dropping_the_primary_ends_its_workers),
        ("the_last_words", deaths::the_last_words_come_with_a_death),
        ("a_death_by_our_hand", deaths::a_death_by_our_hand_says_so),
        ("whom_a_worker_leaves_behind", deaths::whom_a_worker_leaves_behind_is_killed),
        ("whom_a_worker_leaves_behind_may_live_on", deaths::whom_a_worker_leaves_behind_may_live_on),
        ("a_stubborn_family", deaths::a_stubborn_family_is_killed_at_its_deadline),
        ("ignored_deaths", deaths::deaths_are_known_where_their_signal_was_ignored),
        ("orphans", deaths::orphans_that_come_to_the_primary_are_reaped),
        ("descriptors_are_all_given_back", lifecycle::descriptors_are_all_given_back),
        (
            "a_leaving_worker_loses_no_request",
            drain::a_worker_that_leaves_under_keep_alive_load_loses_no_request,
        ),
        ("a_plain_server_ends_after_its_connections", drain::a_plain_server_ends_after_its_connections),
        ("a_silent_worker_is_replaced", health::a_worker_that_never_yields_is_suspected_then_replaced),
        ("a_leak", wellbeing::a_leak_is_recycled),
        ("a_leak_by_steps", wellbeing::a_leak_is_found_at_the_next_sample),
        ("a_leak_of_descriptors", wellbeing::a_leak_of_descriptors_is_recycled),
        ("enough_requests", wellbeing::a_worker_that_has_served_enough_is_recycled),
        ("a_hog", wellbeing::a_hog_is_noticed),
        ("gauges_and_readiness", wellbeing::gauges_and_readiness_steer),
        ("hangs_by_their_looks", wellbeing::a_hang_is_told_by_what_it_looks_like),
        ("all_suspect", suspects::somebody_serves_though_all_are_suspect),
        ("all_unhealthy", suspects::not_all_go_at_once_though_all_have_to),
        ("a_roll_to_unready_workers", suspects::a_roll_to_workers_that_take_no_work_fails),
        ("unready_from_the_start", suspects::what_is_said_before_ready_counts),
        ("a_gauge_that_lasts", suspects::a_gauge_that_is_said_once_lasts),
        ("a_hang_after_a_start", suspects::a_hang_is_found_after_a_start),
        ("a_debugger", suspects::a_worker_in_a_debugger_is_left_alone),
        ("never_measured", suspects::never_measured_is_not_measured),
        ("a_reason_ends", suspects::a_reason_ends_with_its_verdict),
        ("recycles_never_coincide", wellbeing::recycles_never_coincide),
        ("the_state", state::what_one_worker_writes_all_have),
        ("what_a_worker_holds", state::what_a_worker_holds_ends_with_it),
        ("last_writes", state::what_a_draining_worker_writes_counts),
        ("no_primary", state::without_a_primary_the_state_can_be_read_and_nothing_waits),
        ("a_history", history::a_history_is_linearizable_though_workers_are_killed_and_stopped),
        ("a_counter_under_kills", state::a_counter_is_exact_though_workers_are_killed),
        ("the_primarys_pause_blames_nobody", health::the_primarys_own_pause_blames_nobody),
        ("listeners_are_shared", listening::listeners_on_any_port_are_shared_by_number),
        ("both_families", listening::one_socket_may_take_both_families),
        ("listeners_of_some_workers", listening::connections_go_only_to_workers_that_listen_there),
        ("a_worker_may_listen_again", listening::a_worker_may_listen_again),
        (
            "a_worker_told_by_another_leaves_in_order",
            drain::a_worker_terminated_by_somebody_else_finishes_its_requests,
        ),
        (
            "what_has_connected_is_served_at_the_end",
            drain::what_has_connected_is_served_when_the_cluster_stops,
        ),
        ("an_upgrade_stays_one", drain::an_upgrade_stays_one_while_the_worker_leaves),
        ("rolls_lose_no_request", rolls::rolls_lose_no_request),
        ("rolls_in_reuseport", rolls::nor_do_they_where_each_slot_has_a_socket),
        ("rolls_in_shared", rolls::nor_do_they_where_all_accept_from_one),
        ("failing_rolls_lose_no_request", rolls::nor_do_rolls_that_fail),
        ("a_bad_executable", rolls::a_bad_executable_is_rolled_back_by_itself),
        ("what_can_not_be_started", rolls::what_can_not_be_started_is_told),
        ("a_good_executable", rolls::a_good_executable_takes_over_and_a_crash_brings_no_other),
        ("restarts_of_one", restarts::one_worker_is_replaced_and_its_successor_told),
        ("restarts_in_vain", restarts::a_worker_that_is_not_replaced_is_told_why),
        ("a_roll_in_the_status", restarts::a_roll_shows_in_the_status),
        ("a_script", restarts::a_script_says_that_it_is_not_pinned),
        ("restarts_too_late", restarts::a_worker_that_ends_before_its_turn_is_not_replaced),
        ("sessions_stay", keys::sessions_stay_where_they_are_while_another_worker_is_restarted),
        ("sessions_name_their_slot", keys::a_session_that_names_its_slot_comes_back_to_it),
        ("silent_clients", keys::clients_that_send_nothing_or_little_delay_nobody),
        ("a_silent_client_is_served", keys::a_client_that_says_nothing_is_handed_out_in_time),
        ("reuseport_kills", reuseport::kills_lose_no_connection_that_nobody_had_accepted),
        ("reuseport_backoff", reuseport::nor_do_they_while_the_successor_backs_off),
        ("reuseport_retires", reuseport::retiring_workers_lose_no_connection),
        ("reuseport_stopped", reuseport::a_stopped_worker_keeps_nobody_waiting),
        ("reuseport_end", reuseport::what_has_connected_is_served_at_the_end),
        ("a_hang_under_load", hang::nobody_waits_for_a_worker_that_hangs_and_nothing_is_served_twice),
        ("a_hang_in_reuseport", hang::nor_does_anybody_where_each_slot_has_a_socket),
        ("a_handler_that_blocks", blocking::a_handler_that_never_yields_holds_up_nobody),
        ("a_handler_that_blocks_keys", blocking::what_goes_by_a_key_waits_for_its_worker),
        ("the_clusters_limit", limits::beyond_the_clusters_limit_connections_wait),
        ("the_workers_limits", limits::beyond_the_workers_limits_connections_wait_in_each_mode),
        ("rejections", limits::connections_beyond_a_limit_can_be_rejected),
        ("udp", modes::datagrams_are_shared_in_both_ways),
        ("one_socket_for_all", modes::workers_that_accept_on_one_socket_are_counted_and_replaced),
        ("unix_sockets", modes::unix_sockets_are_shared_in_both_ways_and_removed_at_the_end),
        ("inherited_sockets", modes::a_primary_serves_on_the_socket_that_it_was_started_with),
        ("a_worker_may_stop_listening", listening::a_worker_that_stops_listening_gets_no_connections),
    ])
}

/// Settings for workers that run `app`.
fn builder(app: &str) -> Builder {
    // The primary of a test must not end at a signal meant for the test.
    Cluster::builder().env(apps::VARIABLE, app).args([""; 0]).handle_signals(false)
}

/// A primary that runs in this process, on a runtime of its own.
struct Running {
    runtime: tokio::runtime::Runtime,
    pub(crate) events: Events,
    pub(crate) handle: Handle,
    primary: Option<tokio::task::JoinHandle<cluster::Result<()>>>,
}

impl Running {
    fn start(builder: Builder) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let primary = builder.primary().unwrap();
        let (events, handle) = (primary.events(), primary.handle());
        let primary = Some(runtime.spawn(primary.run()));
        Self { runtime, events, handle, primary }
    }

    /// Waits for an event that `pick` gives something for.
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let events = &mut self.events;
        self.runtime.block_on(async {
            let found = async {
                while let Some(event) = events.recv().await {
                    if let Some(found) = pick(&event) {
                        return found;
                    }
                }
                panic!("the events ended before this: {what}");
            };
            tokio::time::timeout(support::DEADLINE, found)
                .await
                .unwrap_or_else(|_| panic!("waited in vain for this: {what}"))
        })
    }

    fn wait_ready(&mut self, id: WorkerId) -> u32 {
        self.wait_for("a worker to be ready", |event| match event {
            Event::Lifecycle { event: Life::Ready { id: ready }, pid, .. } if *ready == id => *pid,
            _ => None,
        })
    }

    fn wait_serving(&mut self) -> Vec<std::net::SocketAddr> {
        self.wait_for("all workers to be ready", |event| match event {
            Event::Serving { addresses, .. } => {
                Some(addresses.iter().filter_map(cluster::Address::ip).collect())
            }
            _ => None,
        })
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    fn status(&self) -> cluster::ClusterStatus {
        self.block_on(self.handle.status()).unwrap()
    }

    /// Waits for the end of the primary's run.
    fn outcome(&mut self) -> cluster::Result<()> {
        let primary = self.primary.take().unwrap();
        self.runtime.block_on(async {
            tokio::time::timeout(support::DEADLINE, primary).await.expect("it ends").unwrap()
        })
    }

    fn stop(&mut self) {
        self.block_on(self.handle.shutdown()).unwrap();
        self.outcome().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(primary) = self.primary.take() {
            // A test that failed: its workers follow the primary by themselves.
            primary.abort();
        }
    }
}

/// How quickly workers restart in tests that are not about that.
const QUICK: Duration = Duration::from_millis(5);
