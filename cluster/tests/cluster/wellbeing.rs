//! Workers that are not well, each named by its own cause, and replaced without a failed request where that can wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::health::{Cause, Checks, Heartbeat, Limit, Quantity, VerdictKind};
use cluster::supervisor::{Event as Life, ExitCause};
use cluster::{Builder, Event, WorkerId};
use rustix::process::Signal;

use crate::apps::LEDGER;
use crate::support::client::{self, Connection};
use crate::support::{DEADLINE, eventually, process};
use crate::{Running, builder};

const MEBIBYTE: f64 = 1_048_576.0;

/// A replacement that fails on a busy machine is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Beats that a busy test machine doesn't miss.
fn heartbeat() -> Heartbeat {
    // A successor that is suspect even once has failed its trial.
    Heartbeat::new().interval(Duration::from_millis(50)).suspect_missed(20)
}

/// For what is not about silence: nobody is dead for that.
pub(crate) fn checks() -> Checks {
    Checks::new().heartbeat(heartbeat().dead_at_least(10 * DEADLINE)).confirm_memory(false)
}

/// For what is: it is found soon enough for a test.
pub(crate) fn hasty_checks() -> Checks {
    Checks::new().heartbeat(heartbeat().dead_at_least(Duration::from_millis(1500))).confirm_memory(false)
}

pub(crate) fn patients(workers: usize, checks: Checks) -> Builder {
    builder("patient").workers(workers).health(checks).sample_every(Duration::from_millis(20))
}

/// Waits for a verdict of this kind, and returns whose it is and how it reads.
fn wait_for_verdict(running: &mut Running, kind: VerdictKind) -> (WorkerId, Cause, String) {
    running.wait_for("a verdict", |event| match event {
        Event::Health { id, kind: told, cause, .. } if *told == kind => {
            Some((*id, cause.clone(), event.to_string()))
        }
        _ => None,
    })
}

fn limit_of(cause: &Cause) -> &Quantity {
    match cause {
        Cause::Limit(excess) => &excess.quantity,
        other => panic!("not about a limit: {other}"),
    }
}

/// Asks one worker to do something to itself, while clients ask all of them: nobody's request fails until it is replaced. Workers linger, since
/// a busy machine may not let a client run for a second, between its connection and its request.
fn is_replaced_without_loss(
    running: &mut Running,
    path: &str,
    kind: VerdictKind,
) -> (WorkerId, Cause, String) {
    let address = running.wait_serving()[0];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        assert_eq!(client::get(address, "/").unwrap().status, 200);
                    }
                })
            })
            .collect();
        assert_eq!(client::get(address, path).unwrap().status, 200);
        let verdict = wait_for_verdict(running, kind);
        let sick = verdict.0;
        running.wait_for("it to leave", |event| match event {
            Event::Lifecycle { event: Life::Exited { id, cause, .. }, post_mortem, .. } if *id == sick => {
                assert_eq!(*cause, ExitCause::Asked, "its successor first");
                let reason = post_mortem.as_ref().unwrap().reason.clone();
                assert_eq!(reason.as_deref(), Some(verdict.1.to_string().as_str()));
                Some(())
            }
            _ => None,
        });
        over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        verdict
    })
}

pub(crate) fn a_leak_is_recycled() {
    let limit = Limit::over(100.0 * MEBIBYTE).recycle().again_after(AGAIN);
    let mut running = Running::start(patients(2, checks().limit(Quantity::Memory, limit)).linger(DEADLINE));
    let (_, cause, line) = is_replaced_without_loss(&mut running, "/eat?120", VerdictKind::Recycle);
    assert_eq!(limit_of(&cause), &Quantity::Memory);
    assert!(
        line.contains("is to be replaced when convenient: memory at ") && line.contains(", over 100 MiB"),
        "{line}"
    );
    running.stop();
}

