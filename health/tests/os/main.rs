//! Real processes, and files that pretend to be of one: what is read of them.
//!
//! The processes are this binary, started once more with a role. Then it runs no test, whatever the role is: a child
//! never starts another one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "it says what it skips")]
#![allow(clippy::disallowed_methods, reason = "tests with real processes have a clock and threads")]

mod children;
mod fake;
mod probes;
mod reports;
mod roles;
mod sampling;

use libtest_mimic::{Arguments, Trial};

const TESTS: &[(&str, fn())] = &[
    ("a_sleeping_child_has_figures", sampling::a_sleeping_child_has_figures),
    ("processor_time_grows_while_it_spins", sampling::processor_time_grows_while_it_spins),
    ("resident_memory_grows_by_what_is_touched", sampling::resident_memory_grows_by_what_is_touched),
    ("open_files_are_counted", sampling::open_files_are_counted),
    ("a_child_that_is_not_reaped_is_gone", sampling::a_child_that_is_not_reaped_is_gone),
    ("a_reaped_child_is_gone_even_if_others_live", sampling::a_reaped_child_is_gone),
    ("a_sampler_keeps_four_descriptors", sampling::a_sampler_keeps_four_descriptors),
    ("the_limit_of_open_files_is_told", sampling::the_limit_of_open_files_is_told),
    ("a_thread_of_the_child_is_no_process", sampling::a_thread_is_no_process),
    ("a_child_of_another_user_has_figures", sampling::a_child_of_another_user_has_figures),
    ("a_stopped_child_is_told", reports::a_stopped_child_is_told),
    ("a_spinning_child_is_told", reports::a_spinning_child_is_told),
    ("a_child_that_reads_is_told", reports::a_child_that_reads_is_told),
    ("a_deadlock_is_told", reports::a_deadlock_is_told),
    ("a_zombie_is_told", reports::a_zombie_is_told),
    ("more_than_64_threads_are_counted", reports::more_than_64_threads_are_counted),
    ("names_are_escaped", reports::names_are_escaped),
    ("a_prober_leaves_nothing_behind", probes::a_prober_leaves_nothing_behind),
    ("want_of_descriptors_is_nobodys_fault", probes::want_of_descriptors_is_nobodys_fault),
    ("a_fake_tree_is_read", fake::a_fake_tree_is_read),
    ("nonsense_is_refused", fake::nonsense_is_refused),
    ("without_proc_the_remedy_is_told", fake::without_proc_the_remedy_is_told),
    ("a_proc_of_another_namespace_is_refused", fake::a_proc_of_another_namespace_is_refused),
    ("a_hidden_process_is_not_gone", fake::a_hidden_process_is_not_gone),
    ("a_cgroup_is_read", fake::a_cgroup_is_read),
    ("pressure_is_read", fake::pressure_is_read),
    ("this_machine_has_pressure_or_not", fake::this_machine_has_pressure_or_not),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(roles::FLAG) {
        let role = arguments.next().unwrap_or_default();
        roles::play(&role, &arguments.next().unwrap_or_default());
    }
    let mut arguments = Arguments::from_args();
    // They count descriptors and change limits of this process.
    arguments.test_threads = Some(1);
    let trials = TESTS.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
