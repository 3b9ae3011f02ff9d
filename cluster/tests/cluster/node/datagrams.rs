//! UDP: Node's test-cluster-{dgram-*, child-index-dgram}, test-dgram-cluster-*.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::supervisor::Exit;
use cluster::{Departure, Mode};

use super::puppet::{Do, On, Stage};
use crate::support::{DEADLINE, eventually};
use crate::{apps, builder};

fn stage(workers: usize) -> Stage {
    Stage::open(builder("puppet").workers(workers))
}

/// Who answers a datagram.
fn ask(address: SocketAddr) -> String {
    let local = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = [0; 16];
    let length = eventually("an answer", || {
        socket.send_to(b"who?", address).unwrap();
        socket.recv(&mut answer).ok()
    });
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

const WORKERS: u32 = 4;
const PACKETS_PER_WORKER: u32 = 10;

/// What a worker has received so far on the socket of that name.
fn received(stage: &Stage, slot: u32, name: &str) -> Vec<u32> {
    let numbers = stage.tell(slot, &Do::Received(name.to_owned())).unwrap();
    numbers.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// All that has come to them, once it is so much.
fn all_received(stage: &Stage, name: &str, expected: u32) -> Vec<Vec<u32>> {
    let all = eventually("all datagrams to come in", || {
        let all: Vec<_> = (0..WORKERS).map(|slot| received(stage, slot, name)).collect();
        (all.iter().map(Vec::len).sum::<usize>() >= expected as usize).then_some(all)
    });
    let mut numbers = all.concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..expected).collect::<Vec<_>>(), "each comes to one, and once: {all:?}");
    all
}

fn receive(stage: &Stage, slot: u32, name: &str, on: &On, most: usize) -> SocketAddr {
    stage.tell(slot, &Do::Receive(name.to_owned(), on.clone(), most)).unwrap().parse().unwrap()
}

/// Each of four workers takes ten datagrams from one socket, and closes it.
fn each_gets_its_share(stage: &Stage, on: &On, address: Option<SocketAddr>) {
    let most = PACKETS_PER_WORKER as usize;
    let addresses = (0..WORKERS).map(|slot| receive(stage, slot, "a", on, most));
    let addresses: BTreeSet<_> = addresses.chain(address).collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..WORKERS * PACKETS_PER_WORKER {
        socket.send_to(&number.to_le_bytes(), addresses.first().unwrap()).unwrap();
    }
    let all = all_received(stage, "a", WORKERS * PACKETS_PER_WORKER);
    assert!(all.iter().all(|numbers| numbers.len() == most), "{all:?}");
}

/// test-cluster-dgram-1.js: four workers share one port, 40 datagrams come, each worker takes ten and closes its socket.
///
/// One socket for all is what `Shared` means, and `Handoff` for datagrams too. The kernel gives each datagram to exactly one of those who read
/// there, to whoever comes first; it promises no order among them and no even spread: all get the same only since each stops at ten.
pub(crate) fn dgram_1() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let mut stage = stage(4);
        each_gets_its_share(&stage, &On::any().mode(mode), None);
        stage.running.stop();
    }
}

/// test-cluster-dgram-reuseport.js: each worker has a socket of its own on one port, two if it asks twice. Other than there the primary binds
/// them, and keeps a copy, so that no crash loses a datagram.
///
/// What the kernel promises: each datagram comes to one, and those of one peer all to the same. Among many peers each worker has some.
pub(crate) fn dgram_reuseport() {
    const PEERS: u32 = 200;
    let mut stage = stage(4);
    let on = On::any().mode(Mode::ReusePort);
    let addresses: BTreeSet<_> =
        (0..WORKERS).map(|slot| receive(&stage, slot, "a", &on, usize::MAX)).collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    let address = *addresses.first().unwrap();
    let peers: Vec<_> = (0..PEERS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    // What comes to one is at most what its buffer takes.
    for round in 0..2 {
        for (peer, socket) in (0..).zip(&peers) {
            socket.send_to(&(round * PEERS + peer).to_le_bytes(), address).unwrap();
        }
        all_received(&stage, "a", (round + 1) * PEERS);
    }
    for numbers in all_received(&stage, "a", 2 * PEERS) {
        let peers = numbers.iter().map(|number| number % PEERS).collect::<BTreeSet<_>>();
        assert_eq!(2 * peers.len(), numbers.len(), "both of one peer come to one worker: {numbers:?}");
        assert!(!peers.is_empty(), "each has some");
    }
    let again = On::tcp(address).mode(Mode::ReusePort);
    assert_eq!(stage.bind(0, "again", &again).unwrap(), address);
    stage.running.stop();
}

/// test-cluster-dgram-2.js: four workers send ten datagrams each to the primary, from the port that they share.
pub(crate) fn dgram_2() {
    let mut stage = stage(4);
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    for slot in 0..WORKERS {
        let address = stage.bind(slot, "a", &On::any()).unwrap();
        for _ in 0..PACKETS_PER_WORKER {
            stage.tell(slot, &Do::Send("a".to_owned(), ours.local_addr().unwrap())).unwrap();
        }
        for _ in 0..PACKETS_PER_WORKER {
            let mut received = [0; 64];
            let (length, from) = ours.recv_from(&mut received).unwrap();
            assert_eq!((&received[..length], from), (&b"from a worker"[..], address));
        }
    }
    stage.running.stop();
}

/// test-cluster-dgram-bind-fd.js: four workers on a socket that the primary was started with; 40 datagrams, ten for each.
pub(crate) fn dgram_bind_fd() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=dns exec \"$0\"";
    let mut primary = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "datagram-primary")
        .env(apps::LISTEN, address.to_string())
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .spawn()
        .unwrap();
    // It fails if anything is not as it should be.
    assert!(eventually("the primary to end", || primary.try_wait().unwrap()).success());
}

