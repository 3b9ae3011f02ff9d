//! Faults of the wiring (health -> facade). Copy to cluster/tests/cluster/wiring_faults.rs, add `mod wiring_faults;`, the entries of the
//! list in main.rs, in apps.rs `"wf-unready-early" => crate::wiring_faults::unready_early(worker).await`, `"wf-successors-unready"` and
//! `"wf-successors-never-ready"` likewise, and make `apps::patient` pub(crate).
//! Each should fail.

#![allow(dead_code, reason = "some are not hooked in")]

use std::time::{Duration, Instant};

use cluster::health::{Checks, Heartbeat, Limit, Quantity, VerdictKind};
use cluster::supervisor::Event as Life;
use cluster::{Builder, Event, Worker, WorkerId};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use crate::support::client::{self, Connection};
use crate::support::process;
use crate::{Running, builder};

fn quick() -> Heartbeat {
    Heartbeat::new().interval(Duration::from_millis(50)).dead_at_least(Duration::from_millis(1500))
}

fn patients(workers: usize, checks: Checks) -> Builder {
    builder("patient")
        .workers(workers)
        .health(checks.heartbeat(quick()))
        .sample_every(Duration::from_millis(20))
}

/// Looks at events for so long.
fn during(running: &mut Running, time: Duration, mut see: impl FnMut(&Event)) {
    let events = &mut running.events;
    running.runtime.block_on(async {
        let look = async {
            while let Some(event) = events.recv().await {
                see(&event);
            }
        };
        let _ = tokio::time::timeout(time, look).await;
    });
}

fn states(running: &Running) -> Vec<String> {
    running.status().workers.into_iter().map(|worker| worker.state).collect()
}

/// An answer to a GET within so long, on a connection of its own.
fn is_served(address: std::net::SocketAddr, within: Duration) -> bool {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(client::get(address, "/").is_ok()));
    receiver.recv_timeout(within).unwrap_or(false)
}

/// App: says that it is not ready, and then accepts.
pub(crate) async fn unready_early(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    worker.set_ready(false).await;
    while let Some((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    }
}

/// App: those of the first generation serve; successors say right after they are ready that they can't take work.
pub(crate) async fn successors_unready(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    if worker.id().generation() > 1 {
        worker.ready().await;
        worker.status().await.unwrap();
        worker.set_ready(false).await;
    }
    while let Some((mut stream, _)) = listener.accept().await {
        let mut buffer = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    }
    worker.drained().await;
}

/// `Builder::health` takes away that one `set_ready(false)` is enough: the bad answers in a row are 3 then, and it is said once.
pub(crate) fn health_breaks_set_ready() {
    let mut running = Running::start(patients(2, Checks::new()));
    let address = running.wait_serving()[0];
    Connection::open(address).unwrap().request("GET", "/ready?false", true).unwrap();
    let mut suspect = false;
    during(&mut running, Duration::from_secs(2), |event| {
        suspect |= matches!(event, Event::Readiness { ready: false, .. });
    });
    assert!(suspect, "set_ready(false) had no effect: {:?}", states(&running));
    running.stop();
}

/// What is said before the worker is admitted is lost.
pub(crate) fn readiness_before_ready_is_lost() {
    let mut running = Running::start(builder("wf-unready-early").workers(1));
    running.wait_ready(WorkerId::new(0, 1));
    crate::support::eventually("its word to be known", || (states(&running) == ["unready"]).then_some(()));
    running.stop();
}

/// All over a suspect limit at once: nobody is left.
pub(crate) fn all_suspect_is_an_outage() {
    let limit = Limit::over(1.0).lasting(Duration::from_millis(500)).suspect();
    let mut running = Running::start(patients(3, Checks::new().limit(Quantity::Memory, limit)));
    let address = running.wait_serving()[0];
    std::thread::sleep(Duration::from_secs(2));
    assert!(is_served(address, Duration::from_secs(3)), "nobody serves: {:?}", states(&running));
    running.stop();
}

/// All over a hard limit at once: all are killed at once.
pub(crate) fn all_unhealthy_are_killed_at_once() {
    let limit = Limit::over(1.0).lasting(Duration::from_secs(1)).replace();
    let checks = Checks::new().confirm_memory(false).limit(Quantity::Memory, limit);
    let mut running = Running::start(patients(3, checks));
    running.wait_serving();
    let mut ready: i32 = 3;
    let mut least = ready;
    during(&mut running, Duration::from_secs(3), |event| match event {
        Event::Lifecycle { event: Life::Ready { .. }, .. } => ready += 1,
        Event::Lifecycle { event: Life::Exited { .. }, .. } => {
            ready -= 1;
            least = least.min(ready);
        }
        _ => {}
    });
    assert!(least >= 2, "so many were ready at least: {least}");
    running.stop();
}

/// A roll to workers that take no work is "complete", and nobody serves.
pub(crate) fn a_roll_to_suspects_completes() {
    let mut running = Running::start(
        builder("wf-successors-unready")
            .workers(2)
            .rolling(cluster::supervisor::Roll::same().bake(Duration::from_secs(1))),
    );
    let address = running.wait_serving()[0];
    assert!(is_served(address, Duration::from_secs(3)));
    let report = running.block_on(running.handle.reload()).unwrap();
    let served = is_served(address, Duration::from_secs(3));
    assert!(served || !report.is_complete(), "{report:?}, {:?}", states(&running));
    running.stop();
}

/// A gauge that is set when it changes never counts as lasting.
pub(crate) fn a_gauge_said_once_never_lasts() {
    let limit = Limit::over(1000.0).lasting(Duration::from_millis(300));
    let mut running = Running::start(patients(1, Checks::new().limit(Quantity::gauge("queue"), limit)));
    let address = running.wait_serving()[0];
    client::get(address, "/gauge?2000").unwrap();
    let mut noticed = false;
    during(&mut running, Duration::from_secs(3), |event| noticed |= matches!(event, Event::Health { .. }));
    assert!(noticed, "2000 for 3 s, over 1000 for 0.3 s");
    running.stop();
}

/// `Checks::starts` through the facade: nobody says that it has begun, so hangs are never found.
pub(crate) fn checks_that_start_find_no_hang() {
    let mut running = Running::start(patients(1, Checks::new().starts()));
    running.wait_serving();
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::STOP);
    let mut found = false;
    during(&mut running, Duration::from_secs(6), |event| found |= matches!(event, Event::Health { .. }));
    process::signal(pid, Signal::CONT);
    assert!(found, "stopped for 6 s; dead after 1.5 s");
    running.stop();
}

