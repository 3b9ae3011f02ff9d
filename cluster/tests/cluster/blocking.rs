//! A handler that never yields, in a worker that nobody suspects.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::Builder;
use cluster::balancer::strategy::Rendezvous;
use cluster::health::Heartbeat;
use cluster::supervisor::{Policy, StopSequence};
use socket2::{Domain, Socket, Type};

use crate::apps::LEDGER;
use crate::support::{DEADLINE, eventually};
use crate::{Running, builder};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn trusting(ledger: &Path) -> Builder {
    let heartbeat = Heartbeat::new().interval(LONG / 4).dead_at_least(LONG);
    // One that never yields can only be killed.
    let soon = Duration::from_millis(50);
    let policy = Policy::new().stop(StopSequence::new().drain(soon).terminate(soon));
    builder("http").env(LEDGER, ledger).workers(2).heartbeat(heartbeat).policy(policy)
}

/// Sends a request for `path`, from this address.
fn request(address: SocketAddr, from: Ipv4Addr, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn is_waiting(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let waits = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    waits
}

/// Makes one worker spin for ever, and returns the connection that it does it for.
fn spin(ledger: &Path, address: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let spinning = request(address, from, "/spin");
    eventually("the handler to begin", || ledger.exists().then_some(()));
    std::fs::remove_file(ledger).unwrap();
    spinning
}

fn ledger(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()))
}

pub(crate) fn a_handler_that_never_yields_holds_up_nobody() {
    let ledger = ledger("blocking");
    let mut running = Running::start(trusting(&ledger));
    let address = running.wait_serving()[0];
    let spinning = spin(&ledger, address, Ipv4Addr::LOCALHOST);
    for _ in 0..50 {
        // At a time, so that both workers look equally loaded to some of them.
        let burst: Vec<_> = (0..8).map(|_| request(address, Ipv4Addr::LOCALHOST, "/")).collect();
        burst.into_iter().for_each(|stream| drop(answer(stream)));
    }
    assert!(is_waiting(&spinning));
    running.stop();
}

pub(crate) fn what_goes_by_a_key_waits_for_its_worker() {
    let ledger = ledger("blocking-keys");
    let mut running = Running::start(trusting(&ledger).strategy_with(Rendezvous::new()));
    let address = running.wait_serving()[0];
    // Which clients are whose.
    let clients = (1..=20).map(|last| Ipv4Addr::new(127, 0, 0, last));
    let homes: Vec<(Ipv4Addr, String)> = clients
        .map(|client| {
            let answer = answer(request(address, client, "/"));
            let (_, id) = answer.split_once("\r\n\r\n").unwrap();
            (client, id.to_owned())
        })
        .collect();
    let (client, home) = homes[0].clone();
    let others: Vec<Ipv4Addr> =
        homes.iter().filter(|(_, other)| *other != home).map(|(client, _)| *client).collect();
    assert!(!others.is_empty(), "each worker has some of 20 clients");
    let spinning = spin(&ledger, address, client);
    let waiting = request(address, client, "/");
    for other in others.iter().cycle().take(200) {
        drop(answer(request(address, *other, "/")));
    }
    assert!(is_waiting(&waiting) && is_waiting(&spinning));
    running.stop();
}
