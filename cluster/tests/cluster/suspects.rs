//! Who gets connections, and who is replaced, where something speaks against several workers at once, or only for a while.

use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::health::{Checks, Limit, Quantity, VerdictKind};
use cluster::supervisor::{Event as Life, Policy, Roll, StopSequence};
use cluster::{Builder, Event, Worker, WorkerId};
use rustix::process::Signal;

use crate::support::client::{self, Connection};
use crate::support::{eventually, process};
use crate::wellbeing::{checks, hasty_checks, patients};
use crate::{QUICK, Running, builder};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn states(running: &Running) -> Vec<String> {
    running.status().workers.into_iter().map(|worker| worker.state).collect()
}

fn answers(running: &mut Running, requests: usize) {
    let address = running.wait_serving()[0];
    (0..requests).for_each(|_| assert_eq!(client::get(address, "/").unwrap().status, 200));
}

fn wait_for_kind(running: &mut Running, kind: VerdictKind) -> WorkerId {
    running.wait_for("a verdict", |event| match event {
        Event::Health { id, kind: told, .. } if *told == kind => Some(*id),
        _ => None,
    })
}

/// As long as half of them are well the others get nothing; beyond that all serve.
pub(crate) fn somebody_serves_though_all_are_suspect() {
    let limit = Limit::over(1000.0).suspect();
    let checks = checks().limit(Quantity::gauge("queue"), limit);
    let mut running = Running::start(patients(3, checks).strategy("round-robin"));
    let address = running.wait_serving()[0];
    let mut connections: Vec<Connection> = Vec::new();
    let mut slots: Vec<String> = Vec::new();
    while connections.len() < 3 {
        let mut connection = Connection::open(address).unwrap();
        let slot = connection.request("GET", "/", true).unwrap().body;
        if !slots.contains(&slot) {
            slots.push(slot);
            connections.push(connection);
        }
    }
    connections[0].request("GET", "/gauge?2000", true).unwrap();
    wait_for_kind(&mut running, VerdictKind::Suspect);
    eventually("one to be passed over", || {
        (states(&running).iter().filter(|state| *state == "suspect").count() == 1).then_some(())
    });
    connections[1].request("GET", "/gauge?2000", true).unwrap();
    wait_for_kind(&mut running, VerdictKind::Noticed);
    connections[2].request("GET", "/gauge?2000", true).unwrap();
    wait_for_kind(&mut running, VerdictKind::Noticed);
    assert_eq!(states(&running), ["ready"; 3]);
    (0..20).for_each(|_| assert_eq!(client::get(address, "/").unwrap().status, 200));
    // Two of three are well again.
    connections[0].request("GET", "/gauge?1", true).unwrap();
    connections[1].request("GET", "/gauge?1", true).unwrap();
    eventually("one to be passed over again", || {
        (states(&running).iter().filter(|state| *state == "suspect").count() == 1).then_some(())
    });
    running.stop();
}

/// All have to go at once for a limit; where one is missing already the others wait for their successors.
pub(crate) fn not_all_go_at_once_though_all_have_to() {
    let limit = Limit::over(1.0).lasting(Duration::from_millis(300)).replace();
    let mut running = Running::start(patients(3, checks().limit(Quantity::Memory, limit)));
    running.wait_serving();
    let (mut ready, mut least, mut gone) = (3_i32, 3, 0);
    running.wait_for("three of the first to be gone", |event| {
        match event {
            Event::Lifecycle { event: Life::Ready { .. }, .. } => ready += 1,
            Event::Lifecycle { event: Life::Exited { id, .. }, .. } => {
                ready -= 1;
                least = least.min(ready);
                gone += i32::from(id.generation() == 1);
            }
            _ => {}
        }
        (gone == 3).then_some(())
    });
    assert!(least >= 2, "so many were ready at least: {least}");
    running.stop();
}

/// App: those of the first generation serve; successors say right after they are ready that they can't take work.
pub(crate) async fn successors_unready(worker: Worker) {
    if worker.id().generation() > 1 {
        let unready = worker.clone();
        tokio::spawn(async move {
            unready.ready().await;
            unready.set_ready(false).await;
        });
    }
    crate::apps::patient(worker).await;
}

/// A roll to workers that take no work fails, and the others go on.
pub(crate) fn a_roll_to_workers_that_take_no_work_fails() {
    // It fails as soon as they say so, however long it takes them.
    let roll = Roll::same().bake(LONG);
    let mut running = Running::start(builder("successors-unready").workers(2).rolling(roll));
    answers(&mut running, 2);
    let report = running.block_on(running.handle.reload()).unwrap();
    assert!(!report.is_complete(), "{report:?}, {:?}", states(&running));
    let address = running.status().listening[0].ip().unwrap();
    (0..20).for_each(|_| assert_eq!(client::get(address, "/").unwrap().status, 200));
    running.stop();
}

