//! When a slot is given up.

mod common;

use std::time::Duration;

use cluster_supervisor::{
    Action, Budget, Event, Exit, ExitCause, GiveUpReason, GivenUp, Policy, WorkerId, WorkerState,
};
use common::{SECOND, SIGABRT, Stage, policy};

/// Lets every worker of the one slot die `alive` after its spawn until the slot is given up.
/// Returns how many were started, how long it took, and the verdict; or `None` after a thousand starts.
fn crash_loop(policy: Policy, alive: Duration, is_ready: bool) -> Option<(u32, Duration, GivenUp)> {
    let mut stage = Stage::new(policy);
    let begin = stage.now;
    stage.supervisor.start(stage.now);
    for starts in 1..=1000 {
        let id = Stage::spawned(&stage.actions());
        stage.supervisor.handle_spawned(id, stage.now);
        if is_ready {
            stage.supervisor.handle_ready(id, stage.now);
        }
        stage.now += alive;
        stage.exit(id, SIGABRT);
        let verdict = stage.events().into_iter().find_map(|event| match event {
            Event::GaveUp(given_up) => Some(given_up),
            _ => None,
        });
        if let Some(verdict) = verdict {
            assert!(stage.supervisor.is_done() && stage.supervisor.poll_timeout().is_none());
            return Some((starts, stage.now - begin, verdict));
        }
        if stage.supervisor.poll_timeout().is_some() {
            stage.next_deadline();
        }
    }
    None
}

#[test]
fn by_default_a_worker_that_always_dies_at_start_is_given_up_after_exactly_10_restarts() {
    for alive in [Duration::ZERO, Duration::from_millis(50), 29 * SECOND] {
        let (starts, took, verdict) = crash_loop(Policy::new(), alive, false).expect("it gives up");
        assert_eq!(starts, 11, "the first start and 10 restarts");
        assert_eq!(verdict.id(), WorkerId::new(0, 11));
        assert_eq!(verdict.reason(), GiveUpReason::Budget { failures: 11, period: 60 * SECOND });
        assert_eq!((verdict.exit(), verdict.cause()), (SIGABRT, ExitCause::BootFailure));
        // Waits of 0, 1, 2, 4, 8, 16 and four times 30 s, with jitter.
        let longest = (151 * SECOND).mul_f64(1.2) + 11 * alive;
        assert!(took <= longest, "it took {took:?}");
        assert!(took >= 2 * 60 * SECOND, "longer than the period: if waiting counted it would never end");
    }
}

#[test]
fn a_worker_that_serves_for_a_while_between_crashes_stays_within_the_budget() {
    // 10 restarts in 60 s allow one every 6 s of running.
    assert!(crash_loop(policy(), 6 * SECOND, true).is_none());
    assert_eq!(crash_loop(policy(), 6 * SECOND - Duration::from_millis(1), true).unwrap().0, 11);
}

#[test]
fn a_budget_of_zero_gives_up_at_the_first_failure_and_an_unlimited_one_never() {
    let zero = policy().budget(Budget::new(0, 60 * SECOND));
    assert_eq!(crash_loop(zero, Duration::ZERO, true).unwrap().0, 1);
    assert!(crash_loop(policy().budget(Budget::unlimited()), Duration::ZERO, true).is_none());
}

#[test]
fn spawn_failures_use_no_budget_and_their_waits_do_not_refill_it() {
    let mut stage = Stage::new(policy());
    stage.supervisor.start(stage.now);
    let mut starts = 0;
    loop {
        // Each start succeeds only at the fourth try.
        for _ in 0..3 {
            let id = Stage::spawned(&stage.actions());
            stage.supervisor.handle_spawn_failed(id, stage.now);
            stage.next_deadline();
        }
        let id = Stage::spawned(&stage.actions());
        stage.supervisor.handle_spawned(id, stage.now);
        starts += 1;
        stage.exit(id, SIGABRT);
        if stage.supervisor.given_up().next().is_some() {
            break;
        }
        assert!(starts < 100, "a crash loop with failing spawns in between must end too");
        if stage.supervisor.poll_timeout().is_some() {
            stage.next_deadline();
        }
    }
    assert_eq!(starts, 11);
}

#[test]
fn a_slot_is_given_up_alone() {
    let mut stage = Stage::new(policy().budget(Budget::new(1, 60 * SECOND)));
    let (bad, good) = (stage.ready(), stage.ready());
    stage.exit(bad, SIGABRT);
    let worse = Stage::spawned(&stage.actions());
    stage.supervisor.handle_spawned(worse, stage.now);
    stage.exit(worse, Exit::Code(3));

    let given_up: Vec<_> = stage.supervisor.given_up().collect();
    assert_eq!(given_up.len(), 1);
    assert_eq!((given_up[0].slot(), given_up[0].id()), (0, worse));
    assert_eq!(
        given_up[0].to_string(),
        "gave up on slot 0 after 2 failures in 60s: worker 0.2 exited with code 3 before it was ready"
    );
    assert!(!stage.supervisor.is_done(), "the other one lives");
    assert_eq!(stage.supervisor.worker(good).unwrap().state(), WorkerState::Ready);
}

#[test]
fn starting_a_slot_that_was_given_up_clears_its_record() {
    let mut stage = Stage::new(policy().budget(Budget::new(1, 60 * SECOND)));
    for round in 0..3 {
        let first = stage.starting();
        assert_eq!(first, WorkerId::new(0, 2 * round + 1), "the same slot, and no id twice");
        assert_eq!(stage.supervisor.given_up().count(), 0);
        stage.exit(first, SIGABRT);
        let second = Stage::spawned(&stage.actions());
        stage.supervisor.handle_spawned(second, stage.now);
        stage.exit(second, SIGABRT);
        assert_eq!(stage.supervisor.given_up().count(), 1);
        assert_eq!(stage.actions(), []);
    }
}

#[test]
fn a_shutdown_does_not_hide_what_was_given_up() {
    let mut stage = Stage::new(policy().budget(Budget::new(0, 60 * SECOND)));
    let (bad, good) = (stage.ready(), stage.ready());
    stage.exit(bad, SIGABRT);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(bad), Action::Withdraw(good), Action::AskStop(good)]);
    stage.exit(good, Exit::Code(0));
    assert!(stage.supervisor.is_done());
    assert_eq!(stage.supervisor.given_up().count(), 1, "the exit code of the primary depends on it");
}
