//! The short examples, as a user runs them: real processes, and what their head says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod blocking;
mod hello;
mod messages;
mod metrics;
mod program;
mod state;
mod sticky;
#[path = "../../../cluster/tests/support/mod.rs"]
mod support;
mod tasks;
mod tls;
mod udp_echo;

fn main() {
    support::run(&[
        ("hello", hello::four_workers_answer),
        ("hello_is_short", hello::it_is_at_most_fifteen_lines),
        ("hello_in_the_readme", hello::the_readme_has_it_word_for_word),
        ("readme_table", hello::the_readme_names_every_example),
        ("blocking", blocking::others_answer_while_one_is_blocked),
        ("blocking_single", blocking::a_single_process_answers_nobody_while_it_is_blocked),
        ("messages", messages::everybody_talks_to_everybody),
        ("sticky", sticky::sessions_stay_at_one_worker),
        ("udp_echo", udp_echo::datagrams_come_back),
        ("tls", tls::a_session_begun_at_one_worker_is_resumed_at_another),
        ("tls_tickets", tls::tickets_are_opened_by_their_keys_alone),
        ("metrics", metrics::any_worker_serves_the_figures_of_all),
        ("tasks", tasks::primes_are_counted_also_when_a_worker_dies),
        ("counter", state::counter),
        ("sessions", state::sessions),
        ("rate_limiter", state::rate_limiter),
        ("configuration", state::configuration),
    ])
}
