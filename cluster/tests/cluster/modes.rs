//! The three ways to share a port, and the kinds of sockets.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::supervisor::{Backoff, Policy};
use cluster::{Address, Builder, Mode};
use rustix::process::Signal;

use crate::support::{DEADLINE, eventually, process};
use crate::{QUICK, Running, apps, builder};

/// Workers that say their slot and generation on what [`LISTEN`](apps::LISTEN) names.
fn slots(listen: &str, workers: usize) -> Builder {
    let policy = Policy::new().backoff(Backoff::new().base(QUICK));
    builder("slot").env(apps::LISTEN, listen).workers(workers).policy(policy).max_restarts(1_000)
}

fn read(mut stream: impl Read) -> std::io::Result<String> {
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    read(stream)
}

/// All accept on one socket, which is the primary's: it outlives each of them.
pub(crate) fn workers_that_accept_on_one_socket_are_counted_and_replaced() {
    let mut running = Running::start(slots("127.0.0.1:0", 3).mode(Mode::Shared));
    let address = running.wait_serving()[0];
    for _ in 0..100 {
        assert!(!ask(address).unwrap().is_empty());
    }
    let status = running.status();
    assert_eq!(status.accept.accepted, 0, "the primary had nothing to do with it: {status:?}");
    assert_eq!(status.workers.iter().map(|worker| worker.taken).sum::<u64>(), 100);
    for _ in 0..3 {
        let pid = eventually("a worker in slot 0", || running.status().workers[0].pid);
        process::signal(pid, Signal::KILL);
        // Whoever is accepted by the one who dies gets nothing; no one is refused.
        let words: Vec<_> = (0..20).filter_map(|_| ask(address).ok()).collect();
        assert!(words.iter().filter(|word| !word.is_empty()).count() >= 19, "{words:?}");
    }
    running.stop();
    assert!(TcpStream::connect(address).is_err(), "the port is free again");
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()))
}

pub(crate) fn unix_sockets_are_shared_in_both_ways_and_removed_at_the_end() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let path = socket_path(mode.name());
        let address = Address::Unix(Some(path.clone()));
        let mut running = Running::start(slots(&address.to_string(), 2).mode(mode));
        running.wait_serving();
        assert_eq!(running.status().listening, [address]);
        for _ in 0..20 {
            assert!(!read(UnixStream::connect(&path).unwrap()).unwrap().is_empty());
        }
        let workers = running.status().workers;
        assert_eq!(workers.iter().map(|worker| worker.taken).sum::<u64>(), 20);
        running.stop();
        assert!(!path.exists(), "mode {mode}");
    }
}

/// test-listen-fd-cluster.js: a service manager opens the socket, and starts the primary with it.
pub(crate) fn a_primary_serves_on_the_socket_that_it_was_started_with() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // `exec` keeps the number of the process, which LISTEN_PID must be.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\"";
    let primary = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "primary")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .spawn();
    let mut primary = primary.unwrap();
    let words: Vec<_> = (0..20).map(|_| ask(address).unwrap()).collect();
    assert!(words.iter().all(|word| !word.is_empty()), "{words:?}");
    process::signal(primary.id(), Signal::TERM);
    let exit = eventually("the primary to end", || primary.try_wait().unwrap());
    assert!(exit.success(), "{exit}");
}

/// A datagram is answered by some worker; while none is there, it waits.
pub(crate) fn datagrams_are_shared_in_both_ways() {
    for mode in [Mode::Shared, Mode::ReusePort] {
        let policy = Policy::new().backoff(Backoff::new().base(QUICK));
        let mut running =
            Running::start(builder("udp").workers(3).policy(policy).max_restarts(1_000).mode(mode));
        let address = running.wait_serving()[0];
        let ask = || {
            // Each from a port of its own.
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut answer = [0; 16];
            // As clients of UDP do: whoever had it may have died with it.
            let length = eventually("an answer", || {
                socket.send_to(b"who?", address).unwrap();
                socket.recv(&mut answer).ok()
            });
            String::from_utf8_lossy(&answer[..length]).into_owned()
        };
        let answers: BTreeSet<String> = (0..100).map(|_| ask()).collect();
        if mode == Mode::ReusePort {
            assert_eq!(answers.len(), 3, "by the kernel's hash everybody gets some");
        }
        let pids: Vec<u32> = running.status().workers.iter().filter_map(|worker| worker.pid).collect();
        pids.iter().for_each(|pid| process::signal(*pid, Signal::KILL));
        assert!((0..20).all(|_| !ask().is_empty()));
        running.stop();
    }
}
