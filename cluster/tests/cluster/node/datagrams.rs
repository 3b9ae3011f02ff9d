//! UDP: Node's test-cluster-{dgram-*, child-index-dgram}, test-dgram-cluster-*.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::Mode;
use rustix::process::Signal;

use super::puppet::{Do, On, Stage};
use crate::support::{DEADLINE, eventually, process};
use crate::{apps, builder};

const BOTH: [Mode; 2] = [Mode::Shared, Mode::ReusePort];

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

/// test-cluster-dgram-1.js, -dgram-reuseport.js: four workers, one port, all is received among them.
pub(crate) fn dgram_1() {
    for mode in BOTH {
        let mut stage = stage(4);
        let on = On::any().mode(mode);
        let address = stage.bind(0, "a", &on).unwrap();
        for slot in 1..4 {
            assert_eq!(stage.bind(slot, "a", &on).unwrap(), address);
        }
        let answers: BTreeSet<_> = (0..100).map(|_| ask(address)).collect();
        assert!(mode == Mode::Shared || answers.len() == 4, "{answers:?}");
        stage.running.stop();
    }
}

/// test-cluster-dgram-2.js: a worker sends, too.
pub(crate) fn dgram_2() {
    let mut stage = stage(2);
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    for slot in 0..2 {
        let address = stage.bind(slot, "a", &On::any()).unwrap();
        stage.tell(slot, &Do::Send("a".to_owned(), ours.local_addr().unwrap())).unwrap();
        let mut received = [0; 64];
        let (length, from) = ours.recv_from(&mut received).unwrap();
        assert_eq!((&received[..length], from), (&b"from a worker"[..], address));
    }
    stage.running.stop();
}

/// test-cluster-dgram-bind-fd.js: on a socket that the primary was started with.
pub(crate) fn dgram_bind_fd() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=dns exec \"$0\"";
    let mut primary = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "datagram-primary")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .spawn()
        .unwrap();
    assert!((0..10).all(|_| !ask(address).is_empty()));
    process::signal(primary.id(), Signal::TERM);
    assert!(eventually("the primary to end", || primary.try_wait().unwrap()).success());
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

/// test-cluster-dgram-reuse.js: two sockets of one worker on one port are one socket.
pub(crate) fn dgram_reuse() {
    let mut stage = stage(1);
    let address = stage.bind(0, "a", &On::any()).unwrap();
    assert_eq!(stage.bind(0, "b", &On::tcp(address)).unwrap(), address);
    stage.close(0, "a");
    assert_eq!(ask(address), "0.1");
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

/// test-dgram-cluster-close-in-listening.js
pub(crate) fn close_in_listening() {
    let mut stage = stage(3);
    for slot in 0..3 {
        stage.bind(slot, "a", &On::any()).unwrap();
        stage.close(slot, "a");
    }
    assert_eq!(stage.tell(2, &Do::Ping).unwrap(), "2.1");
    stage.running.stop();
}
