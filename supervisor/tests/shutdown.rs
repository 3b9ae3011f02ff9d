//! How workers are stopped, one and all.

mod common;

use std::time::Duration;

use cluster_supervisor::{
    Action, Budget, Event, Exit, ExitCause, Policy, Restart, StopSequence, StopSignal, WorkerId, WorkerState,
};
use common::{SECOND, SIGABRT, SIGKILL, Stage, policy};

fn cause_of_exit(events: &[Event]) -> Option<ExitCause> {
    events.iter().find_map(|event| match event {
        Event::Exited { cause, .. } => Some(*cause),
        _ => None,
    })
}

#[test]
fn a_stopped_worker_is_withdrawn_first_asked_next_and_not_restarted() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.events();
    stage.supervisor.stop(id, stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id), Action::AskStop(id)]);
    assert_eq!(stage.events(), [Event::Stopping { id, cause: ExitCause::Asked }]);
    assert_eq!(stage.supervisor.worker(id).unwrap().state(), WorkerState::Draining);

    stage.now += 3 * SECOND;
    stage.exit(id, Exit::Code(0));
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::Asked));
    assert_eq!(stage.actions(), []);
    assert!(stage.supervisor.is_done());
}

#[test]
fn a_worker_that_does_not_obey_gets_sigterm_and_then_sigkill() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    assert_eq!(stage.next_deadline(), 10 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Term)]);
    assert_eq!(stage.next_deadline(), 2 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Kill)]);
    assert_eq!(stage.supervisor.poll_timeout(), None);
    assert_eq!(stage.events(), [], "it was announced once");

    stage.exit(id, SIGKILL);
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::StopTimeout));
    assert!(stage.supervisor.is_done(), "killed on the way of a stop is still asked for");
}

#[test]
fn a_worker_that_obeys_sigterm_counts_as_asked() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.next_deadline();
    stage.exit(id, Exit::Signal(15));
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::Asked));
}

#[test]
fn a_draining_worker_that_closes_its_channel_is_left_to_exit() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    stage.supervisor.handle_channel_lost(id, stage.now);
    assert_eq!(stage.actions(), [], "closing the channel is the last step of a clean end");
    assert_eq!(stage.next_deadline(), 10 * SECOND, "the deadline stands");
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Term)]);
}

#[test]
fn verbs_can_be_repeated_without_effect() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    stage.now += 5 * SECOND;
    stage.supervisor.stop(id, stage.now);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.actions(), []);
    assert_eq!(stage.next_deadline(), 5 * SECOND, "asking again does not grant more time");

    stage.supervisor.shutdown_now(stage.now);
    stage.supervisor.shutdown_now(stage.now);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Term), Action::Signal(id, StopSignal::Kill)]);
}

#[test]
fn a_shutdown_stops_every_worker_whatever_its_state_and_cancels_back_offs() {
    let mut stage = Stage::new(policy());
    let ready = stage.ready();
    let starting = stage.starting();
    let spawning = stage.spawning();
    let unspawnable = stage.spawning();
    stage.supervisor.handle_spawn_failed(unspawnable, stage.now);

    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(ready), Action::AskStop(ready), Action::AskStop(starting)]);
    assert_eq!(stage.supervisor.slots().nth(3).unwrap().state(), WorkerState::Stopped);
    stage.supervisor.handle_spawned(spawning, stage.now);
    assert_eq!(stage.actions(), [Action::AskStop(spawning)], "asked as soon as it is there");

    for id in [ready, starting, spawning] {
        assert!(!stage.supervisor.is_done());
        stage.exit(id, Exit::Code(0));
    }
    assert!(stage.supervisor.is_done());
    assert_eq!((stage.actions(), stage.supervisor.poll_timeout()), (vec![], None));
}

#[test]
fn a_second_thought_kills_everything_at_once() {
    let mut stage = Stage::new(policy());
    let (draining, starting, ready) = (stage.ready(), stage.starting(), stage.ready());
    let spawning = stage.spawning();
    stage.supervisor.stop(draining, stage.now);
    stage.look_away();

    stage.supervisor.shutdown_now(stage.now);
    let kill = |id| Action::Signal(id, StopSignal::Kill);
    assert_eq!(stage.actions(), [kill(draining), kill(starting), Action::Withdraw(ready), kill(ready)]);
    stage.supervisor.handle_spawned(spawning, stage.now);
    assert_eq!(stage.actions(), [kill(spawning)]);
    stage.events();
    for id in [draining, starting, ready, spawning] {
        stage.exit(id, SIGKILL);
        assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::Asked));
    }
    assert!(stage.supervisor.is_done());
}

