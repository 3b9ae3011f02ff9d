//! All workers leave, and the primary goes on.

use std::net::TcpListener;

use cluster::supervisor::WorkerState;
use cluster::{Mode, WorkerId};

use crate::parity_app::Facts;
use crate::support::{client, eventually, process};
use crate::{Running, apps};

/// test-cluster-disconnect-idle-worker.js, and more: all are gone, the ports are free, and it starts over a second time. In each mode.
pub(crate) fn all_leave_the_ports_are_free_and_others_may_begin_again() {
    for mode in [Mode::Handoff, Mode::Shared, Mode::ReusePort] {
        let facts = Facts::new("disconnect");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let builder = facts.builder().workers(2).mode(mode).env(apps::LISTEN, address.to_string());
        let mut running = Running::start(builder);
        running.wait_serving();
        let pids: Vec<_> = running.handle.workers().iter().filter_map(cluster::WorkerHandle::pid).collect();
        assert_eq!(pids.len(), 2);
        let mut slow = client::Connection::open(address).unwrap();
        slow.send("GET", "/slow", true).unwrap();
        eventually("the slow request to arrive", || {
            (running.status().workers.iter().map(|worker| worker.active).sum::<u64>() >= 1).then_some(())
        });

        let served = running.runtime.spawn_blocking(move || slow.receive().unwrap().status);
        let (first, second) = running
            .block_on(async { tokio::join!(running.handle.disconnect(), running.handle.disconnect()) });
        first.and(second).unwrap();
        assert_eq!(running.block_on(served).unwrap(), 200, "{mode}: who was served is served to the end");
        assert!(pids.iter().all(|pid| process::parent(*pid).is_none()), "{mode}: all are reaped");
        assert!(running.handle.workers().is_empty());
        drop(TcpListener::bind(address).expect("the port is free"));

        for _ in 0..2 {
            running.block_on(running.handle.fork()).unwrap();
        }
        assert_eq!(running.wait_serving(), [address], "{mode}: a second time");
        assert!(client::get(address, "/").unwrap().body.ends_with(&format!("{mode:?}")));
        running.block_on(running.handle.disconnect()).unwrap();
        running.stop();
    }
}

/// test-cluster-disconnect-with-no-workers.js, and a primary that begins with none.
pub(crate) fn without_workers_it_is_over_at_once() {
    let facts = Facts::new("disconnect-none");
    let mut running = Running::start(facts.builder().workers(0));
    running.block_on(running.handle.disconnect()).unwrap();
    running.block_on(running.handle.disconnect()).unwrap();
    let worker = running.block_on(running.handle.fork()).unwrap();
    running.wait_ready(worker.id());
    // The last one leaves by itself, so to say: the primary waits for others.
    running.block_on(worker.disconnect()).unwrap();
    let next = running.block_on(running.handle.fork()).unwrap();
    assert_eq!(next.id(), WorkerId::new(0, 2));
    running.wait_ready(next.id());
    running.stop();
}

/// Who is forked while all leave is none of them.
pub(crate) fn who_is_forked_meanwhile_begins_afterwards() {
    let facts = Facts::new("disconnect-fork");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut running = Running::start(facts.builder().workers(2).env(apps::LISTEN, address.to_string()));
    running.wait_serving();
    let old = running.handle.workers();
    let handle = running.handle.clone();
    let (left, forked) = running.block_on(async { tokio::join!(handle.disconnect(), handle.fork()) });
    left.unwrap();
    let forked = forked.unwrap();
    assert!(old.iter().all(|worker| worker.is_dead()), "they have gone before it began");
    running.wait_ready(forked.id());
    assert_eq!(forked.state(), WorkerState::Ready);
    assert_eq!(client::get(address, "/").unwrap().status, 200, "it has the port");
    running.stop();
}

/// A shutdown in the middle of it ends both.
pub(crate) fn a_shutdown_meanwhile_ends_the_primary() {
    let facts = Facts::new("disconnect-shutdown");
    let mut running = Running::start(facts.builder().workers(2));
    running.wait_serving();
    let handle = running.handle.clone();
    let (left, stopped) = running.block_on(async { tokio::join!(handle.disconnect(), handle.shutdown()) });
    stopped.unwrap();
    left.unwrap();
    running.outcome().unwrap();
}
