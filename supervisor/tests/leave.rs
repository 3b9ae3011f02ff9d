//! Workers that end of their own accord.

mod common;

use std::time::Duration;

use cluster_supervisor::{Action, Budget, Event, Exit, ExitCause, Restart, StopSignal, WorkerState};
use common::{SECOND, Stage, id, policy, serving};

fn cause_of_exit(events: &[Event]) -> Option<ExitCause> {
    events.iter().find_map(|event| match event {
        Event::Exited { cause, .. } => Some(*cause),
        _ => None,
    })
}

#[test]
fn who_leaves_by_itself_is_withdrawn_and_its_slot_refilled_at_once() {
    let mut stage = serving(1, policy());
    stage.supervisor.handle_leaving(id(0, 1), stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 1)), Action::AskStop(id(0, 1))]);
    assert_eq!(stage.events(), [Event::Stopping { id: id(0, 1), cause: ExitCause::Left }]);
    stage.leaves(id(0, 1));
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::Left));
    assert_eq!(stage.spawns(), [id(0, 2)]);
}

#[test]
fn leaving_costs_no_budget_but_its_pauses_grow() {
    let mut stage = serving(1, policy().budget(Budget::new(0, 60 * SECOND)));
    let mut pauses = Vec::new();
    for generation in 1..=6 {
        stage.supervisor.handle_leaving(id(0, generation), stage.now);
        stage.leaves(id(0, generation));
        if stage.supervisor.slots().next().unwrap().state() == WorkerState::Backoff {
            pauses.push(stage.next_deadline());
        }
        stage.becomes_ready(id(0, generation + 1));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16].map(Duration::from_secs), "the first comes back at once");
    assert_eq!(stage.supervisor.given_up().count(), 0);
}

#[test]
fn who_leaves_before_it_was_ready_has_failed_to_start() {
    let mut stage = Stage::new(policy().budget(Budget::new(0, 60 * SECOND)));
    let worker = stage.starting();
    stage.supervisor.handle_leaving(worker, stage.now);
    stage.leaves(worker);
    assert_eq!(cause_of_exit(&stage.events()), Some(ExitCause::BootFailure));
    assert_eq!(stage.supervisor.given_up().count(), 1);
}

#[test]
fn who_says_that_it_leaves_and_does_not_is_ended() {
    let mut stage = serving(1, policy());
    stage.supervisor.handle_leaving(id(0, 1), stage.now);
    stage.look_away();
    stage.next_deadline();
    assert_eq!(stage.actions(), [Action::Signal(id(0, 1), StopSignal::Term)]);
    stage.next_deadline();
    assert_eq!(stage.actions(), [Action::Signal(id(0, 1), StopSignal::Kill)]);
}

#[test]
fn a_stop_that_crosses_a_leave_keeps_the_slot_empty() {
    for stop_first in [false, true] {
        let mut stage = serving(1, policy());
        if stop_first {
            stage.supervisor.stop(id(0, 1), stage.now);
        }
        stage.supervisor.handle_leaving(id(0, 1), stage.now);
        stage.supervisor.stop(id(0, 1), stage.now);
        stage.leaves(id(0, 1));
        let cause = cause_of_exit(&stage.events());
        assert_eq!(cause, Some(if stop_first { ExitCause::Asked } else { ExitCause::Left }));
        assert!(stage.supervisor.is_done(), "it is not wanted any more");
    }
}

#[test]
fn what_follows_is_the_restart_policys_to_say() {
    for (restart, exit, comes_back) in [
        (Restart::Always, Exit::Code(0), true),
        (Restart::OnFailure, Exit::Code(0), false),
        (Restart::OnFailure, Exit::Code(3), true),
        (Restart::Never, Exit::Code(3), false),
    ] {
        let mut stage = serving(1, policy().restart(restart));
        stage.supervisor.handle_leaving(id(0, 1), stage.now);
        stage.exit(id(0, 1), exit);
        assert_eq!(stage.spawns() == [id(0, 2)], comes_back, "{restart:?} {exit}");
    }
}
