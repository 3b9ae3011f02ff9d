//! So many slots.

mod common;

use cluster_supervisor::{Budget, Roll, WorkerState};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

/// Of three slots the first was given up.
fn with_one_given_up() -> Stage {
    let mut stage = serving(3, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.look_away();
    stage
}

#[test]
fn a_slot_that_was_given_up_counts_and_is_not_started_again() {
    let mut stage = with_one_given_up();
    assert_eq!(stage.supervisor.size(), 3);
    stage.supervisor.scale(3, stage.now);
    assert_eq!(stage.actions(), []);
    stage.supervisor.scale(4, stage.now);
    assert_eq!(stage.spawns(), [id(3, 1)], "another one");
    assert_eq!(stage.supervisor.size(), 4);
}

#[test]
fn slots_that_were_given_up_go_first() {
    let mut stage = with_one_given_up();
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.stops(), []);
    assert_eq!(stage.supervisor.size(), 2);
    stage.roll(Roll::to(NEW));
    assert_eq!(stage.spawns(), [id(1, 2)], "a roll does not bring it back");
}

#[test]
fn a_slot_that_was_given_up_and_stopped_does_not_count_and_is_started_again() {
    let mut stage = with_one_given_up();
    stage.supervisor.stop(id(0, 1), stage.now);
    assert_eq!(stage.supervisor.size(), 2);
    stage.supervisor.scale(3, stage.now);
    assert_eq!(stage.spawns(), [id(0, 2)]);
}

#[test]
fn the_last_started_go_first_wherever_they_are() {
    let mut stage = serving(3, policy());
    stage.supervisor.stop(id(0, 1), stage.now);
    stage.leaves(id(0, 1));
    stage.supervisor.scale(3, stage.now);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.scale(1, stage.now);
    assert_eq!(stage.stops(), [id(0, 2), id(2, 1)]);
}

#[test]
fn one_in_back_off_counts_and_its_back_off_ends_with_it() {
    let mut stage = serving(2, policy());
    stage.exit(id(1, 1), SIGABRT);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.exit(id(1, 2), SIGABRT);
    stage.look_away();
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.actions(), []);
    stage.supervisor.scale(1, stage.now);
    assert_eq!(stage.states(), [WorkerState::Ready, WorkerState::Stopped]);
    assert_eq!(stage.supervisor.poll_timeout(), None);
}

#[test]
fn with_none_all_go_and_with_some_they_come_again() {
    let mut stage = serving(2, policy());
    stage.supervisor.scale(0, stage.now);
    assert_eq!(stage.stops(), [id(1, 1), id(0, 1)]);
    stage.supervisor.scale(1, stage.now);
    assert_eq!(stage.spawns(), [id(2, 1)], "nobody is started beside one that drains");
    stage.leaves(id(0, 1));
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.spawns(), [id(0, 2)]);
}

#[test]
fn a_slot_that_was_stopped_and_started_before_it_was_given_up_counts() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.supervisor.stop(id(0, 1), stage.now);
    stage.leaves(id(0, 1));
    stage.supervisor.start(stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!((stage.supervisor.given_up().count(), stage.supervisor.size()), (1, 1));
}
