//! How many workers may be too many while some are replaced, and how many may be missing.

mod common;

use cluster_supervisor::{Action, Budget, Policy, Roll, WorkerState};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

/// Of three slots the last is in back-off.
fn with_a_back_off(policy: Policy) -> Stage {
    let mut stage = serving(3, policy);
    stage.exit(id(2, 1), SIGABRT);
    stage.becomes_ready(id(2, 2));
    stage.exit(id(2, 2), SIGABRT);
    stage.look_away();
    assert_eq!(stage.states()[2], WorkerState::Backoff);
    stage
}

#[test]
fn a_slot_in_back_off_leaves_its_place_to_nobody() {
    let mut stage = with_a_back_off(policy());
    stage.roll(Roll::to(NEW));
    let living = stage.supervisor.workers().count();
    assert!(living <= 4, "{living} live for 3 slots and one more");
}

#[test]
fn nobody_takes_the_place_of_one_that_comes_back_from_its_back_off() {
    let mut stage = with_a_back_off(policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.replace(id(1, 1), stage.now);
    stage.next_deadline();
    assert_eq!(stage.spawns(), [id(0, 2), id(2, 3)]);
    assert_eq!(stage.supervisor.workers().count(), 4, "for 3 slots and one more");
}

#[test]
fn a_slot_that_was_given_up_is_one_without_a_ready_worker() {
    let one = policy().max_surge(0).max_unavailable(1).budget(Budget::new(0, SECOND));
    let mut stage = serving(3, one);
    stage.exit(id(0, 1), SIGABRT);
    stage.look_away();
    stage.supervisor.replace(id(1, 1), stage.now);
    assert_eq!(stage.stops(), []);
    stage.supervisor.stop(id(0, 1), stage.now);
    assert_eq!(stage.stops(), [id(1, 1)], "it is not missed any more");
}

#[test]
fn a_roll_does_not_wait_for_those_it_cannot_bring_back() {
    let one = policy().max_surge(0).max_unavailable(1).budget(Budget::new(0, SECOND));
    let mut stage = serving(4, one);
    stage.roll(Roll::to(NEW));
    for slot in 0..2 {
        stage.leaves(id(slot, 1));
        stage.becomes_ready(id(slot, 2));
    }
    stage.leaves(id(2, 1));
    stage.supervisor.handle_spawn_failed(id(2, 2), stage.now);
    stage.exit(id(3, 1), SIGABRT);
    assert_eq!(stage.states()[3], WorkerState::GaveUp);
    stage.next_deadline();
    stage.look_away();
    stage.becomes_ready(id(2, 3));
    assert_eq!(stage.stops(), [id(1, 2)], "slot 3 was not replaced, so it has nothing to go back to");
}

#[test]
fn a_slot_whose_successor_serves_is_not_one_without_a_ready_worker() {
    let mut stage = serving(2, policy().max_unavailable(1));
    stage.roll(Roll::to(NEW).canaries(1, 60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.handle_unhealthy(id(0, 1), stage.now);
    stage.look_away();
    stage.supervisor.replace(id(1, 1), stage.now);
    assert_eq!(stage.stops(), [id(1, 1)]);
}

#[test]
fn a_slot_whose_successor_is_not_ready_yet_is_one_without_a_ready_worker() {
    let mut stage = serving(2, policy().max_unavailable(1));
    stage.roll(Roll::to(NEW).canaries(1, 60 * SECOND));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.supervisor.handle_unhealthy(id(0, 1), stage.now);
    stage.look_away();
    stage.supervisor.replace(id(1, 1), stage.now);
    assert_eq!(stage.stops(), []);
    stage.supervisor.handle_ready(id(0, 2), stage.now);
    assert_eq!(stage.stops(), [id(1, 1)]);
}

#[test]
fn there_are_never_more_than_the_surge_while_predecessors_drain() {
    for (surge, unavailable, at_once) in [(0, 0, 1), (1, 0, 1), (2, 0, 2), (9, 0, 4)] {
        let mut stage = serving(4, policy().max_surge(surge).max_unavailable(unavailable));
        stage.roll(Roll::to(NEW));
        let spawns = stage.spawns();
        assert_eq!(spawns.len(), at_once, "surge {surge}");
        spawns.into_iter().for_each(|id| stage.becomes_ready(id));
        assert_eq!(stage.spawns(), [], "those before them have not gone");
    }
}

#[test]
fn where_both_are_allowed_some_come_beside_and_others_after() {
    let mut stage = serving(4, policy().max_surge(1).max_unavailable(2));
    stage.roll(Roll::to(NEW));
    let (beside, after) = (Action::Spawn(id(0, 2)), [id(1, 1), id(2, 1)].map(Action::AskStop));
    assert_eq!(stage.spawns_and_stops(), [beside, after[0], after[1]]);
    assert_eq!(stage.ready_count(), 2);
}

#[test]
fn a_slot_that_was_given_up_and_comes_back_is_none_too_many() {
    let mut stage = serving(3, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.look_away();
    stage.roll(Roll::to(NEW));
    assert_eq!(stage.spawns(), [id(0, 2), id(1, 2)], "four for three slots and one more");
}

#[test]
fn a_slot_that_was_given_up_and_comes_back_is_missing_until_it_is_ready() {
    let one = policy().max_surge(0).max_unavailable(1).budget(Budget::new(0, SECOND));
    for slot in [0, 2] {
        let mut stage = serving(3, one.clone());
        stage.exit(id(slot, 1), SIGABRT);
        stage.look_away();
        stage.roll(Roll::to(NEW));
        assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(slot, 2))]);
        stage.becomes_ready(id(slot, 2));
        assert_eq!(stage.stops().len(), 1, "now the next");
    }
}

#[test]
fn a_slot_that_is_not_wanted_any_more_gives_no_room_while_its_worker_lives() {
    let mut stage = serving(3, policy());
    stage.supervisor.stop(id(2, 1), stage.now);
    stage.look_away();
    stage.roll(Roll::to(NEW));
    assert_eq!(stage.spawns(), [], "three live for two slots");
    stage.leaves(id(2, 1));
    assert_eq!(stage.spawns(), [id(0, 2)]);
}
