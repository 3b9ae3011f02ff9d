//! What nobody wants any more, where Node has no test: ports, names and environments are free again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cluster::supervisor::{Event as Life, Group, Policy};
use cluster::{Event, Fork, Mode};

use super::puppet::{Do, On, Stage};
use crate::support::{DEADLINE, eventually};
use crate::{apps, builder};

const ALL: [Mode; 3] = [Mode::Handoff, Mode::Shared, Mode::ReusePort];

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b".").unwrap();
    stream
}

fn said(mut stream: TcpStream) -> std::io::Result<String> {
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}

/// The successor is ready before its predecessor has gone: so that one's port is given back when it goes.
pub(crate) fn a_port_that_a_successor_does_not_want_is_free_when_its_predecessor_has_gone() {
    for mode in ALL {
        let mut stage = Stage::open(builder("puppet").workers(1).linger(Duration::from_millis(100)));
        let address = stage.listen_ip(0, "a", &On::any().mode(mode));
        stage.running.block_on(stage.running.handle.restart(0)).unwrap();
        eventually("the port to be free", || TcpListener::bind(address).ok());
        assert!(stage.running.status().listening.is_empty(), "{mode}");
        stage.running.stop();
    }
}

/// Whoever stops waiting for a listener may ask again at once, and the port is not held for him.
pub(crate) fn what_nobody_waited_for_can_be_had_again_and_is_given_back() {
    for mode in ALL {
        let mut stage = Stage::open(builder("puppet").workers(1).linger(Duration::from_millis(100)));
        let address = free_address();
        let on = On::tcp(address).mode(mode);
        for _ in 0..3 {
            assert_eq!(stage.tell(0, &Do::ListenAndForget(on.clone())).unwrap(), "true");
        }
        assert_eq!(stage.listen_ip(0, "a", &on), address);
        assert!(said(connect(address)).unwrap().starts_with("0.1 "));
        stage.close(0, "a");
        eventually("the port to be free", || TcpListener::bind(address).ok());
        stage.tell(0, &Do::BindAndForget(on.clone())).unwrap();
        eventually("the port to be free for datagrams", || UdpSocket::bind(address).ok());
        stage.running.stop();
    }
}

/// That a worker leaves for good closes no port that was somebody else's.
pub(crate) fn a_listener_stays_a_moment_though_another_worker_leaves() {
    for mode in ALL {
        let mut stage = Stage::open(builder("puppet").workers(2).linger(DEADLINE));
        let address = stage.listen_ip(0, "a", &On::any().mode(mode));
        stage.close(0, "a");
        let waiting = connect(address);
        let other = stage.running.handle.worker_of_slot(1).unwrap();
        stage.running.block_on(other.disconnect()).unwrap();
        assert_eq!(stage.listen_ip(0, "a", &On::tcp(address).mode(mode)), address);
        assert!(said(waiting).unwrap().starts_with("0.1 "), "{mode}: who had connected is served");
        stage.running.stop();
    }
}

/// Where each slot has a socket for datagrams, nobody sends to one that nobody reads.
pub(crate) fn no_datagram_goes_to_a_slot_that_has_closed() {
    let mut stage = Stage::open(builder("puppet").workers(2));
    let on = On::any().mode(Mode::ReusePort);
    let address = stage.bind(0, "a", &on).unwrap();
    assert_eq!(stage.bind(1, "a", &on).unwrap(), address);
    stage.close(0, "a");
    let answers: BTreeSet<_> = eventually("all to be answered", || {
        let sockets: Vec<_> = (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let answer = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            socket.send_to(b"who?", address).unwrap();
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..length]).into_owned())
        };
        sockets.iter().map(answer).collect()
    });
    assert_eq!(answers, BTreeSet::from(["1.1".to_owned()]));
    stage.running.stop();
}

/// A slot that was given up and is not wanted any more is free of what its worker was forked with.
pub(crate) fn an_environment_is_not_inherited_from_one_that_was_given_up() {
    let mut stage = Stage::open(builder("puppet").workers(1).max_restarts(1));
    let fork = Fork::new().env(apps::VARIABLE, "abort");
    let forked = stage.running.block_on(stage.running.handle.fork_with(fork)).unwrap();
    stage.running.wait_for("it to be given up", |event| {
        matches!(event, Event::Lifecycle { event: Life::GaveUp(_), .. }).then_some(())
    });
    stage.running.block_on(stage.running.handle.scale(1)).unwrap();
    stage.running.block_on(stage.running.handle.scale(2)).unwrap();
    stage.running.wait_for("another to be ready", |event| match event {
        Event::Lifecycle { event: Life::Ready { id }, .. } => (id.slot() == forked.slot()).then_some(()),
        Event::Lifecycle { event: Life::GaveUp(_), .. } => panic!("it is like the one before"),
        _ => None,
    });
    stage.running.stop();
}

/// The events of a worker end, also of one whose turn never came.
pub(crate) fn the_events_end_of_a_worker_whose_turn_never_came() {
    let policy = Policy::new().group(Group::RestForOne);
    let mut stage = Stage::open(builder("puppet").workers(1).policy(policy));
    let handle = stage.running.handle.clone();
    let (events, left) = stage.running.block_on(async {
        let never = Fork::new().env(apps::VARIABLE, "never-ready");
        handle.fork_with(never).await.unwrap();
        let waits = handle.fork().await.unwrap();
        let mut events = waits.events();
        let left = waits.disconnect().await;
        let all = async {
            let mut all = Vec::new();
            while let Some(event) = events.recv().await {
                all.push(event.to_string());
            }
            all
        };
        (tokio::time::timeout(DEADLINE, all).await, left)
    });
    assert_eq!(left.unwrap(), cluster::Departure::NeverStarted);
    assert!(events.is_ok(), "they have an end");
    stage.running.block_on(handle.shutdown()).unwrap();
    stage.running.block_on(handle.shutdown()).unwrap();
    stage.running.outcome().unwrap();
}
