//! What follows an exit: restart at once, later, or not at all.

mod common;

use cluster_supervisor::{
    Action, Event, Exit, ExitCause, ExitCodes, GiveUpReason, Policy, Restart, StopSignal, WorkerId,
    WorkerState,
};
use common::{MILLISECOND, SECOND, SIGABRT, SIGKILL, Stage, policy};

#[test]
fn a_crash_after_a_stable_run_is_restarted_at_once_in_the_same_slot() {
    let mut stage = Stage::new(Policy::new());
    let first = stage.ready();
    stage.jump(60 * SECOND);
    stage.events();

    stage.exit(first, Exit::Signal(11));
    let second = WorkerId::new(first.slot(), first.generation() + 1);
    assert_eq!(stage.actions(), [Action::Withdraw(first), Action::Spawn(second)]);
    let cause = ExitCause::Crash;
    let exited = Event::Exited { id: first, exit: Exit::Signal(11), cause, uptime: Some(60 * SECOND) };
    assert_eq!(stage.events(), [exited], "an immediate restart is not announced as a back-off");
}

#[test]
fn failures_in_a_row_wait_longer_and_longer() {
    let mut stage = Stage::new(policy());
    let mut id = stage.starting();
    let mut waits = Vec::new();
    for failures in 1..=8 {
        stage.events();
        stage.exit(id, SIGABRT);
        let mut actions = stage.actions();
        if actions.is_empty() {
            let wait = stage.supervisor.poll_timeout().unwrap() - stage.now;
            let backing_off = Event::BackingOff { slot: 0, delay: wait, failures };
            assert_eq!(stage.events().last(), Some(&backing_off));
            waits.push(stage.next_deadline().as_secs());
            actions = stage.actions();
        } else {
            waits.push(0);
        }
        id = Stage::spawned(&actions);
        stage.supervisor.handle_spawned(id, stage.now);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn a_stable_run_makes_the_next_failure_the_first_again() {
    for (ready_for, failures) in [(30 * SECOND, 1), (30 * SECOND - MILLISECOND, 3)] {
        let mut stage = Stage::new(policy());
        let first = stage.starting();
        stage.exit(first, SIGABRT);
        let second = Stage::spawned(&stage.actions());
        stage.supervisor.handle_spawned(second, stage.now);
        stage.exit(second, SIGABRT);
        stage.next_deadline();
        let third = Stage::spawned(&stage.actions());
        stage.supervisor.handle_spawned(third, stage.now);
        stage.supervisor.handle_ready(third, stage.now);
        stage.now += ready_for;
        stage.exit(third, SIGABRT);
        let slot = stage.supervisor.slots().next().unwrap();
        assert_eq!(slot.failures(), failures, "ready for {ready_for:?}");
        assert_eq!(slot.restarts(), 3);
    }
}

#[test]
fn the_policy_decides_by_the_exit_status() {
    for (restart, exit, restarted) in [
        (Restart::Always, Exit::Code(0), true),
        (Restart::Always, Exit::Code(1), true),
        (Restart::OnFailure, Exit::Code(0), false),
        (Restart::OnFailure, Exit::Code(1), true),
        (Restart::OnFailure, SIGABRT, true),
        (Restart::Never, Exit::Code(0), false),
        (Restart::Never, SIGABRT, false),
    ] {
        let mut stage = Stage::new(policy().restart(restart));
        let id = stage.ready();
        stage.exit(id, exit);
        let again = stage.actions().contains(&Action::Spawn(WorkerId::new(0, 2)));
        assert_eq!(again, restarted, "{restart:?} after {exit}");
        assert_eq!(stage.supervisor.is_done(), !restarted);
        let state = stage.supervisor.slots().next().unwrap().state();
        assert_eq!(state, if restarted { WorkerState::Starting } else { WorkerState::Stopped });
    }
}

#[test]
fn codes_say_that_a_job_is_done_or_that_no_restart_will_help() {
    let codes = policy().success(ExitCodes::of(&[3])).hopeless(ExitCodes::of(&[78]));
    for (restart, exit, expected) in [
        (Restart::OnFailure, Exit::Code(3), WorkerState::Stopped),
        (Restart::OnFailure, Exit::Code(0), WorkerState::Starting),
        (Restart::Always, Exit::Code(3), WorkerState::Starting),
        (Restart::Always, Exit::Code(78), WorkerState::GaveUp),
        (Restart::OnFailure, Exit::Code(78), WorkerState::GaveUp),
        (Restart::Never, Exit::Code(78), WorkerState::GaveUp),
        (Restart::Always, Exit::Signal(78), WorkerState::Starting),
    ] {
        let mut stage = Stage::new(codes.clone().restart(restart));
        let id = stage.ready();
        stage.exit(id, exit);
        let slot = stage.supervisor.slots().next().unwrap();
        assert_eq!(slot.state(), expected, "{restart:?} after {exit}");
        let given_up = stage.supervisor.given_up().next();
        assert_eq!(given_up.is_some(), expected == WorkerState::GaveUp);
        assert!(given_up.is_none_or(|given_up| given_up.reason() == GiveUpReason::ExitCode));
    }
}

#[test]
fn a_code_of_one_who_was_asked_to_stop_says_nothing() {
    let mut stage = Stage::new(policy().hopeless(ExitCodes::of(&[78])));
    let id = stage.ready();
    stage.supervisor.stop(id, stage.now);
    stage.exit(id, Exit::Code(78));
    assert_eq!(stage.supervisor.slots().next().unwrap().state(), WorkerState::Stopped);
}

#[test]
fn a_worker_that_is_never_ready_is_killed_and_restarted() {
    let mut stage = Stage::new(policy());
    let id = stage.starting();
    stage.supervisor.handle_online(id, stage.now);
    assert_eq!(stage.next_deadline(), 30 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Kill)]);
    assert_eq!(stage.supervisor.poll_timeout(), None, "nothing is stronger than SIGKILL");
    stage.events();

    stage.exit(id, SIGKILL);
    let exited = Event::Exited { id, exit: SIGKILL, cause: ExitCause::StartTimeout, uptime: None };
    assert_eq!(stage.events(), [exited]);
    assert_eq!(stage.actions(), [Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn the_start_timeout_runs_from_the_spawn_and_not_from_the_order_to_spawn() {
    let mut stage = Stage::new(policy());
    let id = stage.spawning();
    stage.jump(1000 * SECOND);
    assert_eq!(stage.actions(), [], "a slow driver is not the worker's fault");
    stage.supervisor.handle_spawned(id, stage.now);
    assert_eq!(stage.next_deadline(), 30 * SECOND);
}

#[test]
fn a_hanging_worker_is_withdrawn_killed_and_restarted() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.handle_unhealthy(id, stage.now);
    stage.supervisor.handle_unhealthy(id, stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id), Action::Signal(id, StopSignal::Kill)]);
    stage.events();

    stage.exit(id, SIGKILL);
    let exited = Event::Exited {
        id,
        exit: SIGKILL,
        cause: ExitCause::Unhealthy,
        uptime: Some(std::time::Duration::ZERO),
    };
    assert_eq!(stage.events(), [exited]);
    assert_eq!(stage.actions(), [Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn a_worker_without_a_channel_is_terminated_then_killed_then_restarted() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.handle_channel_lost(id, stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id), Action::Signal(id, StopSignal::Term)]);
    assert_eq!(stage.next_deadline(), 2 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id, StopSignal::Kill)]);
    stage.events();

    stage.exit(id, SIGKILL);
    assert!(
        matches!(stage.events().as_slice(), [Event::Exited { cause: ExitCause::ChannelLost, .. }]),
        "the lost channel is the cause, not the SIGKILL that followed from it"
    );
    assert_eq!(stage.actions(), [Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn a_channel_lost_just_before_the_exit_was_handled_sends_no_signal_to_the_dead() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.supervisor.handle_channel_lost(id, stage.now);
    stage.exit(id, Exit::Signal(11));
    assert_eq!(stage.actions(), [Action::Withdraw(id), Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn a_sigkill_that_nobody_here_sent_is_a_crash() {
    let cause_of = |stage: &mut Stage| {
        stage.events().into_iter().find_map(|event| match event {
            Event::Exited { cause, .. } => Some(cause),
            _ => None,
        })
    };
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    // The end of the stream comes a moment before the exit.
    stage.supervisor.handle_channel_lost(id, stage.now);
    stage.exit(id, SIGKILL);
    assert_eq!(cause_of(&mut stage), Some(ExitCause::Crash));
    // Before it was ready it is a failed start.
    let next = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawned(next, stage.now);
    stage.supervisor.handle_channel_lost(next, stage.now);
    stage.exit(next, SIGKILL);
    assert_eq!(cause_of(&mut stage), Some(ExitCause::BootFailure));
}

#[test]
fn a_worker_that_dies_before_its_admit_was_polled_is_neither_admitted_nor_withdrawn() {
    let mut stage = Stage::new(policy());
    let id = stage.starting();
    stage.supervisor.handle_ready(id, stage.now);
    stage.exit(id, SIGABRT);
    assert_eq!(stage.actions(), [Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn a_failed_spawn_is_tried_again_with_a_new_id_for_as_long_as_it_takes() {
    let mut stage = Stage::new(policy());
    let mut id = stage.spawning();
    for (attempt, wait) in [1, 2, 4, 8, 16, 30].into_iter().chain(std::iter::repeat_n(30, 100)).enumerate() {
        stage.supervisor.handle_spawn_failed(id, stage.now);
        assert_eq!(stage.events(), [Event::SpawnFailed { id, retry_in: Some(wait * SECOND) }]);
        assert_eq!(stage.actions(), [], "attempt {attempt}");
        assert_eq!(stage.next_deadline(), wait * SECOND);
        let next = Stage::spawned(&stage.actions());
        assert_eq!(next.generation(), id.generation() + 1);
        id = next;
    }
    let slot = stage.supervisor.slots().next().unwrap();
    assert_eq!((slot.restarts(), slot.failures()), (0, 0), "nobody has failed but the machine");
}

#[test]
fn a_spawn_that_fails_at_once_with_no_back_off_leaves_the_driver_its_turn() {
    let backoff = cluster_supervisor::Backoff::new().base(std::time::Duration::ZERO);
    let mut stage = Stage::new(Policy::new().backoff(backoff));
    let id = stage.spawning();
    stage.supervisor.handle_spawn_failed(id, stage.now);
    assert_eq!(stage.actions(), [], "the next try waits for handle_timeout, however short the wait");
    assert_eq!(stage.next_deadline(), std::time::Duration::ZERO);
    assert_eq!(stage.actions(), [Action::Spawn(WorkerId::new(0, 2))]);
}

#[test]
fn late_news_about_a_dead_worker_finds_nothing() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    stage.exit(id, SIGABRT);
    stage.look_away();
    let before: Vec<_> = stage.supervisor.workers().collect();
    for ghost in [id, WorkerId::new(0, 9), WorkerId::new(7, 1), WorkerId::new(0, 0)] {
        let (supervisor, now) = (&mut stage.supervisor, stage.now);
        supervisor.handle_spawned(ghost, now);
        supervisor.handle_spawn_failed(ghost, now);
        supervisor.handle_online(ghost, now);
        supervisor.handle_ready(ghost, now);
        supervisor.handle_exit(ghost, SIGABRT, now);
        supervisor.handle_channel_lost(ghost, now);
        supervisor.handle_unhealthy(ghost, now);
        supervisor.stop(ghost, now);
    }
    assert_eq!((stage.actions(), stage.events()), (vec![], vec![]));
    assert_eq!(stage.supervisor.workers().collect::<Vec<_>>(), before);
}

#[test]
fn workers_take_the_lowest_free_slot_and_generations_go_on() {
    let mut stage = Stage::new(policy());
    let ids: Vec<_> = (0..3).map(|_| stage.ready()).collect();
    assert_eq!(ids, [WorkerId::new(0, 1), WorkerId::new(1, 1), WorkerId::new(2, 1)]);

    stage.supervisor.stop(ids[1], stage.now);
    stage.look_away();
    assert_eq!(stage.spawning(), WorkerId::new(3, 1), "slot 1 is still draining");
    stage.exit(ids[1], Exit::Code(0));
    assert_eq!(stage.spawning(), WorkerId::new(1, 2));
    assert_eq!(stage.spawning(), WorkerId::new(4, 1));
}

#[test]
fn a_spawn_that_worked_makes_the_next_spawn_failure_the_first_again() {
    let mut stage = Stage::new(policy());
    let mut id = stage.spawning();
    for _ in 0..4 {
        stage.supervisor.handle_spawn_failed(id, stage.now);
        stage.next_deadline();
        id = Stage::spawned(&stage.actions());
    }
    stage.supervisor.handle_spawned(id, stage.now);
    stage.exit(id, SIGABRT);
    let next = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawn_failed(next, stage.now);
    assert_eq!(stage.next_deadline(), SECOND);
}

#[test]
fn a_spawn_of_another_worker_of_the_slot_says_nothing_of_its_own() {
    let mut stage = Stage::new(policy());
    let first = stage.ready();
    stage.supervisor.replace(first, stage.now);
    let successor = Stage::spawned(&stage.actions());
    stage.supervisor.stop(successor, stage.now);
    stage.exit(first, SIGABRT);
    let own = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawn_failed(own, stage.now);
    // Its spawn is answered late.
    stage.supervisor.handle_spawned(successor, stage.now);
    stage.exit(successor, Exit::Code(0));
    assert_eq!(stage.next_deadline(), SECOND);
    let own = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawn_failed(own, stage.now);
    assert_eq!(stage.next_deadline(), 2 * SECOND, "the second failure in a row");
}

#[test]
fn time_that_seems_to_run_backwards_stands_still() {
    let mut stage = Stage::new(policy());
    let id = stage.ready();
    let earlier = stage.now;
    stage.jump(20 * SECOND);
    stage.supervisor.stop(id, earlier);
    assert_eq!(stage.supervisor.poll_timeout(), Some(stage.now + 10 * SECOND), "not in 10 s from the past");
    stage.supervisor.handle_timeout(earlier);
    assert!(stage.supervisor.poll_timeout().is_none_or(|next| next > stage.now));
}

#[test]
fn every_slot_is_visible_whatever_its_state() {
    let once = cluster_supervisor::Budget::new(1, 60 * SECOND);
    let mut stage = Stage::new(policy().budget(once));
    let gave_up = stage.starting();
    stage.exit(gave_up, SIGABRT);
    let again = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawned(again, stage.now);
    let (starting, ready) = (stage.starting(), stage.ready());
    let unspawnable = stage.spawning();
    stage.supervisor.handle_spawn_failed(unspawnable, stage.now);
    stage.exit(again, SIGABRT);

    let slots: Vec<_> =
        stage.supervisor.slots().map(|slot| (slot.slot(), slot.state().as_str(), slot.current())).collect();
    assert_eq!(
        slots,
        [
            (0, "gave-up", None),
            (1, "starting", Some(starting)),
            (2, "ready", Some(ready)),
            (3, "backoff", None)
        ]
    );
    let view = stage.supervisor.worker(ready).unwrap();
    assert_eq!((view.started_at(), view.ready_since()), (Some(stage.now), Some(stage.now)));
    assert_eq!(stage.supervisor.workers().map(|worker| worker.id()).collect::<Vec<_>>(), [starting, ready]);
    let retry_at = stage.supervisor.slots().nth(3).unwrap().retry_at();
    assert_eq!(retry_at, Some(stage.now + SECOND));
}
