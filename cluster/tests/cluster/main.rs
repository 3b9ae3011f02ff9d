//! The facade, with real processes: this test starts itself as its workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod apps;
mod better;
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
mod long_lived;
mod messages;
mod metrics;
mod modes;
mod node;
mod parity_app;
mod parity_disconnect;
mod parity_events;
mod parity_handles;
mod parity_scheduling;
mod parity_settings;
#[cfg(feature = "prometheus")]
mod prometheus;
mod records;
mod restarts;
mod reuseport;
mod rolls;
mod state;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod suspects;
mod tasks;
mod wellbeing;

use std::time::Duration;

use cluster::supervisor::Event as Life;
use cluster::{Builder, Cluster, Event, Events, Handle, WorkerId};

fn main() {
    // Workers of another user begin here.
    cluster::supervisor::os::trampoline();
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
        ("totals_under_kills", metrics::totals_never_go_back_though_workers_are_killed_under_load),
        ("totals_are_exact", metrics::totals_are_what_clients_got_over_all_lives),
        ("totals_over_rolls", metrics::totals_are_exact_over_rolls_under_load),
        ("a_workers_record", metrics::a_workers_record_says_where_it_is_and_when_it_was_heard_of),
        ("metrics_and_reports", metrics::metrics_and_reports_come_regularly),
        #[cfg(feature = "prometheus")]
        ("prometheus", prometheus::any_worker_tells_of_all_and_no_counter_goes_back),
        #[cfg(feature = "prometheus")]
        ("prometheus_parser", prometheus::the_parser_is_strict),
        ("records_of_a_primary", records::records_of_a_primary_say_which_worker_they_are_about),
        ("records_of_workers", records::records_of_workers_say_which_they_are),
        ("the_balancers_status", metrics::the_balancer_shows_who_has_what),
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
        ("reads_are_fresh", state::a_read_sees_what_another_worker_was_told_is_written),
        ("what_a_worker_holds", state::what_a_worker_holds_ends_with_it),
        ("last_writes", state::what_a_draining_worker_writes_counts),
        ("no_primary", state::without_a_primary_the_state_can_be_read_and_nothing_waits),
        ("messages", messages::everybody_talks_to_everybody),
        ("messages_of_the_dead", messages::what_a_worker_sent_comes_before_its_end),
        ("requests_to_the_dead", messages::who_asks_one_that_dies_is_told),
        ("sockets_in_messages", messages::open_sockets_travel_between_workers),
        ("a_worker_that_takes_no_messages", messages::one_that_takes_nothing_holds_up_nobody),
        ("messages_and_slots", messages::a_slots_messages_go_to_its_successor),
        ("node_bind_twice", node::listening::bind_twice),
        ("node_eaddrinuse", node::listening::eaddrinuse),
        ("node_eaccess", node::listening::eaccess),
        ("node_bind_privileged_port", node::listening::bind_privileged_port),
        ("node_child_index_net", node::listening::child_index_net),
        ("node_listening_port", node::listening::listening_port),
        ("node_net_listen_backlog", node::listening::net_listen_backlog),
        ("node_net_listen_ipv6only", node::listening::net_listen_ipv6only),
        ("node_net_listen_relative_path", node::listening::net_listen_relative_path),
        ("node_listen_pipe_readable_writable", node::listening::listen_pipe_readable_writable),
        ("node_http_pipe", node::listening::http_pipe),
        ("node_net_reuseport", node::listening::net_reuseport),
        ("node_server_restart", node::listening::server_restart),
        ("node_port_reuse_between_workers", node::listening::port_reuse_between_workers),
        ("node_shared_leak", node::listening::shared_leak),
        ("node_worker_handle_close", node::listening::worker_handle_close),
        ("node_net_listen_handle", node::listening::net_listen_handle),
        ("node_close_during_listen", node::listening::close_during_listen),
        ("node_accept_fail", node::listening::accept_fail),
        ("node_dgram_1", node::datagrams::dgram_1),
        ("node_dgram_reuseport", node::datagrams::dgram_reuseport),
        ("node_dgram_2", node::datagrams::dgram_2),
        ("node_dgram_bind_fd", node::datagrams::dgram_bind_fd),
        ("node_dgram_ipv6only", node::datagrams::dgram_ipv6only),
        ("node_dgram_reuse", node::datagrams::dgram_reuse),
        ("node_child_index_dgram", node::datagrams::child_index_dgram),
        ("node_dgram_bind_error", node::datagrams::dgram_bind_error),
        ("node_close_during_bind", node::datagrams::close_during_bind),
        ("node_close_in_listening", node::datagrams::close_in_listening),
        ("node_advanced_serialization", node::messages::advanced_serialization),
        ("node_net_send", node::messages::net_send),
        ("node_send_deadlock", node::messages::send_deadlock),
        ("node_send_handle_twice", node::messages::send_handle_twice),
        ("node_send_handle_large_payload", node::messages::send_handle_large_payload),
        ("node_worker_init", node::messages::worker_init),
        ("node_invalid_message", node::messages::invalid_message),
        ("node_basic", node::processes::basic),
        ("node_call_and_destroy", node::processes::call_and_destroy),
        ("node_concurrent_disconnect", node::processes::concurrent_disconnect),
        ("node_disconnect", node::processes::disconnect),
        ("node_disconnect_before_exit", node::processes::disconnect_before_exit),
        ("node_disconnect_leak", node::processes::disconnect_leak),
        ("node_disconnect_race", node::processes::disconnect_race),
        ("node_disconnect_unshared", node::processes::disconnect_unshared),
        ("node_kill_infinite_loop", node::processes::kill_infinite_loop),
        ("node_worker_exit", node::processes::worker_exit),
        ("node_worker_destroy", node::processes::worker_destroy),
        ("node_process_disconnect", node::processes::process_disconnect),
        ("node_worker_forced_exit", node::processes::worker_forced_exit),
        ("node_worker_disconnect_on_error", node::processes::worker_disconnect_on_error),
        ("node_worker_no_exit", node::processes::worker_no_exit),
        ("node_worker_wait_server_close", node::processes::worker_wait_server_close),
        ("node_primary_dies", node::processes::primary_dies),
        ("node_fork_env", node::processes::fork_env),
        ("node_listening_keeps_alive", node::processes::listening_keeps_alive),
        (
            "given_up_port",
            node::given_up::a_port_that_a_successor_does_not_want_is_free_when_its_predecessor_has_gone,
        ),
        ("given_up_request", node::given_up::what_nobody_waited_for_can_be_had_again_and_is_given_back),
        ("given_up_elsewhere", node::given_up::a_listener_stays_a_moment_though_another_worker_leaves),
        ("given_up_datagrams", node::given_up::no_datagram_goes_to_a_slot_that_has_closed),
        ("given_up_environment", node::given_up::an_environment_is_not_inherited_from_one_that_was_given_up),
        ("given_up_turn", node::given_up::the_events_end_of_a_worker_whose_turn_never_came),
        ("node_table", node::table::no_test_of_nodes_is_missing),
        ("node_names", node::table::what_is_named_there_is_on_the_checklist),
        ("node_bugs", node::table::what_goes_wrong_there_is_tested_here),
        ("a_history", history::a_history_is_linearizable_though_workers_are_killed_and_stopped),
        ("a_counter_under_kills", state::a_counter_is_exact_though_workers_are_killed),
        ("tasks_under_kills", tasks::each_of_a_thousand_ends_once_though_workers_are_killed),
        ("tasks_begun_and_not", tasks::what_has_begun_is_lost_and_what_has_not_goes_elsewhere),
        ("tasks_that_kill", tasks::what_kills_its_worker_at_once_is_not_tried_again),
        ("tasks_cancelled", tasks::who_cancels_is_heard_by_the_worker),
        ("tasks_deadline", tasks::a_deadline_ends_what_runs_and_what_waits),
        ("tasks_progress", tasks::progress_comes_in_order),
        ("tasks_at_once", tasks::no_worker_runs_more_than_it_said),
        ("tasks_of_a_worker", tasks::a_worker_may_submit),
        ("tasks_not_run", tasks::what_can_t_be_run_is_told),
        ("tasks_without_a_primary", tasks::what_a_worker_waits_for_and_runs_ends_with_the_primary),
        ("tasks_in_a_roll", tasks::replacing_all_workers_loses_no_task),
        ("tasks_inline", tasks::one_process_may_be_all_of_it),
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
        ("a_web_socket", long_lived::a_web_socket_is_told_and_its_worker_ends_then),
        ("a_web_socket_that_stays", long_lived::a_web_socket_that_takes_no_notice_is_cut_and_nobody_else_is),
        ("deadlines_of_both_kinds", long_lived::what_lasts_may_outlast_what_does_not),
        ("a_stream_of_events", long_lived::a_stream_of_events_ends_in_order),
        ("http2", long_lived::http2_clients_lose_no_request),
        ("better_hang", better::connections_to_a_worker_that_is_stopped_and_killed_are_all_served),
        ("better_end", better::a_worker_is_gone_when_it_is_done_and_its_port_stays),
        ("better_twice", better::a_worker_that_is_told_many_times_leaves_in_order),
        ("better_keep_alive", better::keep_alive_holds_up_no_stop),
        ("better_readiness", better::nobody_gets_connections_before_he_is_ready),
        ("better_spread", better::connections_are_spread_evenly),
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
        ("no_spinning", limits::nobody_spins_at_a_limit),
        ("limits_of_single_workers", limits::workers_may_have_limits_of_their_own),
        ("a_limit_of_none", limits::a_worker_with_a_limit_of_none_gets_none),
        ("ten_connections", limits::of_ten_connections_none_is_lost),
        (
            "a_listener_that_just_closed",
            listening::connections_handed_to_a_listener_that_just_closed_go_elsewhere,
        ),
        ("rejections", limits::connections_beyond_a_limit_can_be_rejected),
        ("udp", modes::datagrams_are_shared_in_both_ways),
        ("one_socket_for_all", modes::workers_that_accept_on_one_socket_are_counted_and_replaced),
        ("unix_sockets", modes::unix_sockets_are_shared_in_both_ways_and_removed_at_the_end),
        ("inherited_sockets", modes::a_primary_serves_on_the_socket_that_it_was_started_with),
        ("parity_roles", parity_settings::roles_are_known_before_and_after_the_builder_is_asked),
        ("parity_settings", parity_settings::settings_are_cumulative_and_for_later_forks_only),
        ("parity_setup_in_a_roll", parity_settings::a_change_during_a_roll_outlasts_it),
        ("parity_exec", parity_settings::another_program_is_for_later_forks_too),
        ("parity_silent", parity_settings::what_silent_workers_print_goes_nowhere),
        ("parity_user", parity_settings::workers_may_run_as_somebody_else),
        ("parity_fork_env", parity_settings::an_environment_of_its_own_stays_with_a_slot_until_that_is_free),
        ("parity_descriptors", parity_settings::a_descriptor_by_name_works_both_ways_and_in_each_life),
        ("parity_handle", parity_handles::a_handle_shows_its_worker_and_waits_for_its_real_end),
        ("parity_kill", parity_handles::who_is_killed_comes_back_and_who_was_asked_to_leave_does_not),
        ("parity_failed_spawn", parity_handles::a_failed_spawn_is_an_event_and_the_primary_goes_on),
        (
            "parity_leave",
            parity_handles::who_leaves_by_itself_finishes_its_requests_and_is_followed_by_another,
        ),
        ("parity_exit", parity_handles::who_exits_says_so),
        ("parity_events", parity_events::the_events_of_a_worker_come_in_order_and_the_exit_is_the_last),
        ("parity_gone", parity_events::who_hears_of_an_exit_finds_the_worker_gone),
        ("parity_disconnect", parity_disconnect::all_leave_the_ports_are_free_and_others_may_begin_again),
        ("parity_no_workers", parity_disconnect::without_workers_it_is_over_at_once),
        ("parity_fork_meanwhile", parity_disconnect::who_is_forked_meanwhile_begins_afterwards),
        ("parity_shutdown_meanwhile", parity_disconnect::a_shutdown_meanwhile_ends_the_primary),
        ("parity_scheduling", parity_scheduling::the_environment_decides_where_the_code_says_nothing),
        ("parity_round_robin", parity_scheduling::each_worker_has_its_turn_in_round_robin),
        ("a_worker_may_stop_listening", listening::a_worker_that_stops_listening_gets_no_connections),
        ("stopping_under_load", stopping::whoever_is_let_in_while_it_stops_is_answered),
        ("stopping_all_workers", stopping::nor_is_anybody_lost_when_all_leave_and_others_may_begin_again),
        ("stopping_unix", stopping::nor_by_way_of_a_unix_socket),
        ("stopping_by_a_signal", stopping::nor_by_a_signal),
        ("stopping_queue", stopping::who_is_in_the_queue_when_it_stops_is_waited_for),
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
