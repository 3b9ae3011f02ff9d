//! Workers that need one another, one situation at a time.

mod common;

use cluster_supervisor::{
    Action, Backoff, Budget, Group, Policy, Release, Restart, Roll, StopSignal, WorkerState,
};
use common::{SECOND, SIGABRT, Stage, id, policy, serving};

fn immediately(group: Group) -> Policy {
    policy().group(group).backoff(Backoff::new().base(std::time::Duration::ZERO))
}

#[test]
fn each_starts_when_the_one_before_it_is_ready() {
    let mut stage = Stage::new(policy().group(Group::RestForOne));
    for _ in 0..3 {
        stage.supervisor.start(stage.now);
    }
    for slot in 0..3 {
        assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(slot, 1))]);
        stage.supervisor.handle_spawned(id(slot, 1), stage.now);
        stage.supervisor.handle_online(id(slot, 1), stage.now);
        assert_eq!(stage.actions(), []);
        stage.supervisor.handle_ready(id(slot, 1), stage.now);
    }
}

#[test]
fn when_one_fails_all_go_in_reverse_and_come_in_order() {
    let mut stage = serving(4, immediately(Group::OneForAll));
    stage.exit(id(1, 1), SIGABRT);
    for slot in [3, 2, 0] {
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(slot, 1))]);
        stage.leaves(id(slot, 1));
    }
    for slot in 0..4 {
        assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(slot, 2))]);
        stage.becomes_ready(id(slot, 2));
    }
    let restarts: Vec<_> = stage.supervisor.slots().map(|slot| slot.restarts()).collect();
    assert_eq!(restarts, [0, 1, 0, 0], "the others did not fail");
}

#[test]
fn when_one_fails_those_after_it_go_and_come_again() {
    let mut stage = serving(4, immediately(Group::RestForOne));
    stage.exit(id(1, 1), SIGABRT);
    for slot in [3, 2] {
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(slot, 1))]);
        stage.leaves(id(slot, 1));
    }
    for slot in 1..4 {
        assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(slot, 2))]);
        stage.becomes_ready(id(slot, 2));
    }
    assert_eq!(stage.supervisor.worker(id(0, 1)).unwrap().state(), WorkerState::Ready);
}

#[test]
fn nobody_starts_while_the_one_before_it_waits_out_its_back_off() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    for generation in 1..=2 {
        stage.exit(id(0, generation), SIGABRT);
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(1, generation))]);
        stage.leaves(id(1, generation));
        if generation == 1 {
            stage.becomes_ready(id(0, 2));
            stage.becomes_ready(id(1, 2));
            stage.look_away();
        }
    }
    assert_eq!(stage.actions(), []);
    assert_eq!(stage.states(), [WorkerState::Backoff, WorkerState::Held]);
    assert_eq!(stage.next_deadline(), SECOND);
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 3))]);
}

#[test]
fn a_worker_that_ignores_its_stop_holds_up_the_others_no_longer_than_its_deadlines() {
    let mut stage = serving(2, immediately(Group::OneForAll));
    stage.exit(id(0, 1), SIGABRT);
    stage.look_away();
    assert_eq!(stage.next_deadline(), 10 * SECOND);
    assert_eq!(stage.next_deadline(), 2 * SECOND);
    assert!(stage.actions().contains(&Action::Signal(id(1, 1), StopSignal::Kill)));
    stage.exit(id(1, 1), common::SIGKILL);
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 2))]);
}

#[test]
fn a_shutdown_goes_in_reverse() {
    let mut stage = serving(3, policy().group(Group::RestForOne));
    stage.supervisor.shutdown(stage.now);
    for slot in [2, 1, 0] {
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(slot, 1))]);
        stage.leaves(id(slot, 1));
    }
    assert!(stage.supervisor.is_done());
    assert_eq!(stage.actions(), []);

    let mut stage = serving(3, policy().group(Group::RestForOne));
    stage.supervisor.shutdown_now(stage.now);
    let killed = stage.actions().into_iter().filter(|action| matches!(action, Action::Signal(..)));
    assert_eq!(killed.count(), 3, "all at once");
}

#[test]
fn when_one_is_given_up_all_are() {
    let mut stage = serving(3, immediately(Group::OneForAll).budget(Budget::new(0, SECOND)));
    stage.exit(id(2, 1), SIGABRT);
    for slot in [1, 0] {
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(slot, 1))]);
        stage.leaves(id(slot, 1));
    }
    assert!(stage.supervisor.is_done());
    assert_eq!(stage.supervisor.given_up().count(), 1);
}

#[test]
fn a_roll_in_a_group_takes_nobody_down() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    stage.supervisor.roll(Roll::to(Release::new(1)), stage.now).unwrap();
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 2))]);
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(0, 1))]);
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(1, 2))]);
}

#[test]
fn by_default_nobody_minds_the_others() {
    let mut stage = serving(3, immediately(Group::OneForOne));
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 2))]);
}