/// App: a primary that was started with the socket, and does the counting.
pub(crate) fn datagram_primary() {
    let address = std::env::var(apps::LISTEN).unwrap().parse().unwrap();
    let mut stage = stage(4);
    each_gets_its_share(&stage, &On::inherited("dns"), Some(address));
    stage.running.stop();
}

/// test-cluster-dgram-ipv6only.js: both families on one port, in one worker.
pub(crate) fn dgram_ipv6only() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        return eprintln!("there is no IPv6 here: {error}");
    }
    let mut stage = stage(2);
    let v6 = On { only_v6: Some(true), ..On::tcp((Ipv6Addr::UNSPECIFIED, 0)) };
    for slot in 0..2 {
        let port = stage.bind(slot, "six", &v6).unwrap().port();
        stage.bind(slot, "four", &On::tcp((Ipv4Addr::UNSPECIFIED, port))).unwrap();
        assert!(!ask((Ipv6Addr::LOCALHOST, port).into()).is_empty());
        assert!(!ask((Ipv4Addr::LOCALHOST, port).into()).is_empty());
    }
    stage.running.stop();
}

/// test-cluster-dgram-reuse.js: two sockets of one worker on one port are one socket, which is there as long as one of them is.
pub(crate) fn dgram_reuse() {
    let mut stage = Stage::open(builder("puppet").workers(1).linger(Duration::ZERO));
    let address = stage.bind(0, "a", &On::any()).unwrap();
    assert_eq!(stage.bind(0, "b", &On::tcp(address)).unwrap(), address);
    stage.close(0, "a");
    assert_eq!(ask(address), "0.1");
    stage.close(0, "b");
    eventually("the port to be free", || UdpSocket::bind(address).ok());
    stage.running.stop();
}

/// test-cluster-child-index-dgram.js
pub(crate) fn child_index_dgram() {
    let mut stage = stage(2);
    for slot in 0..2 {
        for _ in 0..5 {
            let address = stage.bind(slot, "a", &On::any()).unwrap();
            assert_eq!(ask(address), format!("{slot}.1"));
            stage.close(slot, "a");
        }
    }
    stage.running.stop();
}

/// test-dgram-cluster-bind-error.js
pub(crate) fn dgram_bind_error() {
    let mut stage = stage(1);
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let on = On::tcp(theirs.local_addr().unwrap());
    let error = stage.bind(0, "a", &on).unwrap_err();
    assert!(error.contains("Address already in use"), "{error}");
    drop(theirs);
    stage.bind(0, "a", &on).unwrap();
    stage.running.stop();
}

/// test-dgram-bind-socket-close-before-cluster-reply.js, test-dgram-cluster-close-during-bind.js: what arrives for nobody is closed.
pub(crate) fn close_during_bind() {
    let mut stage = stage(1);
    for _ in 0..5 {
        stage.tell(0, &Do::BindAndForget(On::any())).unwrap();
    }
    let address = stage.bind(0, "a", &On::any()).unwrap();
    assert_eq!(ask(address), "0.1");
    stage.running.stop();
}

/// test-dgram-cluster-close-in-listening.js: what is closed as soon as it listens harms none of three workers, and they leave in order.
pub(crate) fn close_in_listening() {
    let mut stage = stage(3);
    for slot in 0..3 {
        stage.bind(slot, "a", &On::any()).unwrap();
        stage.close(slot, "a");
    }
    for slot in 0..3 {
        assert_eq!(stage.tell(slot, &Do::Ping).unwrap(), format!("{slot}.1"));
        let worker = stage.running.handle.worker_of_slot(slot).unwrap();
        let departure = stage.running.block_on(worker.disconnect()).unwrap();
        assert_eq!(departure, Departure::Asked { exit: Exit::Code(0) });
    }
    stage.running.stop();
}
