//! The first of a roll: each alone, and nobody else until all of them are good.

mod common;

use cluster_supervisor::{Budget, Roll, RollOutcome};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

/// A roll of four slots with room for all at once.
fn with_canaries(canaries: u32) -> Stage {
    let mut stage = serving(4, policy().max_surge(8));
    stage.roll(Roll::to(NEW).canaries(canaries, 10 * SECOND).bake(SECOND));
    stage
}

#[test]
fn they_come_one_after_the_other_and_then_all_others() {
    let mut stage = with_canaries(2);
    for slot in 0..2 {
        assert_eq!(stage.spawns(), [id(slot, 2)]);
        stage.becomes_ready(id(slot, 2));
        stage.look_away();
        assert_eq!(stage.next_deadline(), 10 * SECOND);
    }
    assert_eq!(stage.spawns(), [id(2, 2), id(3, 2)]);
    stage.becomes_ready(id(2, 2));
    stage.leaves(id(0, 1));
    stage.leaves(id(1, 1));
    assert_eq!(stage.next_deadline(), SECOND, "those bake for a shorter time");
}

#[test]
fn a_stop_of_another_slot_does_not_open_the_way_past_them() {
    let mut stage = with_canaries(1);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.stop(id(1, 1), stage.now);
    assert_eq!(stage.spawns(), [], "the canary has not been judged");
}

#[test]
fn where_one_is_taken_away_the_next_slot_is_one() {
    let mut stage = with_canaries(1);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.stop(id(0, 1), stage.now);
    assert_eq!(stage.spawns(), [id(1, 2)], "nobody was found to be good");
    stage.leaves(id(0, 1));
    stage.leaves(id(0, 2));
    stage.becomes_ready(id(1, 2));
    stage.look_away();
    assert_eq!(stage.next_deadline(), 10 * SECOND);
    assert_eq!(stage.spawns(), [id(2, 2), id(3, 2)]);
}

#[test]
fn one_whose_worker_is_replaced_for_itself_meanwhile_comes_later() {
    let mut stage = serving(2, policy().max_surge(2));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.roll(Roll::to(NEW).canaries(1, 10 * SECOND));
    assert_eq!(stage.spawns(), [id(0, 2), id(1, 2)], "slot 0 is busy");
    stage.takes_over(id(0, 2));
    assert_eq!(stage.spawns(), [], "1.2 is a canary");
    stage.becomes_ready(id(1, 2));
    stage.jump(10 * SECOND);
    assert_eq!(stage.spawns(), [id(0, 3)]);
}

#[test]
fn the_second_may_fail_after_a_good_first() {
    let mut stage = with_canaries(2);
    stage.becomes_ready(id(0, 2));
    stage.next_deadline();
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.look_away();
    stage.exit(id(1, 2), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 3)]);
    stage.takes_over(id(0, 3));
    assert!(matches!(stage.outcome(), Some(RollOutcome::Failed { .. })));
    assert_eq!(stage.releases(), [0; 4]);
}

#[test]
fn many_go_back_at_once_whatever_the_number_of_canaries() {
    let mut stage = with_canaries(3);
    for slot in 0..2 {
        stage.becomes_ready(id(slot, 2));
        stage.jump(10 * SECOND);
        stage.leaves(id(slot, 1));
    }
    stage.look_away();
    stage.supervisor.handle_spawn_failed(id(2, 2), stage.now);
    assert_eq!(stage.spawns(), [id(1, 3), id(0, 3)]);
}

#[test]
fn more_of_them_than_slots_are_all_of_them() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).canaries(9, SECOND));
    for slot in 0..2 {
        stage.becomes_ready(id(slot, 2));
        stage.jump(SECOND);
        stage.leaves(id(slot, 1));
    }
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
}

#[test]
fn a_slot_that_was_given_up_and_stopped_since_is_not_revived() {
    let mut stage = serving(3, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(2, 1), SIGABRT);
    stage.roll(Roll::to(NEW).canaries(1, SECOND));
    stage.look_away();
    stage.supervisor.stop(id(2, 1), stage.now);
    for slot in 0..2 {
        stage.becomes_ready(id(slot, 2));
        stage.jump(SECOND);
        stage.leaves(id(slot, 1));
    }
    assert_eq!(stage.spawns(), [id(1, 2)]);
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed), "the roll does not wait for it");
}
