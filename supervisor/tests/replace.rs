//! Replacing one worker for its own sake.

mod common;

use cluster_supervisor::{Event, Group, Roll, Unfit, WorkerState};
use common::{NEW, SECOND, SIGABRT, SIGKILL, Stage, id, policy, serving};

#[test]
fn a_replacement_that_waits_dies_with_the_worker_it_was_for() {
    let mut stage = serving(2, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.replace(id(1, 1), stage.now);
    assert_eq!(stage.spawns(), [id(0, 2)]);
    stage.exit(id(1, 1), SIGABRT);
    stage.becomes_ready(id(1, 2));
    stage.look_away();
    stage.takes_over(id(0, 2));
    assert_eq!(stage.spawns(), [], "1.2 is new and nobody asked for its replacement");
}

#[test]
fn a_replacement_that_waits_is_no_way_around_a_back_off() {
    let mut stage = serving(2, policy());
    stage.exit(id(1, 1), SIGABRT);
    stage.becomes_ready(id(1, 2));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.replace(id(1, 2), stage.now);
    stage.look_away();
    stage.exit(id(1, 2), SIGABRT);
    assert_eq!(stage.spawns(), []);
    stage.takes_over(id(0, 2));
    assert_eq!(stage.spawns(), []);
    assert_eq!(stage.next_deadline(), SECOND);
}

#[test]
fn one_that_is_not_ready_holds_up_no_other() {
    let mut stage = Stage::new(policy());
    let (first, second) = (stage.starting(), stage.ready());
    stage.supervisor.replace(first, stage.now);
    stage.supervisor.replace(second, stage.now);
    assert_eq!(stage.spawns(), [id(1, 2)]);
}

#[test]
fn nothing_happens_for_one_that_is_on_its_way_out() {
    let mut stage = serving(1, policy());
    stage.supervisor.handle_unhealthy(id(0, 1), stage.now);
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.exit(id(0, 1), SIGKILL);
    stage.look_away();
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.spawns(), []);
}

#[test]
fn nothing_happens_for_one_that_is_not_its_slots_own() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    for other in [id(0, 1), id(0, 9), id(9, 1)] {
        stage.supervisor.replace(other, stage.now);
    }
    stage.leaves(id(0, 1));
    assert_eq!(stage.actions(), []);
}

#[test]
fn twice_is_once() {
    let mut stage = serving(2, policy());
    stage.supervisor.replace(id(1, 1), stage.now);
    for _ in 0..2 {
        stage.supervisor.replace(id(0, 1), stage.now);
    }
    assert_eq!(stage.spawns(), [id(1, 2)]);
    stage.takes_over(id(1, 2));
    assert_eq!(stage.spawns(), [id(0, 2)]);
    stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
    assert_eq!(stage.spawns(), []);
}

#[test]
fn one_that_a_roll_replaces_already_is_not_replaced_again() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.replace(id(0, 1), stage.now);
    assert_eq!(stage.spawns(), [id(0, 2)]);
    stage.takes_over(id(0, 2));
    stage.takes_over(id(1, 2));
    assert_eq!(stage.spawns(), [id(1, 2)]);
}

#[test]
fn it_waits_until_the_worker_is_ready() {
    let mut stage = Stage::new(policy());
    let worker = stage.spawning();
    stage.supervisor.replace(worker, stage.now);
    assert_eq!(stage.spawns(), []);
    stage.supervisor.handle_spawned(worker, stage.now);
    assert_eq!(stage.spawns(), []);
    stage.supervisor.handle_ready(worker, stage.now);
    assert_eq!(stage.spawns(), [id(0, 2)]);
}

#[test]
fn a_successor_that_fails_is_not_tried_again() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.actions(), []);
    let why = "killed by signal 6 (SIGABRT) before it was ready";
    assert_eq!(stage.outcomes(), [format!("successor 0.2 did not take over: it {why}")]);
    let slot = stage.supervisor.slots().next().unwrap();
    assert_eq!((slot.current(), slot.failures()), (Some(id(0, 1)), 0));
}

#[test]
fn it_goes_past_a_pause_and_an_abort_of_a_roll() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.pause_roll();
    stage.takes_over(id(0, 2));
    stage.look_away();
    stage.supervisor.replace(id(2, 1), stage.now);
    assert_eq!(stage.spawns(), [id(2, 2)]);
    assert_eq!(stage.supervisor.release_of(id(2, 2)).map(|release| release.number()), Some(0));
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.stops(), [], "it is no part of the roll");
}

#[test]
fn a_successor_that_could_not_be_spawned_is_no_trouble_of_its_predecessor() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.look_away();
    stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
    let (failed, line) = (Event::SpawnFailed { id: id(0, 2), retry_in: None }, "could not be started");
    let events = stage.events();
    assert_eq!(events[0], failed);
    assert_eq!(events[1].to_string(), format!("successor 0.2 did not take over: it {line}"));
    assert_eq!(stage.states(), [WorkerState::Ready]);
    assert_eq!(stage.supervisor.poll_timeout(), None);
}

#[test]
fn it_waits_until_the_one_before_has_gone() {
    let mut stage = serving(1, policy().max_surge(9));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.replace(id(0, 2), stage.now);
    assert_eq!(stage.spawns(), []);
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns(), [id(0, 3)]);
}

#[test]
fn a_successor_on_trial_cannot_be_replaced() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW).bake(SECOND));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.jump(SECOND);
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns(), []);
}

#[test]
fn it_ends_with_a_shutdown() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.replace(id(1, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.shutdown(stage.now);
    // It waits for its turn to stop.
    stage.supervisor.replace(id(0, 1), stage.now);
    let recalled =
        |event: &Event| matches!(event, Event::ReplaceFailed { roll: None, reason: Unfit::Recalled, .. });
    assert!(stage.events().iter().any(recalled));
    assert_eq!(stage.stops(), [id(0, 2), id(1, 1)]);
    stage.leaves(id(0, 2));
    stage.leaves(id(1, 1));
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns(), []);
    assert!(stage.supervisor.is_done());
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.spawns(), [id(0, 3)], "what was wanted before is forgotten");
}

#[test]
fn a_stop_of_its_worker_ends_it() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.stop(id(0, 1), stage.now);
    assert_eq!(stage.stops(), [id(0, 2), id(0, 1)]);
    assert!(!stage.supervisor.slots().next().unwrap().is_wanted());
}
