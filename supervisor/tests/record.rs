//! What is held against a slot while its workers are replaced: failures in a row, and the budget.

mod common;

use std::time::Duration;

use cluster_supervisor::{Budget, Group, Roll};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

fn has_given_up(stage: &Stage) -> bool {
    stage.supervisor.given_up().next().is_some()
}

#[test]
fn crashes_count_also_while_a_successor_is_on_its_way() {
    let mut stage = serving(1, policy().budget(Budget::new(2, 60 * SECOND)));
    for generation in 1..=3 {
        stage.supervisor.replace(id(0, generation), stage.now);
        stage.look_away();
        assert!(!has_given_up(&stage));
        stage.exit(id(0, generation), SIGABRT);
        stage.becomes_ready(id(0, generation + 1));
    }
    assert!(has_given_up(&stage));
    assert_eq!(stage.supervisor.slots().next().unwrap().restarts(), 2);
}

#[test]
fn the_successor_of_one_that_is_given_up_goes_too() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.stops(), [id(0, 2)]);
    stage.leaves(id(0, 2));
    assert!(stage.supervisor.is_done());
}

#[test]
fn a_crash_beside_a_successor_of_another_release_is_not_held_against_it() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.roll(Roll::to(NEW).bake(60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 1), SIGABRT);
    assert!(!has_given_up(&stage));
    assert_eq!(stage.ready_count(), 1);
}

#[test]
fn another_release_begins_with_a_clean_record_and_the_same_one_does_not() {
    for (roll, gives_up) in [(Roll::same(), true), (Roll::to(NEW), false)] {
        let mut stage = serving(1, policy().budget(Budget::new(1, 60 * SECOND)));
        stage.exit(id(0, 1), SIGABRT);
        stage.becomes_ready(id(0, 2));
        stage.roll(roll);
        stage.takes_over(id(0, 3));
        assert_eq!(stage.supervisor.slots().next().unwrap().failures(), u32::from(gives_up));
        stage.exit(id(0, 3), SIGABRT);
        assert_eq!(has_given_up(&stage), gives_up);
    }
}

#[test]
fn the_service_of_a_predecessor_counts_once() {
    const BAKE: Duration = Duration::from_secs(10);
    // It serves for a while, and then beside its successor, whose own service counts when it crashes.
    for (alone, gives_up) in [(50 * SECOND - common::MILLISECOND, true), (50 * SECOND, false)] {
        let mut stage = serving(1, policy().budget(Budget::new(1, 60 * SECOND)));
        stage.exit(id(0, 1), SIGABRT);
        stage.becomes_ready(id(0, 2));
        stage.jump(alone);
        stage.roll(Roll::same().bake(BAKE));
        stage.becomes_ready(id(0, 3));
        stage.jump(BAKE);
        stage.leaves(id(0, 2));
        stage.exit(id(0, 3), SIGABRT);
        assert_eq!(has_given_up(&stage), gives_up, "after {alone:?} alone");
    }
}

#[test]
fn what_a_predecessor_served_before_a_crash_does_not_refill_the_budget() {
    let mut stage = serving(1, policy().budget(Budget::new(2, 60 * SECOND)));
    stage.jump(3600 * SECOND);
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(0, 3), SIGABRT);
    stage.leaves(id(0, 1));
    stage.next_deadline();
    stage.supervisor.handle_spawned(id(0, 4), stage.now);
    stage.exit(id(0, 4), SIGABRT);
    assert!(has_given_up(&stage), "3 crashes in a second, budget of 2 in 60 s");
}

#[test]
fn a_stable_run_that_ended_in_a_replacement_is_a_stable_run() {
    let mut stage = Stage::new(policy());
    stage.supervisor.start(stage.now);
    for generation in 1..=5 {
        stage.supervisor.handle_spawned(id(0, generation), stage.now);
        stage.exit(id(0, generation), SIGABRT);
        if stage.supervisor.poll_timeout().is_some() {
            stage.next_deadline();
        }
    }
    stage.becomes_ready(id(0, 6));
    stage.jump(30 * SECOND);
    stage.supervisor.replace(id(0, 6), stage.now);
    stage.takes_over(id(0, 7));
    stage.look_away();
    stage.exit(id(0, 7), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 8)], "at once");
}

#[test]
fn a_stable_run_that_ended_for_a_successor_to_come_is_a_stable_run() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1));
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.jump(30 * SECOND);
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.leaves(id(0, 2));
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 0);
    stage.becomes_ready(id(0, 3));
    stage.look_away();
    stage.exit(id(0, 3), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 4)], "at once");
}

#[test]
fn a_slot_that_was_given_up_and_gets_another_chance_has_its_whole_budget() {
    let mut stage = serving(1, policy().budget(Budget::new(1, 60 * SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert!(has_given_up(&stage));
    stage.roll(Roll::same());
    stage.becomes_ready(id(0, 3));
    stage.exit(id(0, 3), SIGABRT);
    assert!(!has_given_up(&stage));
    stage.supervisor.handle_spawned(id(0, 4), stage.now);
    stage.exit(id(0, 4), SIGABRT);
    assert!(has_given_up(&stage));
}

#[test]
fn failures_beside_a_successor_and_its_own_are_failures_in_a_row() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 2);
    assert_eq!(stage.next_deadline(), SECOND);
}

#[test]
fn what_a_predecessor_served_counts_also_when_its_successor_fails() {
    let mut stage = serving(1, policy().budget(Budget::new(1, 60 * SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.jump(60 * SECOND);
    stage.roll(Roll::to(NEW));
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(0, 3), SIGABRT);
    stage.becomes_ready(id(0, 4));
    stage.exit(id(0, 4), SIGABRT);
    assert!(!has_given_up(&stage), "the crash of 0.1 is a minute of service ago");
}

#[test]
fn what_one_served_counts_that_has_to_go_for_its_group() {
    let mut stage = serving(2, policy().group(Group::OneForAll).budget(Budget::new(1, 60 * SECOND)));
    stage.exit(id(1, 1), SIGABRT);
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.becomes_ready(id(1, 2));
    stage.jump(60 * SECOND);
    stage.exit(id(0, 2), SIGABRT);
    stage.leaves(id(1, 2));
    stage.becomes_ready(id(0, 3));
    stage.becomes_ready(id(1, 3));
    stage.exit(id(1, 3), SIGABRT);
    assert!(!has_given_up(&stage));
}