/// What grows by 8 MiB from sample to sample is recycled with at most 8 MiB over the limit.
pub(crate) fn a_leak_is_found_at_the_next_sample() {
    const STEP: f64 = 8.0 * MEBIBYTE;
    const LIMIT: f64 = 100.0 * MEBIBYTE;
    let checks = checks().limit(Quantity::Memory, Limit::over(LIMIT).recycle().again_after(AGAIN));
    let mut running = Running::start(patients(1, checks));
    let address = running.wait_serving()[0];
    // `None` once it was replaced.
    let memory = |running: &Running| {
        let workers = running.status().workers;
        workers.iter().find(|worker| worker.generation == 1)?.memory_bytes.map(|bytes| bytes as f64)
    };
    let mut before = eventually("a sample", || memory(&running));
    while before <= LIMIT {
        client::get(address, "/eat?8").unwrap();
        before = eventually("the next sample", || {
            let now = memory(&running).unwrap_or(f64::INFINITY);
            (now >= before + 0.9 * STEP).then_some(now)
        });
    }
    let (.., cause, _) = wait_for_verdict(&mut running, VerdictKind::Recycle);
    let Cause::Limit(excess) = cause else { panic!("not about a limit: {cause}") };
    // The kernel counts in batches, for each processor.
    assert!(excess.value > LIMIT && excess.value < LIMIT + 1.25 * STEP, "{excess:?}");
    let at_the_end = running.wait_for("its end", |event| match event {
        Event::Lifecycle { event: Life::Exited { .. }, post_mortem, .. } => {
            post_mortem.as_ref().unwrap().figures.memory_bytes
        }
        _ => None,
    });
    assert!((at_the_end as f64) < LIMIT + 1.25 * STEP, "{at_the_end}");
    running.stop();
}

pub(crate) fn a_leak_of_descriptors_is_recycled() {
    let limit = Limit::over(150.0).recycle().again_after(AGAIN);
    let mut running = Running::start(patients(2, checks().limit(Quantity::Files, limit)).linger(DEADLINE));
    let (_, cause, line) = is_replaced_without_loss(&mut running, "/open", VerdictKind::Recycle);
    assert_eq!(limit_of(&cause), &Quantity::Files);
    assert!(line.contains("open descriptors at "), "{line}");
    running.stop();
}

pub(crate) fn a_worker_that_has_served_enough_is_recycled() {
    let mut running = Running::start(patients(2, checks().max_requests(500)).linger(DEADLINE));
    let (_, cause, _) = is_replaced_without_loss(&mut running, "/", VerdictKind::Recycle);
    assert!(matches!(cause, Cause::Requests { .. }), "{cause}");
    running.stop();
}

pub(crate) fn a_hog_is_noticed() {
    // As much as it gets on a busy machine, too. The others may use that much for a moment, when they start.
    let limit = Limit::over(0.05).lasting(Duration::from_millis(200));
    let mut running = Running::start(patients(
        2,
        checks().limit(Quantity::Cpu, limit).cpu_window(Duration::from_millis(500)),
    ));
    let address = running.wait_serving()[0];
    let hog = client::get(address, "/burn").unwrap().body;
    let (id, cause, line) = running.wait_for("the hog to be noticed", |event| match event {
        Event::Health { id, kind: VerdictKind::Noticed, cause, .. } => {
            hog.starts_with(&format!("{id} ")).then(|| (*id, cause.clone(), event.to_string()))
        }
        _ => None,
    });
    assert_eq!(limit_of(&cause), &Quantity::Cpu);
    assert!(line.contains("CPU use at ") && line.contains("% of a core, over 5 % of a core for "), "{line}");
    // It goes on.
    eventually("figures in the status", || {
        let status = running.status();
        let worker = status.workers.iter().find(|worker| worker.slot == id.slot())?;
        (worker.cpu_permille? > 50 && worker.memory_bytes? > 0 && worker.open_files? > 0).then_some(())
    });
    running.stop();
}

/// Asks until everybody, or nobody but the others, answers.
fn who_answers(address: SocketAddr, expected: impl Fn(&[String]) -> bool) {
    eventually("the right ones to answer", || {
        let who: Vec<String> = (0..20)
            .map(|_| client::get(address, "/").unwrap().body.split('.').next().unwrap().to_owned())
            .collect();
        expected(&who).then_some(())
    });
}

