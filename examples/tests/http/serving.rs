//! The main job: serve, evenly, and say how everybody is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::{Server, command};
use crate::support::client::{self, Connection};
use crate::support::eventually;

/// The slot in "hello from worker SLOT pid PID".
pub(crate) fn slot(body: &str) -> u64 {
    body.split_whitespace().nth(3).and_then(|slot| slot.parse().ok()).expect(body)
}

pub(crate) fn serves_and_reports() {
    let server = Server::start(command(3));
    // Who doesn't come to run for a while is passed over, so on a busy machine it may take more than twelve.
    let status = eventually("each worker to have its share", || {
        assert_eq!(client::get(server.address, "/").unwrap().status, 200);
        let status = server.status();
        let workers = status["workers"].as_array().unwrap();
        workers.iter().all(|worker| worker["requests"].as_u64().unwrap() >= 4).then(|| status.clone())
    });
    assert_eq!(status["primary_pid"], server.primary);
    assert_eq!(status["listening"][0], server.address.to_string());
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 3);
    for (slot, worker) in workers.iter().enumerate() {
        assert_eq!(worker["slot"], slot);
        assert_eq!(
            (&worker["generation"], &worker["restarts"], &worker["state"]),
            (&1.into(), &0.into(), &"ready".into())
        );
    }

    let mut crash = Connection::open(server.address).unwrap();
    crash.request("POST", "/crash", false).unwrap_err();
    let restarted = eventually("a successor", || {
        let status = server.status();
        let workers = status["workers"].as_array().unwrap();
        workers.iter().find(|worker| worker["generation"] == 2 && worker["state"] == "ready").cloned()
    });
    assert_eq!(restarted["restarts"], 1);
}

pub(crate) fn round_robin_spreads_evenly() {
    const CONNECTIONS: usize = 10_000;
    const CLIENTS: usize = 8;
    let mut command = command(4);
    command.args(["--strategy", "round-robin"]);
    let server = Server::start(command);
    let left = AtomicUsize::new(CONNECTIONS);
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut counts = BTreeMap::new();
                    while take() {
                        let answer = client::get(server.address, "/").unwrap();
                        *counts.entry(slot(&answer.body)).or_insert(0usize) += 1;
                    }
                    counts
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(BTreeMap::new(), |mut sum, counts| {
            counts.into_iter().for_each(|(slot, count)| *sum.entry(slot).or_insert(0usize) += count);
            sum
        })
    });
    assert_eq!(counts.values().sum::<usize>(), CONNECTIONS);
    let (max, mean) = (*counts.values().max().unwrap() as f64, CONNECTIONS as f64 / 4.0);
    // On an idle machine to the last connection; but a worker that is not let run for a millisecond misses its turn.
    assert!(max / mean <= 1.3, "uneven: {counts:?}");
}

/// One worker is busy for longer than the test may take: everybody else is served by the other.
pub(crate) fn a_blocked_worker_delays_only_its_own() {
    let server = Server::start(command(2));
    let mut blocked = Connection::open(server.address).unwrap();
    // For longer than this takes.
    blocked.send("GET", "/block?ms=60000", false).unwrap();
    // One that blocks, and the one that asks.
    eventually("the block to have begun", || (server.active() == 2).then_some(()));
    let mut counts = [0; 2];
    for _ in 0..100 {
        counts[slot(&client::get(server.address, "/").unwrap().body) as usize] += 1;
    }
    // When the free worker has not yet counted its last connection as finished, the two tie: a few may go wrong, until
    // the blocked one is suspected.
    assert!(counts.iter().max().unwrap() >= &90, "the free worker has nearly all: {counts:?}");
}

pub(crate) fn serves_in_every_mode() {
    for mode in cluster::Mode::NAMES {
        let mut command = command(2);
        command.args(["--mode", mode]);
        let server = Server::start(command);
        for _ in 0..12 {
            assert_eq!(client::get(server.address, "/").unwrap().status, 200, "{mode}");
        }
    }
}

pub(crate) fn inline_mode_serves_from_one_process() {
    // Inline mode has no primary to announce the address, so it needs one that is known: a port just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = std::process::Command::new(crate::server::binary())
        .args(["--workers", "0", "--port", &free.port().to_string()])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let answer = eventually("an answer", || client::get(free, "/").ok());
    assert_eq!(answer.body, format!("hello from worker 0 pid {}\n", child.id()));
    let status: serde_json::Value =
        serde_json::from_str(&client::get(free, "/status").unwrap().body).unwrap();
    assert_eq!(status["workers"][0]["pid"], child.id());
    crate::support::process::signal(child.id(), rustix::process::Signal::TERM);
    assert!(eventually("its exit", || child.try_wait().unwrap()).success());
}
