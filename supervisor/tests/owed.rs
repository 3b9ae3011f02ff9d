//! Slots whose worker made way for a successor that came to nothing: they get one of their own release, and no more than that.

mod common;

use cluster_supervisor::{Backoff, Budget, Exit, ExitCodes, Figures, Policy, Release, Restart, Roll};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

fn one_at_a_time() -> Policy {
    policy().max_surge(0).max_unavailable(1)
}

/// The one slot was vacated, and its successor is spawned.
fn vacated(policy: Policy, roll: Roll) -> Stage {
    let mut stage = serving(1, policy);
    stage.roll(roll);
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage
}

#[test]
fn it_comes_once_and_then_the_restart_policy_holds_again() {
    for roll in [Roll::same(), Roll::to(NEW)] {
        let mut stage = vacated(one_at_a_time().restart(Restart::Never), roll);
        stage.exit(id(0, 2), SIGABRT);
        assert_eq!(stage.spawns(), [id(0, 3)], "Restart::Never, but the roll took what was there");
        assert_eq!(stage.supervisor.release_of(id(0, 3)), Some(Release::default()));
        stage.becomes_ready(id(0, 3));
        stage.look_away();
        stage.exit(id(0, 3), SIGABRT);
        assert_eq!(stage.spawns(), []);
        assert!(stage.supervisor.is_done());
    }
}

#[test]
fn a_failure_of_the_same_release_is_one_of_the_slot() {
    let mut stage = vacated(one_at_a_time().budget(Budget::new(1, SECOND)), Roll::same());
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(0, 3), SIGABRT);
    assert_eq!(stage.supervisor.given_up().count(), 1);
}

#[test]
fn a_failure_of_another_release_is_none_of_the_slot() {
    let mut stage = vacated(one_at_a_time().budget(Budget::new(0, SECOND)), Roll::to(NEW));
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 3)]);
    let slot = stage.supervisor.slots().next().unwrap();
    assert_eq!((slot.failures(), slot.restarts()), (0, 0));
}

#[test]
fn a_successor_of_another_release_that_says_that_no_restart_will_help_speaks_for_itself() {
    let hopeless = one_at_a_time().hopeless(ExitCodes::of(&[78]));
    let mut stage = vacated(hopeless.clone(), Roll::to(NEW));
    stage.exit(id(0, 2), Exit::Code(78));
    assert_eq!(stage.spawns(), [id(0, 3)]);
    assert_eq!(stage.supervisor.given_up().count(), 0);

    let mut stage = serving(1, hopeless.max_surge(1));
    stage.roll(Roll::to(NEW));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 1), SIGABRT);
    stage.exit(id(0, 2), Exit::Code(78));
    assert_eq!(stage.spawns(), [id(0, 3)], "its predecessor crashed meanwhile");
    assert_eq!(stage.supervisor.given_up().count(), 0);
}

#[test]
fn a_finished_job_is_not_run_again_after_a_successor_that_could_not_be_spawned() {
    for restart in [Restart::OnFailure, Restart::Never] {
        let mut stage = serving(2, one_at_a_time().restart(restart));
        stage.roll(Roll::to(NEW));
        stage.leaves(id(0, 1));
        stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
        stage.look_away();
        stage.next_deadline();
        assert_eq!(stage.spawns(), [id(0, 3)]);
        stage.becomes_ready(id(0, 3));
        stage.leaves(id(0, 3));
        assert_eq!(stage.spawns(), [], "{restart:?}: its work is done");
    }
}

#[test]
fn nothing_is_owed_to_a_slot_that_was_stopped_and_started_meanwhile() {
    for is_spawned in [true, false] {
        let mut stage = serving(1, one_at_a_time().restart(Restart::Never));
        stage.roll(Roll::to(NEW));
        stage.leaves(id(0, 1));
        if is_spawned {
            stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
            stage.supervisor.stop(id(0, 2), stage.now);
        } else {
            stage.supervisor.stop(id(0, 2), stage.now);
            stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
        }
        let again = stage.supervisor.start(stage.now);
        stage.becomes_ready(again);
        stage.look_away();
        stage.exit(again, SIGABRT);
        assert_eq!(stage.spawns(), [], "Restart::Never");
    }
}

#[test]
fn nothing_is_owed_to_a_slot_that_is_stopped_while_its_failed_successor_leaves() {
    let mut stage = vacated(one_at_a_time(), Roll::to(NEW).bake(60 * SECOND));
    stage.supervisor.handle_ready(id(0, 2), stage.now);
    stage.supervisor.handle_figures(id(0, 2), Figures::new(99, 99), stage.now);
    assert_eq!(stage.stops(), [id(0, 2)]);
    stage.supervisor.stop(id(0, 2), stage.now);
    stage.leaves(id(0, 2));
    assert_eq!(stage.spawns(), []);
    assert!(stage.supervisor.is_done());
}

#[test]
fn a_successor_that_fails_its_requests_is_followed_by_the_old_release_once_it_has_gone() {
    let mut stage = vacated(one_at_a_time().restart(Restart::Never), Roll::to(NEW).bake(60 * SECOND));
    stage.supervisor.handle_ready(id(0, 2), stage.now);
    stage.supervisor.handle_figures(id(0, 2), Figures::new(99, 99), stage.now);
    assert_eq!(stage.stops(), [id(0, 2)]);
    stage.leaves(id(0, 2));
    assert_eq!(stage.spawns(), [id(0, 3)]);
    assert_eq!(stage.supervisor.release_of(id(0, 3)), Some(Release::default()));
}

#[test]
fn a_vacated_worker_that_has_something_else_to_say_is_heard() {
    // It was asked to go and crashes instead: its successor comes all the same.
    let mut stage = serving(1, one_at_a_time().backoff(Backoff::new().base(SECOND)));
    stage.roll(Roll::to(NEW));
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 2)]);
    assert_eq!(stage.supervisor.slots().next().unwrap().restarts(), 0);
}

#[test]
fn nothing_is_owed_to_a_slot_whose_worker_lives() {
    let mut stage = serving(1, policy().restart(Restart::Never));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.spawns(), []);
}
