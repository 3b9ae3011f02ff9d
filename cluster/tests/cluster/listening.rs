//! Several listeners, shared by number; and a worker that closes its own.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use cluster::Mode;
use cluster::balancer::strategy::Rendezvous;
use cluster::health::Heartbeat;
use cluster::supervisor::{Backoff, Policy};
use rustix::process::Signal;

use crate::apps::LISTEN;
use crate::better::connect_from;
use crate::support::{DEADLINE, eventually, process};
use crate::{QUICK, Running, builder};

fn word(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).unwrap();
    word
}

pub(crate) fn one_socket_may_take_both_families() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        return eprintln!("there is no IPv6 here: {error}");
    }
    for mode in [Mode::Handoff, Mode::Shared, Mode::ReusePort] {
        for (listen, takes_v4) in [("both [::]:0", true), ("v6 [::]:0", false)] {
            let mut running = Running::start(builder("slot").env(LISTEN, listen).workers(2).mode(mode));
            let port = running.wait_serving()[0].port();
            for _ in 0..4 {
                assert!(!word((Ipv6Addr::LOCALHOST, port).into()).is_empty());
                let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                match TcpStream::connect(v4) {
                    Ok(_) => assert!(takes_v4 && !word(v4).is_empty(), "{mode}, {listen}"),
                    Err(error) => assert!(!takes_v4, "{mode}, {listen}: {error}"),
                }
            }
            running.stop();
        }
    }
}

pub(crate) fn listeners_on_any_port_are_shared_by_number() {
    let mut running = Running::start(builder("two-ports").workers(2));
    let addresses = running.wait_serving();
    assert_eq!(addresses.len(), 2, "two workers, but two ports in all: {addresses:?}");
    for _ in 0..10 {
        assert_eq!((word(addresses[0]), word(addresses[1])), ("first".to_owned(), "second".to_owned()));
    }
    running.stop();
}

/// Who doesn't listen on an address gets none of its connections, and the address that only one listens on survives that
/// one's crash: its clients wait for the successor.
pub(crate) fn connections_go_only_to_workers_that_listen_there() {
    let policy = Policy::new().backoff(Backoff::new().base(QUICK));
    let mut running = Running::start(builder("lopsided").workers(3).policy(policy).max_restarts(100));
    let addresses = running.wait_serving();
    let both =
        || assert_eq!((word(addresses[0]), word(addresses[1])), ("first".to_owned(), "second".to_owned()));
    (0..50).for_each(|_| both());
    let status = running.status();
    assert_eq!(status.accept.refused, 0, "none was refused: {status:?}");
    for _ in 0..3 {
        process::signal(running.status().workers[0].pid.unwrap(), Signal::KILL);
        both();
    }
    running.stop();
}

pub(crate) fn a_worker_may_listen_again() {
    let mut running = Running::start(builder("again").workers(2));
    let address = running.wait_serving()[0];
    for _ in 0..50 {
        assert_eq!(word(address), "again");
    }
    assert_eq!(running.status().listening, [address], "it is the same socket each time");
    running.stop();
}

pub(crate) fn a_worker_that_stops_listening_gets_no_connections() {
    let mut running = Running::start(builder("fickle").workers(2));
    let address = running.wait_serving()[0];
    // Slot 0 answers exactly once; whatever is on its way to it then goes to slot 1.
    let words: Vec<String> = (0..50).map(|_| word(address)).collect();
    assert_eq!(words.iter().filter(|word| *word == "0").count(), 1, "{words:?}");
    eventually("the primary to know", || (running.status().workers.len() == 2).then_some(()));
    running.stop();
}

/// They lie in the socket of a worker that is stopped, since they are this worker's by their key; it takes one of them and closes its listener.
pub(crate) fn connections_handed_to_a_listener_that_just_closed_go_elsewhere() {
    // Nobody else gets them because it is silent.
    let heartbeat = Heartbeat::new().interval(DEADLINE).dead_at_least(10 * DEADLINE);
    let builder = builder("fickle").workers(2).strategy_with(Rendezvous::new()).heartbeat(heartbeat);
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::STOP);
    eventually("the worker to stop", || process::is_stopped(pid).then_some(()));
    let streams: Vec<_> = (1..=40).map(|last| connect_from(last, address)).collect();
    eventually("all to be handed out", || (running.status().accept.accepted == 40).then_some(()));
    process::signal(pid, Signal::CONT);
    let word = |mut stream: TcpStream| {
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        word
    };
    let words: Vec<String> = streams.into_iter().map(word).collect();
    assert_eq!(words.iter().filter(|word| *word == "0").count(), 1, "{words:?}");
    assert_eq!(words.iter().filter(|word| *word == "1").count(), 39, "{words:?}");
    assert!(running.status().accept.refused > 0, "some came back: {:?}", running.status().accept);
    running.stop();
}