#[test]
fn each_may_have_a_policy_of_its_own() {
    let mut stage = Stage::new(policy().group(Group::RestForOne));
    let job = stage.supervisor.start_with(policy().restart(Restart::Never), stage.now);
    let server = stage.supervisor.start_with(immediately(Group::OneForOne), stage.now);
    stage.becomes_ready(job);
    stage.becomes_ready(server);
    stage.look_away();
    // Its work is done, and nobody goes down for that.
    stage.leaves(job);
    assert_eq!(stage.spawns_and_stops(), []);
    stage.exit(server, SIGABRT);
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(1, 2))]);
}

/// Three slots, of which the first was started last.
fn out_of_order(policy: Policy) -> Stage {
    let mut stage = serving(3, policy);
    stage.supervisor.stop(id(0, 1), stage.now);
    stage.leaves(id(0, 1));
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage
}

#[test]
fn those_after_it_are_those_that_were_started_later() {
    let mut stage = out_of_order(immediately(Group::RestForOne));
    stage.exit(id(2, 1), SIGABRT);
    assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(0, 2))]);
    stage.leaves(id(0, 2));
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(2, 2))]);
    stage.becomes_ready(id(2, 2));
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 3))]);
    assert_eq!(stage.supervisor.worker(id(1, 1)).unwrap().state(), WorkerState::Ready);

    let mut stage = out_of_order(immediately(Group::RestForOne));
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.spawns_and_stops(), [Action::Spawn(id(0, 3))], "it is the last");
}

#[test]
fn a_shutdown_asks_the_last_started_first() {
    let mut stage = out_of_order(policy().group(Group::RestForOne));
    stage.supervisor.shutdown(stage.now);
    for last in [id(0, 2), id(2, 1), id(1, 1)] {
        assert_eq!(stage.spawns_and_stops(), [Action::AskStop(last)]);
        stage.leaves(last);
    }
}

#[test]
fn a_restart_of_the_group_is_forgotten_once_the_spawn_of_one_of_it_failed() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    stage.exit(id(1, 1), SIGABRT);
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    assert!(stage.actions().contains(&Action::Spawn(id(1, 2))));
    // 1.2 is recalled, and never was.
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawn_failed(id(1, 2), stage.now);
    let mut stops = Vec::new();
    for _ in 0..6 {
        let actions = stage.spawns_and_stops();
        stops.extend(actions.iter().copied().filter(|action| matches!(action, Action::AskStop(_))));
        actions.iter().map(|action| action.id()).for_each(|id| stage.becomes_ready(id));
        if stage.supervisor.poll_timeout().is_some() {
            stage.next_deadline();
        }
    }
    assert_eq!(stops, [], "nothing has failed since");
    assert_eq!(stage.ready_count(), 2);
}

#[test]
fn a_roll_keeps_the_order_of_a_group() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    stage.exit(id(1, 1), SIGABRT);
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.becomes_ready(id(1, 2));
    stage.look_away();
    stage.exit(id(1, 2), SIGABRT);
    assert_eq!(stage.stops(), [id(0, 2)]);
    assert_eq!(stage.states()[1], WorkerState::Backoff);
    stage.roll(Roll::to(Release::new(1)));
    assert_eq!(stage.spawns_and_stops(), [], "slot 1 starts only when slot 0 is ready");
}

