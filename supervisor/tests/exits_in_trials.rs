//! What the end of a worker counts as while it is being replaced, or right after it was.

mod common;

use cluster_supervisor::{Budget, Exit, ExitCodes, Restart, Roll, RollOutcome};
use common::{NEW, SECOND, SIGABRT, id, policy, serving};

#[test]
fn a_job_that_is_done_after_it_was_replaced_is_neither_a_crash_nor_run_again() {
    for restart in [Restart::OnFailure, Restart::Never] {
        let mut stage = serving(2, policy().restart(restart));
        stage.roll(Roll::to(NEW));
        stage.takes_over(id(0, 2));
        stage.look_away();
        stage.leaves(id(0, 2));
        assert_eq!(stage.spawns(), [], "{restart:?}: its work is done");
        stage.takes_over(id(1, 2));
        assert_eq!(stage.outcome(), Some(RollOutcome::Completed), "{restart:?}");
    }
}

#[test]
fn a_job_that_is_done_while_a_successor_is_on_its_way_has_not_failed() {
    let mut stage = serving(1, policy().restart(Restart::OnFailure).budget(Budget::new(0, SECOND)));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.look_away();
    stage.leaves(id(0, 1));
    assert_eq!(stage.supervisor.given_up().count(), 0);
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 0);
}

#[test]
fn a_crash_after_a_stable_run_is_the_first_again_also_while_a_successor_is_on_its_way() {
    let mut stage = serving(1, policy());
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.jump(60 * SECOND);
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 1);
}

#[test]
fn a_code_that_says_that_no_restart_will_help_is_heard_beside_a_successor_of_the_same_release() {
    let mut stage = serving(1, policy().hopeless(ExitCodes::of(&[78])));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.exit(id(0, 1), Exit::Code(78));
    assert_eq!(stage.supervisor.given_up().count(), 1);
}

/// The same for a successor of the same release that came to a vacated slot: "its failure is the slot's".
#[test]
fn a_code_that_says_that_no_restart_will_help_is_heard_of_a_successor_of_the_same_release() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1).hopeless(ExitCodes::of(&[78])));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 2), Exit::Code(78));
    assert_eq!(stage.supervisor.given_up().count(), 1);
}

#[test]
fn a_replacement_of_one_that_came_to_a_vacated_slot_is_not_forgotten_when_it_is_fit() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.supervisor.handle_ready(id(0, 2), stage.now);
    assert_eq!(stage.stops(), [id(0, 2)], "asked for, and neither refused nor done");
}
