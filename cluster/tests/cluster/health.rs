//! Workers that hang, and primaries that were stopped.

use std::time::Duration;

use cluster::health::{Heartbeat, VerdictKind};
use cluster::supervisor::{Event as Life, ExitCause};
use cluster::{Event, WorkerId};
use rustix::process::Signal;

use crate::support::client::{self, Connection};
use crate::support::{eventually, process};
use crate::{Running, builder};

/// Quick, and yet a worker is not blamed for what a busy machine doesn't let it run.
fn quick() -> Heartbeat {
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(50)).suspect_missed(20);
    heartbeat.dead_at_least(Duration::from_millis(1500))
}

pub(crate) fn a_worker_that_never_yields_is_suspected_then_replaced() {
    let mut running = Running::start(builder("http").workers(2).heartbeat(quick()));
    let address = running.wait_serving()[0];
    let mut spinning = Connection::open(address).unwrap();
    let body = spinning.request("GET", "/", true).unwrap().body;
    let hung = WorkerId::new(u32::from(body.starts_with("1.1 ")), 1);
    spinning.send("GET", "/spin", false).unwrap();
    running.wait_for("the worker to be suspected", |event| match event {
        Event::Health { id, kind: VerdictKind::Suspect, .. } => (*id == hung).then_some(()),
        _ => None,
    });
    let (other, successor) = (format!("{}.1 ", 1 - hung.slot()), format!("{}.2 ", hung.slot()));
    for _ in 0..50 {
        let answer = client::get(address, "/").unwrap();
        if answer.body.starts_with(&successor) {
            // It is dead by now: this was slow.
            break;
        }
        assert!(answer.body.starts_with(&other), "a suspected worker gets no connections: {}", answer.body);
    }
    running.wait_for("the worker to be ended", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, cause, .. }, .. } if *id == hung => {
            assert_eq!(*cause, ExitCause::Unhealthy);
            Some(())
        }
        _ => None,
    });
    running.wait_ready(WorkerId::new(hung.slot(), 2));
    spinning.receive().unwrap_err();
    running.stop();
}

/// The primary runs as a process of its own here: this test's must not stop. With `CLUSTER_TEST_LONG=1` the heartbeat is the default, and the
/// pause as much longer.
pub(crate) fn the_primarys_own_pause_blames_nobody() {
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    let (heartbeat, seconds) = if is_long { (Heartbeat::new(), 15) } else { (quick(), 2) };
    let mut running = Running::start(builder("http").workers(2).heartbeat(heartbeat));
    running.wait_serving();
    let pids: Vec<u32> = running.status().workers.iter().filter_map(|worker| worker.pid).collect();
    // A helper stops this whole process, and wakes it after longer than a worker may be silent. Workers go on meanwhile,
    // and beat; stopping them as well for the same time is what a suspended machine looks like.
    for victims in [vec![], pids.clone()] {
        let list = victims.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let me = std::process::id();
        let script = format!("kill -STOP {list} {me}; sleep {seconds}; kill -CONT {list} {me}");
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let uptime = running.status().workers[0].uptime_ms;
        eventually("a while to pass after the pause", || {
            (running.status().workers[0].uptime_ms > uptime + 1000).then_some(())
        });
    }
    assert_eq!(running.status().workers.iter().filter_map(|worker| worker.pid).collect::<Vec<_>>(), pids);
    running.block_on(running.handle.shutdown()).unwrap();
    running.wait_for("the shutdown", |event| match event {
        Event::Health { .. } => panic!("somebody was blamed: {event}"),
        Event::ShuttingDown => Some(()),
        _ => None,
    });
    running.outcome().unwrap();
    pids.iter().for_each(|pid| process::signal(*pid, Signal::CONT));
}