#[test]
fn a_worker_that_is_asked_to_go_for_another_one_has_not_failed() {
    let mut stage = serving(2, immediately(Group::OneForAll).budget(Budget::new(1, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.exit(id(1, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.becomes_ready(id(1, 2));
    let records: Vec<_> = stage.supervisor.slots().map(|slot| (slot.failures(), slot.restarts())).collect();
    assert_eq!(records, [(1, 1), (0, 0)]);
}

#[test]
fn one_that_is_stopped_while_it_has_to_go_does_not_come_again() {
    let mut stage = serving(2, immediately(Group::OneForAll));
    stage.exit(id(0, 1), SIGABRT);
    assert!(stage.supervisor.slots().nth(1).unwrap().is_restarting());
    stage.supervisor.stop(id(1, 1), stage.now);
    stage.leaves(id(1, 1));
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.states(), [WorkerState::Ready, WorkerState::Stopped]);
}

#[test]
fn one_that_is_stopped_while_it_waits_for_its_turn_does_not_come() {
    let mut stage = Stage::new(policy().group(Group::RestForOne));
    let (first, second) = (stage.spawning(), stage.supervisor.start(stage.now));
    stage.supervisor.stop(second, stage.now);
    assert_eq!(stage.states()[1], WorkerState::Stopped);
    stage.becomes_ready(first);
    assert_eq!(stage.spawns(), []);
}

#[test]
fn one_in_back_off_has_nobody_who_has_to_go() {
    let mut stage = serving(2, policy().group(Group::RestForOne));
    stage.exit(id(1, 1), SIGABRT);
    stage.becomes_ready(id(1, 2));
    stage.exit(id(1, 2), SIGABRT);
    assert_eq!(stage.states()[1], WorkerState::Backoff);
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert!(!stage.supervisor.slots().nth(1).unwrap().is_restarting());
    stage.becomes_ready(id(0, 2));
    stage.next_deadline();
    stage.becomes_ready(id(1, 3));
    assert_eq!(stage.stops(), []);
}

#[test]
fn a_successor_that_came_to_a_vacated_slot_stops_in_its_turn() {
    let mut stage = serving(2, policy().group(Group::RestForOne).max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(Release::new(1)));
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.shutdown(stage.now);
    for last in [id(1, 1), id(0, 2)] {
        assert_eq!(stage.stops(), [last]);
        stage.leaves(last);
    }
}

#[test]
fn a_roll_vacates_one_slot_of_a_group_at_a_time() {
    let mut stage = serving(3, policy().group(Group::RestForOne).max_surge(0).max_unavailable(2));
    stage.roll(Roll::to(Release::new(1)));
    for slot in 0..3 {
        assert_eq!(stage.stops(), [id(slot, 1)], "those after it need it");
        stage.leaves(id(slot, 1));
        stage.becomes_ready(id(slot, 2));
    }
}

#[test]
fn slots_of_a_group_that_are_added_come_in_order() {
    let mut stage = Stage::new(policy().group(Group::OneForAll));
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.spawns(), [id(0, 1)]);
    stage.becomes_ready(id(0, 1));
    assert_eq!(stage.spawns(), [id(1, 1)]);
}

#[test]
fn a_slot_whose_replacement_was_interrupted_is_the_next_again() {
    let mut stage = serving(2, immediately(Group::OneForAll));
    stage.roll(Roll::to(Release::new(1)));
    stage.supervisor.pause_roll();
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(1, 1), SIGABRT);
    stage.ends_and_comes();
    assert_eq!(stage.ready_count(), 2);
    stage.supervisor.resume_roll(stage.now);
    assert_eq!(stage.spawns(), [id(0, 4)]);
}

#[test]
fn a_slot_whose_way_back_was_interrupted_goes_back_all_the_same() {
    let mut stage = serving(3, immediately(Group::OneForAll));
    stage.roll(Roll::to(Release::new(1)));
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawn_failed(id(1, 2), stage.now);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(2, 1), SIGABRT);
    stage.ends_and_comes();
    assert_eq!(stage.releases(), [0, 0, 0]);
    let end = "roll 1 stopped, since successor 1.2 could not be started; replaced 1";
    assert_eq!(stage.outcomes().pop().unwrap(), end);
}

#[test]
fn a_slot_that_makes_way_for_what_it_had_needs_no_other_turn_after_an_interruption() {
    let mut stage = serving(2, immediately(Group::OneForAll).max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(Release::new(1)));
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.outcomes(), [""; 0], "0.1 has to go first");
    stage.exit(id(1, 1), SIGABRT);
    assert_eq!(stage.outcomes().pop().unwrap(), "roll 1 aborted; replaced 0");
}

#[test]
fn a_roll_brings_the_first_that_is_missing_and_nobody_after_it() {
    let mut stage = serving(2, policy().group(Group::RestForOne).max_surge(2));
    for generation in 1..=2 {
        stage.exit(id(0, generation), SIGABRT);
        stage.leaves(id(1, generation));
        if generation == 1 {
            stage.becomes_ready(id(0, 2));
            stage.becomes_ready(id(1, 2));
        }
    }
    stage.look_away();
    assert_eq!(stage.states(), [WorkerState::Backoff, WorkerState::Held]);
    stage.roll(Roll::to(Release::new(1)));
    assert_eq!(stage.spawns(), [id(0, 3)]);
}

#[test]
fn one_that_was_stopped_before_does_not_come_again_with_the_others() {
    let mut stage = serving(2, immediately(Group::OneForAll));
    stage.supervisor.stop(id(1, 1), stage.now);
    stage.exit(id(0, 1), SIGABRT);
    stage.leaves(id(1, 1));
    assert_eq!(stage.states()[1], WorkerState::Stopped);
    assert_eq!(stage.supervisor.slots().filter(|slot| slot.is_restarting()).count(), 0);
}

#[test]
fn a_predecessor_that_drains_holds_up_no_shutdown() {
    let mut stage = serving(2, policy().group(Group::RestForOne));
    stage.supervisor.replace(id(1, 1), stage.now);
    stage.becomes_ready(id(1, 2));
    assert_eq!(stage.stops(), [id(1, 1)]);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.stops(), [id(1, 2)]);
}

#[test]
fn a_roll_of_a_group_waits_for_those_that_leave() {
    let mut stage = serving(2, policy().group(Group::RestForOne).max_surge(9));
    stage.supervisor.stop(id(1, 1), stage.now);
    stage.roll(Roll::to(Release::new(1)));
    assert_eq!(stage.spawns(), []);
    stage.leaves(id(1, 1));
    assert_eq!(stage.spawns(), [id(0, 2)]);
}
