//! Child specifications, with real processes: this test is its own trampoline.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic, and tells what it skips"
)]

mod failures;
mod look;
mod notify;
mod plain;
mod privileges;
mod scenes;
mod settings;

use cluster_supervisor::os::trampoline;
use libtest_mimic::{Arguments, Trial};

fn main() {
    if scenes::forgets_its_trampoline() {
        return;
    }
    trampoline();
    if scenes::play() {
        return;
    }
    let tests: [(&str, fn()); 40] = [
        ("arguments_and_environment", plain::arguments_and_environment_arrive_on_both_ways),
        ("a_cleared_environment", plain::a_cleared_environment_has_only_what_was_set_after),
        ("service_manager", plain::what_a_service_manager_tells_us_stays_with_us),
        ("piped_streams", plain::piped_streams_are_non_blocking_here_and_blocking_there),
        ("given_streams", plain::a_given_descriptor_serves_each_child),
        ("scripts", plain::a_script_runs_by_its_path_and_is_not_pinned),
        ("pinned", plain::a_deleted_program_runs_on_both_ways),
        ("current", plain::the_running_program_has_the_path_that_it_was_started_from),
        ("closed_stdin", plain::an_executable_takes_the_place_of_no_standard_stream),
        ("found_in_path", plain::a_name_is_looked_up_in_path),
        ("groups_and_sessions", settings::groups_and_sessions),
        ("limits", settings::limits_nice_cpus_oom_score_and_umask_are_applied),
        ("directory", settings::the_directory_is_entered),
        ("listeners", settings::listeners_and_descriptors_are_there_and_nothing_else),
        ("taken_numbers", settings::numbers_that_somebody_has_taken_are_given_all_the_same),
        ("signals", settings::no_signal_is_ignored_or_blocked_after_the_trampoline),
        ("user", settings::the_user_is_set_last_and_completely),
        ("limits_before_user", scenes::limits_are_set_before_the_user),
        ("own_user", settings::ones_own_user_takes_no_privilege),
        ("death_signal", settings::the_death_signal_comes_when_the_spawning_thread_ends),
        ("death_signal_of_a_process", scenes::a_child_follows_a_parent_that_was_killed),
        ("bad_settings", failures::a_setting_that_fails_comes_back_with_operation_and_cause),
        ("invalid", failures::what_can_not_be_is_refused_before_anything_starts),
        ("bad_programs", failures::a_program_that_can_not_start_comes_back_on_both_ways),
        ("unknown_formats", failures::a_file_that_the_kernel_does_not_know_is_given_to_no_shell),
        ("empty_files", failures::an_empty_file_is_no_executable),
        ("bad_directories", failures::a_bad_directory_is_named_on_both_ways),
        ("no_proc", failures::a_missing_proc_is_named_on_both_ways),
        ("private_directory", failures::the_directory_is_entered_as_the_user),
        ("no_trampoline", scenes::a_program_without_a_trampoline_is_told_what_to_do),
        ("forgotten_trampoline", scenes::a_child_that_is_no_trampoline_is_ended),
        ("notifications", notify::a_childs_notifications_arrive_and_a_strangers_do_not),
        ("notifications_of_a_tree", notify::a_grandchild_counts_where_the_tree_does),
        ("odd_datagrams", notify::datagrams_that_are_too_long_or_carry_descriptors_are_dropped),
        ("ready_pipe", notify::a_line_on_a_descriptor_is_ready_and_its_end_is_not),
        ("strangers", scenes::a_trampoline_refuses_strangers),
        ("privileged_files", privileges::a_trampoline_with_privileges_by_its_file_obeys_nobody),
        ("capabilities", privileges::no_capability_survives_a_change_of_the_user),
        ("unstoppable", privileges::a_child_that_may_not_be_killed_is_not_started_or_given_back),
        ("somebody_elses_socket", privileges::a_trampoline_obeys_only_its_parent),
    ];
    let mut arguments = Arguments::from_args();
    // One at a time: they count the children and descriptors of this process.
    arguments.test_threads = Some(1);
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            look::leaving_nothing_behind(test);
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, tests.map(trial).into()).exit()
}
