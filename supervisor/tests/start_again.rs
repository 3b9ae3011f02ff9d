//! Starting a slot again that is down.

mod common;

use cluster_supervisor::{Action, Budget, Event, Exit, Group, Policy, Restart, WorkerId, WorkerState};
use common::{SECOND, SIGABRT, Stage, policy};

fn state_of(stage: &Stage, slot: u32) -> Option<WorkerState> {
    stage.supervisor.slots().find(|view| view.slot() == slot).map(|view| view.state())
}

#[test]
fn a_stopped_slot_starts_again_and_no_other_in_its_place() {
    let mut stage = Stage::new(policy());
    let (first, second) = (stage.ready(), stage.ready());
    for id in [first, second] {
        stage.supervisor.stop(id, stage.now);
        stage.exit(id, Exit::Code(0));
    }
    stage.look_away();
    let again = WorkerId::new(second.slot(), 2);
    assert_eq!(stage.supervisor.start_again(second.slot(), stage.now), Some(again));
    assert_eq!(stage.actions(), [Action::Spawn(again)]);
    assert_eq!(state_of(&stage, first.slot()), Some(WorkerState::Stopped));
}

#[test]
fn nobody_is_started_beside_somebody_who_lives() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    assert_eq!(stage.supervisor.start_again(id.slot(), stage.now), None, "it runs");
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    assert_eq!(stage.supervisor.start_again(id.slot(), stage.now), None, "it drains");
    assert_eq!(stage.supervisor.start_again(9, stage.now), None, "there is no such slot");
    assert_eq!((stage.actions(), stage.events()), (vec![], vec![]));
}

#[test]
fn a_back_off_ends_at_once_with_a_clean_record() {
    let mut stage = Stage::new(policy());
    let first = stage.starting();
    stage.exit(first, SIGABRT);
    let second = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawned(second, stage.now);
    stage.exit(second, SIGABRT);
    assert_eq!(state_of(&stage, 0), Some(WorkerState::Backoff));
    let third = stage.supervisor.start_again(0, stage.now).unwrap();
    assert_eq!(stage.actions(), [Action::Spawn(third)]);
    assert_eq!(stage.supervisor.poll_timeout(), None, "the back-off is over");
    stage.supervisor.handle_spawned(third, stage.now);
    stage.exit(third, SIGABRT);
    assert_eq!(stage.actions().len(), 1, "its first failure is answered at once");
}

#[test]
fn a_slot_that_was_given_up_has_its_whole_budget_again_and_the_policy_it_had() {
    let own = policy().restart(Restart::OnFailure).budget(Budget::new(1, 60 * SECOND));
    let mut stage = Stage::new(Policy::new());
    let mut id = stage.supervisor.start_with(own, stage.now);
    for life in 1..=2 {
        for is_last in [false, true] {
            stage.look_away();
            stage.supervisor.handle_spawned(id, stage.now);
            stage.exit(id, SIGABRT);
            let gave_up = stage.events().iter().any(|event| matches!(event, Event::GaveUp { .. }));
            assert_eq!(gave_up, is_last, "life {life}");
            if !is_last {
                id = Stage::spawned(&stage.actions());
            }
        }
        id = stage.supervisor.start_again(0, stage.now).unwrap();
    }
    assert_eq!(stage.supervisor.given_up().count(), 0);
}

#[test]
fn in_a_group_it_keeps_its_place_and_waits_for_its_turn() {
    let mut stage = Stage::new(policy().group(Group::RestForOne));
    let ids: Vec<WorkerId> = (0..3).map(|_| stage.supervisor.start(stage.now)).collect();
    ids.iter().for_each(|id| stage.becomes_ready(*id));
    stage.supervisor.stop(ids[1], stage.now);
    stage.exit(ids[1], Exit::Code(0));
    let again = stage.supervisor.start_again(1, stage.now).unwrap();
    stage.becomes_ready(again);
    stage.look_away();
    stage.exit(again, SIGABRT);
    assert_eq!(stage.stops(), [ids[2]], "the one after it goes down with it, as before");
}

#[test]
fn a_back_off_after_failed_spawns_begins_anew() {
    let mut stage = Stage::new(policy());
    let mut id = stage.spawning();
    for _ in 0..3 {
        stage.supervisor.handle_spawn_failed(id, stage.now);
        id = stage.supervisor.start_again(0, stage.now).unwrap();
    }
    stage.supervisor.handle_spawn_failed(id, stage.now);
    assert_eq!(stage.next_deadline(), SECOND);
}

#[test]
fn a_start_brings_its_own_policy_and_a_start_again_the_one_there_was() {
    let once = policy().restart(Restart::Never);
    let mut stage = Stage::new(policy());
    let first = stage.supervisor.start_with(once, stage.now);
    stage.exit(first, SIGABRT);
    let second = stage.supervisor.start_again(0, stage.now).unwrap();
    stage.look_away();
    stage.exit(second, SIGABRT);
    assert_eq!(stage.spawns(), []);
    let third = stage.spawning();
    stage.exit(third, SIGABRT);
    assert_eq!(stage.spawns(), [WorkerId::new(0, 4)]);
}

#[test]
fn in_a_group_it_comes_at_once_where_it_is_its_turn() {
    let mut stage = Stage::new(policy().group(Group::OneForAll));
    let only = stage.ready();
    stage.supervisor.stop(only, stage.now);
    stage.exit(only, Exit::Code(0));
    stage.look_away();
    let again = stage.supervisor.start_again(0, stage.now).unwrap();
    assert_eq!(stage.spawns(), [again]);
}