#[test]
fn a_spawn_that_fails_after_the_stop_is_not_tried_again() {
    let mut stage = Stage::new(policy());
    let id = stage.spawning();
    stage.supervisor.stop(id, stage.now);
    stage.supervisor.handle_spawn_failed(id, stage.now);
    assert_eq!(stage.events().last(), Some(&Event::SpawnFailed { id, retry_in: None }));
    assert!(stage.supervisor.is_done());
    assert_eq!(stage.spawning(), WorkerId::new(id.slot(), id.generation() + 1), "its slot is free again");
}

#[test]
fn a_stop_that_crosses_the_crash_ends_the_back_off() {
    let mut stage = Stage::new(policy());
    let first = stage.starting();
    stage.exit(first, SIGABRT);
    let second = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawned(second, stage.now);
    stage.exit(second, SIGABRT);
    let slot = stage.supervisor.slots().next().unwrap();
    assert_eq!((slot.state(), slot.newest(), slot.current()), (WorkerState::Backoff, second, None));

    stage.supervisor.stop(first, stage.now);
    assert!(!stage.supervisor.is_done(), "a stale id ends nothing");
    stage.supervisor.stop(second, stage.now);
    assert!(stage.supervisor.is_done());
    stage.jump(1000 * SECOND);
    assert_eq!(stage.actions(), []);
}

#[test]
fn a_stop_is_remembered_while_the_worker_dies_of_something_else() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.handle_unhealthy(id, stage.now);
    stage.supervisor.stop(id, stage.now);
    stage.exit(id, SIGKILL);
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::Unhealthy), "the first cause stays");
    assert!(stage.supervisor.is_done(), "but it is not wanted any more");
}

#[test]
fn a_worker_that_gets_ready_while_it_drains_is_not_admitted() {
    let mut stage = Stage::new(policy());
    let id = stage.starting();
    stage.supervisor.stop(id, stage.now);
    stage.supervisor.handle_ready(id, stage.now);
    assert_eq!(stage.actions(), [Action::AskStop(id)]);
}

#[test]
fn steps_of_zero_length_are_taken_at_the_next_timeout() {
    let stop = StopSequence::new().drain(Duration::ZERO).terminate(Duration::ZERO);
    let mut stage = Stage::new(policy().stop(stop));
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    stage.jump(Duration::ZERO);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Term), Action::Signal(id, StopSignal::Kill)]);
}

#[test]
fn a_driver_that_comes_late_still_gives_every_step_its_time() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.look_away();
    stage.jump(3600 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Term)]);
    assert_eq!(stage.next_deadline(), 2 * SECOND);
}

#[test]
fn after_a_shutdown_a_start_begins_anew() {
    let mut stage = Stage::new(Policy::new().restart(Restart::Always));
    let id = stage.ready();
    stage.supervisor.shutdown(stage.now);
    stage.exit(id, Exit::Code(0));
    stage.look_away();
    assert_eq!(stage.ready(), WorkerId::new(0, 2));
    assert!(!stage.supervisor.is_done());
}

#[test]
fn that_a_slot_is_not_wanted_any_more_is_told_once() {
    let told = |stage: &mut Stage| {
        let events = std::iter::from_fn(|| stage.supervisor.poll_event());
        events.filter(|event| matches!(event, Event::Stopped { .. })).count()
    };
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    (0..2).for_each(|_| stage.supervisor.stop(id, stage.now));
    stage.supervisor.stop(WorkerId::new(9, 1), stage.now);
    assert_eq!(told(&mut stage), 1, "as soon as it is so");
    stage.exit(id, Exit::Code(0));
    stage.supervisor.shutdown(stage.now);
    assert_eq!(told(&mut stage), 0);

    let mut stage = Stage::new(policy().restart(Restart::OnFailure));
    let id = stage.ready();
    stage.exit(id, Exit::Code(0));
    assert_eq!(told(&mut stage), 1, "its work is done");

    let mut stage = Stage::new(policy().budget(Budget::new(0, SECOND)));
    let id = stage.ready();
    stage.exit(id, SIGABRT);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(told(&mut stage), 0, "it was given up, which is told otherwise");
}
