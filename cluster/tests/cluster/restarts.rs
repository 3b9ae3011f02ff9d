//! Replacing workers: verdicts, and what the status shows.

use std::os::unix::fs::PermissionsExt;

use cluster::supervisor::{Event as Life, ExitCause, Policy, RollOutcome, StopSequence, Unfit};
use cluster::{Error, Event, NotReplaced, WorkerId};
use rustix::process::Signal;

use crate::support::process;
use crate::{QUICK, Running, builder};

pub(crate) fn one_worker_is_replaced_and_its_successor_told() {
    let mut running = Running::start(builder("http").workers(2));
    running.wait_serving();
    let (first, second) = running.block_on(async {
        let handle = &running.handle;
        // Both ask for the same.
        tokio::join!(handle.restart(1), handle.restart(1))
    });
    assert_eq!((first.unwrap(), second.unwrap()), (WorkerId::new(1, 2), WorkerId::new(1, 2)));
    assert_eq!(running.block_on(running.handle.restart(1)).unwrap(), WorkerId::new(1, 3));
    assert_eq!(running.block_on(running.handle.restart(0)).unwrap(), WorkerId::new(0, 2));
    running.stop();
}

pub(crate) fn a_worker_that_is_not_replaced_is_told_why() {
    let mut running = Running::start(builder("third-time-unlucky").workers(1));
    running.wait_serving();
    let restart = |slot| running.block_on(running.handle.restart(slot));
    let error = restart(7).unwrap_err();
    assert_eq!(error.to_string(), "the worker of slot 7 was not replaced: there is none");
    assert_eq!(restart(0).unwrap(), WorkerId::new(0, 2));
    let error = restart(0).unwrap_err();
    let Error::NotReplaced { slot: 0, reason: NotReplaced::Unfit(Unfit::Ended { cause, .. }) } = error else {
        panic!("{error}");
    };
    assert_eq!(cause, ExitCause::BootFailure);
    assert_eq!(running.status().workers[0].generation, 2, "it stays");
    running.stop();
}

/// Its turn does not come, since another one is being replaced for ever.
pub(crate) fn a_worker_that_ends_before_its_turn_is_not_replaced() {
    let stop = StopSequence::new().drain(QUICK).terminate(QUICK);
    let policy = Policy::new().start_timeout(std::time::Duration::from_secs(600)).stop(stop);
    let mut running = Running::start(builder("second-never-ready").workers(2).policy(policy));
    running.wait_serving();
    let status = running.status();
    let pid = status.workers[1].pid.unwrap();
    let handle = running.handle.clone();
    let first = running.runtime.spawn({
        let handle = handle.clone();
        async move { handle.restart(0).await }
    });
    running.wait_for("the first to be on trial", |event| match event {
        Event::Lifecycle { event: cluster::supervisor::Event::Replacing { slot: 0, .. }, .. } => Some(()),
        _ => None,
    });
    let mut second = Box::pin(handle.restart(1));
    running.block_on(async {
        tokio::select! {
            biased;
            ended = &mut second => panic!("its turn has not come: {ended:?}"),
            // An order after it is carried out after it.
            status = running.handle.status() => drop(status.unwrap()),
        }
    });
    process::signal(pid, Signal::KILL);
    let error = running.block_on(second).unwrap_err();
    assert_eq!(error.to_string(), "the worker of slot 1 was not replaced: it ended before that");
    running.block_on(running.handle.shutdown()).unwrap();
    let error = running.block_on(first).unwrap().unwrap_err();
    assert!(
        matches!(error, Error::NotReplaced { slot: 0, reason: NotReplaced::Unfit(Unfit::Recalled) }),
        "{error}"
    );
    running.outcome().unwrap();
}

pub(crate) fn a_roll_shows_in_the_status() {
    let rolling = cluster::supervisor::Roll::same().bake(std::time::Duration::from_secs(600));
    let mut running = Running::start(builder("http").workers(2).rolling(rolling));
    running.wait_serving();
    assert_eq!(running.status().roll, None);
    let handle = running.handle.clone();
    let roll = running.runtime.spawn(async move { handle.restart_all().await });
    running.wait_for("the first to be on trial", |event| match event {
        Event::Lifecycle { event: Life::Replacing { .. }, .. } => Some(()),
        _ => None,
    });
    assert!(running.block_on(running.handle.pause_roll()).unwrap());
    let shown = running.status().roll.unwrap();
    assert!(
        shown.paused && !shown.rolling_back && shown.replaced == 0 && shown.release.is_none(),
        "{shown:?}"
    );
    running.block_on(running.handle.abort_roll()).unwrap();
    let report = running.block_on(roll).unwrap().unwrap();
    assert_eq!((report.outcome, report.replaced), (RollOutcome::Aborted, 0));
    assert_eq!(running.status().roll, None);
    running.stop();
}

pub(crate) fn a_script_says_that_it_is_not_pinned() {
    let script = std::env::temp_dir().join(format!("cluster-script-{}", std::process::id()));
    let me = std::env::current_exe().unwrap();
    std::fs::write(&script, format!("#!/bin/sh\nexec '{}'\n", me.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut running = Running::start(builder("http").exec(&script).workers(1));
    running.wait_serving();
    let executable = running.status().executable.unwrap();
    assert_eq!((executable.path, executable.pinned), (script.display().to_string(), false));
    running.stop();
    std::fs::remove_file(&script).unwrap();
    let mut running = Running::start(builder("http").workers(1));
    running.wait_serving();
    assert!(running.status().executable.unwrap().pinned);
    running.stop();
}