pub(crate) fn gauges_and_readiness_steer() {
    let limit = Limit::over(1000.0).suspect();
    let checks = checks().limit(Quantity::gauge("queue"), limit);
    let mut running = Running::start(patients(2, checks).strategy("round-robin"));
    let address = running.wait_serving()[0];
    for (sick, well, what) in [
        ("/gauge?1001", "/gauge?10", "queue at 1001, over 1000"),
        ("/ready?false", "/ready?true", "says that it can take no work"),
    ] {
        // On the same connection, since it gets no new ones.
        let mut connection = Connection::open(address).unwrap();
        connection.request("GET", sick, true).unwrap();
        let id = running.wait_for("it to get nothing", |event| match event {
            Event::Health { id, kind: VerdictKind::Suspect, .. } | Event::Readiness { id, ready: false } => {
                let line = event.to_string();
                assert!(line.contains("gets no connections") && line.contains(what), "{line}");
                Some(*id)
            }
            _ => None,
        });
        who_answers(address, |who| who.iter().all(|slot| *slot != id.slot().to_string()));
        connection.request("GET", well, true).unwrap();
        running.wait_for("it to recover", |event| match event {
            Event::Health { id: other, kind: VerdictKind::Recovered, .. }
            | Event::Readiness { id: other, ready: true } => {
                assert_eq!(*other, id, "{event}");
                Some(())
            }
            _ => None,
        });
        who_answers(address, |who| who.iter().any(|slot| *slot == id.slot().to_string()));
    }
    running.stop();
}

/// Each is replaced now, and the event says what it looked like. Nobody's request fails but the one that hangs it.
pub(crate) fn a_hang_is_told_by_what_it_looks_like() {
    for (path, looks) in [("/spin", "spin"), ("/deadlock", "lock"), ("", "stopped")] {
        let ledger = std::env::temp_dir().join(format!("cluster-stuck-{looks}-{}", std::process::id()));
        let mut running = Running::start(patients(2, hasty_checks()).env(LEDGER, &ledger));
        let address = running.wait_serving()[0];
        let mut stuck = Connection::open(address).unwrap();
        if path.is_empty() {
            let pid = running.status().workers[0].pid.unwrap();
            process::signal(pid, Signal::STOP);
            eventually("it to stand still", || process::is_stopped(pid).then_some(()));
        } else {
            stuck.send("GET", path, false).unwrap();
            // From then on it takes no connection that it would not answer.
            eventually("it to be stuck", || ledger.exists().then_some(()));
            std::fs::remove_file(&ledger).unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let others = std::thread::spawn(move || {
            let mut answered = 0;
            while !told.load(Ordering::SeqCst) {
                assert_eq!(client::get(address, "/").unwrap().status, 200);
                answered += 1;
            }
            answered
        });
        let (id, line) = running.wait_for("it to be unhealthy", |event| match event {
            Event::Health { id, kind: VerdictKind::Unhealthy, report: Some(_), .. } => {
                Some((*id, event.to_string()))
            }
            _ => None,
        });
        assert!(line.contains("is replaced: no heartbeat for 1."), "{line}");
        let (_, report) = line.split_once('\n').unwrap();
        // Not every kernel tells what system call a thread is in.
        if looks != "lock" || std::fs::read("/proc/self/syscall").is_ok() {
            assert!(report.to_lowercase().contains(looks), "{report}");
        }
        running.wait_ready(WorkerId::new(id.slot(), 2));
        over.store(true, Ordering::SeqCst);
        assert!(others.join().unwrap() > 0);
        running.stop();
    }
}

/// All are too large at once, and one after the other is replaced.
pub(crate) fn recycles_never_coincide() {
    let limit = Limit::over(1.0).recycle().again_after(Duration::from_millis(100));
    let mut running = Running::start(patients(3, checks().limit(Quantity::Memory, limit)).linger(DEADLINE));
    let address = running.wait_serving()[0];
    let mut on_trial = 0;
    let mut replaced = 0;
    running.wait_for("six to be replaced", |event| {
        assert_eq!(client::get(address, "/").unwrap().status, 200);
        match event {
            Event::Lifecycle { event: Life::Replacing { .. }, .. } => on_trial += 1,
            Event::Lifecycle { event: Life::Replaced { .. }, .. } => {
                on_trial -= 1;
                replaced += 1;
            }
            // A busy machine made a successor suspect.
            Event::Lifecycle { event: Life::ReplaceFailed { .. }, .. } => on_trial -= 1,
            _ => {}
        }
        assert!(on_trial <= 1, "one at a time");
        (replaced == 6).then_some(())
    });
    running.stop();
}