/// Suspected, then watched anew since a debugger holds it, then let go before it is suspected again: nobody says that it recovered.
pub(crate) fn suspect_for_ever_after_a_debugger() {
    let heartbeat =
        Heartbeat::new().interval(Duration::from_millis(200)).dead_at_least(Duration::from_secs(3));
    let mut running = Running::start(builder("patient").workers(1).heartbeat(heartbeat));
    running.wait_serving();
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::STOP);
    let script = format!(
        "import ctypes,time\nl=ctypes.CDLL(None,use_errno=True)\nl.ptrace.argtypes=[ctypes.c_long]*4\nassert l.ptrace(0x4206,{pid},0,0)==0\ntime.sleep(120)"
    );
    let mut debugger = std::process::Command::new("python3").args(["-c", &script]).spawn().unwrap();
    let from = Instant::now();
    let mut suspected = Vec::new();
    // Dead counts the longer of this and 30 missed beats: 6 s. Let go 0.4 s after it was watched anew.
    during(&mut running, Duration::from_millis(6500), |event| {
        suspected.push((from.elapsed(), event.to_string()))
    });
    debugger.kill().unwrap();
    debugger.wait().unwrap();
    process::signal(pid, Signal::CONT);
    during(&mut running, Duration::from_secs(5), |event| suspected.push((from.elapsed(), event.to_string())));
    assert_eq!(states(&running), ["ready"], "it has been beating for 5 s: {suspected:#?}");
    running.stop();
}

/// Descriptors of the primary per worker, while there are no rolls.
pub(crate) fn descriptors_per_worker() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut counts = Vec::new();
    for workers in [1, 9] {
        let output = cluster::Output::prefixed();
        let mut running = Running::start(builder("patient").workers(workers).output(output));
        running.wait_serving();
        std::thread::sleep(Duration::from_millis(500));
        counts.push(count());
        running.stop();
    }
    let each = (counts[1] - counts[0]) as f64 / 8.0;
    assert!(2.0 * each <= 16.0, "{each} for each, and as many for its successor; 16 are kept free");
}

/// `sample_every(Duration::MAX)`, "never", samples at every tick.
pub(crate) fn sampling_never_is_sampling_always() {
    let mut running = Running::start(builder("patient").workers(1).sample_every(Duration::MAX));
    running.wait_serving();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(running.status().workers[0].memory_bytes, None, "never means never");
    running.stop();
}

