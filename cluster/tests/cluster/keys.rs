//! Strategies that go by a key from the first bytes of a connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cluster::balancer::LeastLoaded;
use cluster::balancer::strategy::{Named, Sticky};
use cluster::health::Heartbeat;
use cluster::supervisor::{Backoff, Policy};
use cluster::{Builder, Key, Peek};
use rustix::process::Signal;

use crate::support::{DEADLINE, eventually, process};
use crate::{QUICK, Running, builder};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn by_cookie(app: &str, workers: usize) -> Builder {
    let policy = Policy::new().backoff(Backoff::new().base(QUICK));
    let builder = builder(app).workers(workers).policy(policy).max_restarts(1_000);
    builder.strategy_with(Sticky::new(LeastLoaded::new(), LONG)).key(Key::cookie("sid"))
}

/// Which slot answers this session.
fn ask(address: SocketAddr, session: u32) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: theme=dark; sid={session}\r\n\r\n");
    // In two parts: the key is in the second.
    let (first, second) = request.split_at(30);
    stream.write_all(first.as_bytes()).unwrap();
    stream.write_all(second.as_bytes()).unwrap();
    let mut slot = String::new();
    stream.read_to_string(&mut slot).unwrap();
    slot
}

/// All from one address, as behind a NAT.
pub(crate) fn sessions_stay_where_they_are_while_another_worker_is_restarted() {
    let mut running = Running::start(by_cookie("session", 4));
    let address = running.wait_serving()[0];
    let homes: BTreeMap<u32, String> = (0..200).map(|session| (session, ask(address, session))).collect();
    for slot in 0..4 {
        let count = homes.values().filter(|home| **home == slot.to_string()).count();
        // 50, unless a busy machine lets a worker be late.
        assert!(count >= 5, "slot {slot} has {count} of 200 sessions");
    }
    for _ in 0..3 {
        let pid = eventually("a worker in slot 0", || running.status().workers[0].pid);
        process::signal(pid, Signal::KILL);
        for (session, home) in homes.iter().filter(|(_, home)| *home != "0") {
            assert_eq!(ask(address, *session), *home, "session {session}");
        }
    }
    running.stop();
}

/// As when the worker that began the session made up its name.
pub(crate) fn a_session_that_names_its_slot_comes_back_to_it() {
    let named = by_cookie("session", 3).strategy_with(Named::new(LeastLoaded::new()));
    let mut running = Running::start(named.key(Key::cookie("sid").names_slot()));
    let address = running.wait_serving()[0];
    for slot in [2, 0, 1, 1, 0, 2, 2, 2] {
        assert_eq!(ask(address, slot), slot.to_string());
    }
    let pid = running.status().workers[1].pid.unwrap();
    process::signal(pid, Signal::KILL);
    // Others take over as long as there is nobody.
    eventually("its successor to have its sessions", || (ask(address, 1) == "1").then_some(()));
    assert!(["0", "1", "2"].contains(&&*ask(address, 7)), "there is no such slot");
    running.stop();
}

pub(crate) fn clients_that_send_nothing_or_little_delay_nobody() {
    let peek = Peek::new().within(LONG).connections(64);
    // A worker that is replaced since the machine is busy would take its count with it.
    let heartbeat = Heartbeat::new().dead_at_least(LONG);
    let mut running = Running::start(by_cookie("session", 2).peek(peek).heartbeat(heartbeat));
    let address = running.wait_serving()[0];
    let silent: Vec<_> = (0..150).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut slow: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    for byte in b"GET / HTTP/1.1\r\n" {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        assert!(!ask(address, 7).is_empty());
    }
    // Of those only as many wait as may, each of them for long.
    let waiting = || {
        let status = running.status();
        status.accept.accepted - status.workers.iter().map(|worker| worker.taken).sum::<u64>()
    };
    // Each who asked, and whose words did not all come at once, may have taken the place of one of them.
    eventually("all others to be handed out", || (48..=64).contains(&waiting()).then_some(()));
    drop((silent, slow));
    running.stop();
}

/// As when the server speaks first.
pub(crate) fn a_client_that_says_nothing_is_handed_out_in_time() {
    let peek = Peek::new().within(Duration::from_millis(20));
    let builder = by_cookie("slot", 2).env(crate::apps::LISTEN, "127.0.0.1:0").peek(peek);
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    for _ in 0..10 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        assert!(!word.is_empty());
    }
    running.stop();
}
