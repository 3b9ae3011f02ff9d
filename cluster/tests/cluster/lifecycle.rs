//! Starting, restarting, giving up.

use std::time::Duration;

use cluster::supervisor::{Backoff, Event as Life, Exit, ExitCause, Policy, StopSequence};
use cluster::{Error, Event, WorkerId};
use rustix::process::Signal;

use crate::support::client;
use crate::support::{eventually, process};
use crate::{QUICK, Running, builder};

/// A policy whose restarts don't make the test wait.
fn quick() -> Policy {
    Policy::new().backoff(Backoff::new().base(QUICK).cap(QUICK * 10))
}

pub(crate) fn a_worker_that_aborts_at_start_is_given_up() {
    let mut running = Running::start(builder("abort").workers(1).policy(quick()).max_restarts(4));
    let mut backoffs = Vec::new();
    let mut exits = 0;
    let reason = running.wait_for("the worker to be given up", |event| match event {
        Event::Lifecycle { event: Life::BackingOff { delay, failures, .. }, .. } => {
            backoffs.push((*failures, *delay));
            None
        }
        Event::Lifecycle { event: Life::Exited { exit, cause, .. }, .. } => {
            assert_eq!((*exit, *cause), (Exit::Signal(6), ExitCause::BootFailure));
            exits += 1;
            None
        }
        Event::Lifecycle { event: given_up @ Life::GaveUp(_), .. } => Some(given_up.to_string()),
        _ => None,
    });
    assert_eq!(exits, 5, "the first start and four restarts");
    assert!(backoffs.len() >= 3 && backoffs.windows(2).all(|pair| pair[0].0 < pair[1].0), "{backoffs:?}");
    assert!(backoffs.last().unwrap().1 > QUICK, "the pauses grow: {backoffs:?}");
    let error = running.outcome().unwrap_err();
    assert_eq!(error.exit_code(), 70);
    assert_eq!(error.to_string(), format!("no worker is left: {reason}"));
    assert!(
        reason.contains("slot 0") && reason.contains("5 failures") && reason.contains("SIGABRT"),
        "{reason}"
    );
}

pub(crate) fn a_worker_that_is_never_ready_is_replaced() {
    let stop = StopSequence::new().drain(QUICK).terminate(QUICK);
    let policy = quick().start_timeout(Duration::from_millis(50)).stop(stop);
    let mut running = Running::start(builder("never-ready").workers(1).policy(policy));
    running.wait_for("the start to time out", |event| match event {
        Event::Lifecycle { event: Life::Exited { cause: ExitCause::StartTimeout, .. }, .. } => Some(()),
        _ => None,
    });
    running.wait_for("its successor", |event| match event {
        Event::Lifecycle { event: Life::Spawned { id }, .. } => (id.generation() == 2).then_some(()),
        _ => None,
    });
    running.stop();
}

pub(crate) fn a_missing_executable_is_a_clear_error() {
    let error = Running::start(builder("http").exec("/nonexistent/server")).outcome().unwrap_err();
    assert_eq!(error.to_string(), "could not open the executable /nonexistent/server");
    assert!(matches!(error, Error::Process(_)));
}

/// The file that was pinned at the start is what is started again, whatever has become of its path.
pub(crate) fn a_crash_after_the_file_was_replaced_starts_the_pinned_one() {
    let copy = std::env::temp_dir().join(format!("cluster-pinned-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut running = Running::start(builder("http").exec(&copy).workers(1).policy(quick()));
    let pid = running.wait_ready(WorkerId::new(0, 1));
    std::fs::remove_file(&copy).unwrap();
    std::fs::write(&copy, "not even a program").unwrap();
    process::signal(pid, Signal::KILL);
    running.wait_ready(WorkerId::new(0, 2));
    std::fs::remove_file(&copy).unwrap();
    running.stop();
}

pub(crate) fn forked_workers_get_free_slots_and_new_generations() {
    let mut running = Running::start(builder("http").workers(2));
    running.wait_serving();
    let forked = running.block_on(running.handle.fork()).unwrap().id();
    assert_eq!(forked, WorkerId::new(2, 1));
    running.wait_ready(forked);
    running.block_on(running.handle.stop(WorkerId::new(0, 1))).unwrap();
    running.wait_for("the worker to leave", |event| match event {
        Event::Lifecycle {
            event: Life::Exited { id, exit: Exit::Code(0), cause: ExitCause::Asked, .. },
            ..
        } => (*id == WorkerId::new(0, 1)).then_some(()),
        _ => None,
    });
    let again = running.block_on(running.handle.fork()).unwrap().id();
    assert_eq!(again, WorkerId::new(0, 2), "the free slot, a new generation");
    running.wait_ready(again);
    let slots: Vec<_> =
        running.status().workers.iter().map(|worker| (worker.slot, worker.generation)).collect();
    assert_eq!(slots, [(0, 2), (1, 1), (2, 1)]);
    running.stop();
}

pub(crate) fn a_worker_that_talks_nonsense_harms_only_itself() {
    let mut running = Running::start(builder("nonsense").workers(1).policy(quick()).max_restarts(1));
    running.wait_for("the nonsense to end the worker", |event| match event {
        Event::Lifecycle { event: Life::Exited { cause: ExitCause::ChannelLost, .. }, .. } => Some(()),
        _ => None,
    });
    let error = running.outcome().unwrap_err();
    assert!(
        matches!(error, Error::GaveUp { .. }),
        "the primary lives on, and gives up in good order: {error}"
    );
}

/// The kernel drops descriptors on their way to a process at its limit. No connection is lost by that, and the worker is
/// replaced.
pub(crate) fn a_worker_that_can_receive_no_more_is_replaced_without_loss() {
    let mut running = Running::start(builder("greedy").workers(2).policy(quick()));
    let address = running.wait_serving()[0];
    for _ in 0..50 {
        assert_eq!(client::get(address, "/").unwrap().status, 200);
    }
    running.wait_ready(WorkerId::new(0, 2));
    running.stop();
}

pub(crate) fn dropping_the_primary_ends_its_workers() {
    let mut running = Running::start(builder("http").workers(2));
    running.wait_serving();
    let pids: Vec<u32> = running.status().workers.iter().filter_map(|worker| worker.pid).collect();
    assert_eq!(pids.len(), 2);
    drop(running);
    for pid in pids {
        eventually("the worker to end, and to be reaped", || process::parent(pid).is_none().then_some(()));
    }
}

/// Crashes, successors, connections: in the end the primary holds what it held before.
pub(crate) fn descriptors_are_all_given_back() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // What the first cluster of a process opens for all (tokio's way of hearing signals) stays.
    let mut first = Running::start(builder("http").workers(1));
    first.wait_serving();
    first.stop();
    drop(first);
    let before = open();
    let mut running = Running::start(builder("http").workers(2).policy(quick()).max_restarts(1000));
    let address = running.wait_serving()[0];
    let while_serving = eventually("a first answer", || client::get(address, "/").ok().map(|_| open()));
    for generation in 1..=10 {
        let pid = running.status().workers[0].pid.unwrap();
        process::signal(pid, Signal::KILL);
        running.wait_ready(WorkerId::new(0, generation + 1));
        for _ in 0..5 {
            assert_eq!(client::get(address, "/").unwrap().status, 200);
        }
    }
    eventually("as many descriptors as before the crashes", || (open() <= while_serving).then_some(()));
    running.stop();
    drop(running);
    eventually("as many descriptors as before the cluster", || (open() <= before).then_some(()));
}