/// The same without processes: a bad answer that is handled first after a stall is dropped, and the application says it only once. (In
/// `handle_readiness` it began "now", which is never later than the stall that this very call notices.)
pub(crate) fn readiness_that_ends_a_stall_is_lost() {
    use cluster::health::{InARow, Monitor, Probe, Standing};
    let mut monitor = Monitor::new(Checks::new().probe(Probe::Readiness, InARow::new(1, 1)));
    let begin = Instant::now();
    monitor.insert(1, begin);
    // As Core::handle_readiness does, 0.25 s later: the tick of 0.1 s is late by more than its length.
    let now = begin + Duration::from_millis(250);
    monitor.handle_probe(1, Probe::Readiness, Err("the application says so"), now, now);
    assert_eq!(monitor.standing(1), Some(Standing::Suspect));
}

/// App: the first generation is a patient, its successors are never ready.
pub(crate) async fn successors_never_ready(worker: Worker) {
    if worker.id().generation() > 1 {
        return std::future::pending().await;
    }
    crate::apps::patient(worker).await;
}

/// It was to be recycled, that failed, it recovered; later somebody kills it: the post mortem gives the old verdict as the reason.
pub(crate) fn a_reason_outlives_its_verdict() {
    let limit = Limit::over(1000.0).recycle();
    let checks = Checks::new().heartbeat(quick()).limit(Quantity::gauge("queue"), limit);
    let policy = cluster::supervisor::Policy::new().start_timeout(Duration::from_millis(300));
    let mut running =
        Running::start(builder("wf-successors-never-ready").workers(1).health(checks).policy(policy));
    let address = running.wait_serving()[0];
    client::get(address, "/gauge?2000").unwrap();
    running.wait_for("the replacement to fail", |event| {
        matches!(event, Event::Lifecycle { event: Life::ReplaceFailed { .. }, .. }).then_some(())
    });
    client::get(address, "/gauge?1").unwrap();
    running.wait_for("it to recover", |event| {
        matches!(event, Event::Health { kind: VerdictKind::Recovered, .. }).then_some(())
    });
    process::signal(running.status().workers[0].pid.unwrap(), Signal::KILL);
    let reason = running.wait_for("its end", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, .. }, post_mortem, .. } if id.generation() == 1 => {
            Some(post_mortem.as_ref().unwrap().reason.clone())
        }
        _ => None,
    });
    assert_eq!(reason, None, "it was killed by somebody else, and well");
}

/// Where all accept on one socket nobody keeps connections from a suspect: it is said that it gets none.
pub(crate) fn suspects_get_connections_in_shared() {
    let builder = builder("patient").workers(2).mode(cluster::Mode::Shared).heartbeat(quick());
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    let mut connection = Connection::open(address).unwrap();
    connection.request("GET", "/ready?false", true).unwrap();
    let id = running.wait_for("a suspect", |event| match event {
        Event::Health { id, kind: VerdictKind::Suspect, .. } => Some(*id),
        _ => None,
    });
    let slot = format!("{}.", id.slot());
    let answered = (0..200).filter(|_| client::get(address, "/").unwrap().body.starts_with(&slot)).count();
    assert_eq!(answered, 0, "of 200 connections went to the one that \"gets no connections\"");
    running.stop();
}

/// Readiness that was said is forgotten when the monitor starts a worker anew (a debugger held it): here while it has not beaten.
/// It is only `link.suspect` that keeps it away; any Recovered readmits it.
pub(crate) fn a_debugger_makes_unready_workers_ready() {
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(200));
    let mut running = Running::start(builder("patient").workers(1).heartbeat(heartbeat));
    let address = running.wait_serving()[0];
    Connection::open(address).unwrap().request("GET", "/ready?false", true).unwrap();
    running.wait_for("a suspect", |event| {
        matches!(event, Event::Health { kind: VerdictKind::Suspect, .. }).then_some(())
    });
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::STOP);
    let script = format!(
        "import ctypes,time\nl=ctypes.CDLL(None,use_errno=True)\nl.ptrace.argtypes=[ctypes.c_long]*4\nassert l.ptrace(0x4206,{pid},0,0)==0\ntime.sleep(120)"
    );
    let mut debugger = std::process::Command::new("python3").args(["-c", &script]).spawn().unwrap();
    // Dead after 10 s, watched anew, suspected a second later.
    during(&mut running, Duration::from_millis(12_500), |_| {});
    debugger.kill().unwrap();
    debugger.wait().unwrap();
    process::signal(pid, Signal::CONT);
    during(&mut running, Duration::from_secs(3), |_| {});
    assert_eq!(states(&running), ["suspect"], "the application has not said that it is ready again");
    running.stop();
}