/// App: says that it can't take work before it listens.
pub(crate) async fn unready_early(worker: Worker) {
    worker.set_ready(false).await;
    crate::apps::patient(worker).await;
}

pub(crate) fn what_is_said_before_ready_counts() {
    let mut running = Running::start(builder("unready-early").workers(1));
    running.wait_ready(WorkerId::new(0, 1));
    assert_eq!(states(&running), ["unready"]);
    running.stop();
}

/// A gauge has its last value until another is said, and so it lasts.
pub(crate) fn a_gauge_that_is_said_once_lasts() {
    let limit = Limit::over(1000.0).lasting(Duration::from_millis(300));
    let mut running = Running::start(patients(1, checks().limit(Quantity::gauge("queue"), limit)));
    let address = running.wait_serving()[0];
    client::get(address, "/gauge?2000").unwrap();
    wait_for_kind(&mut running, VerdictKind::Noticed);
    running.stop();
}

/// With checks that begin with a start, readiness is the end of it.
pub(crate) fn a_hang_is_found_after_a_start() {
    let mut running = Running::start(patients(1, hasty_checks().starts()));
    running.wait_serving();
    process::signal(running.status().workers[0].pid.unwrap(), Signal::STOP);
    wait_for_kind(&mut running, VerdictKind::Unhealthy);
    running.stop();
}

/// Whom a debugger holds is left alone, stays suspect, and recovers when it is let go.
#[expect(clippy::print_stdout, reason = "it says what it skips")]
pub(crate) fn a_worker_in_a_debugger_is_left_alone() {
    let mut running = Running::start(patients(1, hasty_checks()));
    running.wait_serving();
    let pid = running.status().workers[0].pid.unwrap();
    // PTRACE_SEIZE, as a debugger does, until its input ends.
    let script = format!(
        "import ctypes,sys\nl=ctypes.CDLL(None,use_errno=True)\nl.ptrace.argtypes=[ctypes.c_long]*4\n\
         ok=l.ptrace(0x4206,{pid},0,0)==0\nprint(ok,flush=True)\nsys.stdin.read()"
    );
    let debugger =
        Command::new("python3").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut debugger) = debugger else {
        println!("skipped: there is no python3 to be the debugger");
        return running.stop();
    };
    let mut said = String::new();
    let output = debugger.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut said).unwrap();
    if said.trim() == "True" {
        process::signal(pid, Signal::STOP);
        for _ in 0..2 {
            running
                .wait_for("it to be left alone", |event| matches!(event, Event::Traced { .. }).then_some(()));
            assert_eq!(states(&running), ["suspect"]);
        }
    } else {
        println!("skipped: no process may be traced here");
    }
    // As long as it is held it doesn't go on for that; but when it is let go, at once.
    process::signal(pid, Signal::CONT);
    drop(debugger.stdin.take());
    debugger.wait().unwrap();
    eventually("it to be ready again", || (states(&running) == ["ready"]).then_some(()));
    assert_eq!(running.status().workers[0].pid, Some(pid), "the same");
    running.stop();
}

pub(crate) fn never_measured_is_not_measured() {
    let mut running = Running::start(builder("patient").workers(1).sample_every(Duration::MAX));
    answers(&mut running, 20);
    assert_eq!(running.status().workers[0].memory_bytes, None);
    running.stop();
}

/// App: the first generation is a patient, its successors are never ready.
pub(crate) async fn successors_never_ready(worker: Worker) {
    if worker.id().generation() > 1 {
        return std::future::pending().await;
    }
    crate::apps::patient(worker).await;
}

/// It was to be recycled, that failed, it recovered; later somebody kills it: that is no reason any more.
pub(crate) fn a_reason_ends_with_its_verdict() {
    let limit = Limit::over(1000.0).recycle();
    let checks: Checks = checks().limit(Quantity::gauge("queue"), limit);
    let stop = StopSequence::new().drain(QUICK).terminate(QUICK);
    let policy = Policy::new().start_timeout(Duration::from_secs(6)).stop(stop);
    let builder: Builder = builder("successors-never-ready").workers(1).health(checks).policy(policy);
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    client::get(address, "/gauge?2000").unwrap();
    running.wait_for("the replacement to fail", |event| {
        matches!(event, Event::Lifecycle { event: Life::ReplaceFailed { .. }, .. }).then_some(())
    });
    client::get(address, "/gauge?1").unwrap();
    wait_for_kind(&mut running, VerdictKind::Recovered);
    process::signal(running.status().workers[0].pid.unwrap(), Signal::KILL);
    let reason = running.wait_for("its end", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, .. }, post_mortem, .. } if id.generation() == 1 => {
            Some(post_mortem.as_ref().unwrap().reason.clone())
        }
        _ => None,
    });
    assert_eq!(reason, None, "it was killed by somebody else, and well");
    running.stop();
}
