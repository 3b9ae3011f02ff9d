//! Leaving without losing a request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cluster::supervisor::{Event as Life, Exit, ExitCause};
use cluster::{Event, WorkerId};
use rustix::process::Signal;

use crate::rolls::patient;
use crate::support::client::Connection;
use crate::support::{DEADLINE, eventually, process};
use crate::{Running, builder};

const CLIENTS: usize = 8;
const ROUNDS: usize = 10;

/// Requests that are answered between two workers' leaving.
const PER_ROUND: usize = 2000;

/// Sends requests on a connection until the server says that it closes; then takes a new one. Any error is a lost
/// request.
pub(crate) fn keep_alive(
    address: std::net::SocketAddr,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Result<(), String> {
    while !stop.load(Ordering::SeqCst) {
        let mut connection =
            Connection::open(address).map_err(|error| format!("could not connect: {error}"))?;
        let mut on_this = 0;
        while !stop.load(Ordering::SeqCst) {
            let answer = connection
                .request("GET", "/", true)
                .map_err(|error| format!("lost after {on_this} answers on the connection: {error}"))?;
            assert_eq!(answer.status, 200);
            on_this += 1;
            answered.fetch_add(1, Ordering::SeqCst);
            if answer.closes {
                break;
            }
        }
    }
    Ok(())
}

pub(crate) fn wait_exited(running: &mut Running, worker: WorkerId) {
    running.wait_for("the worker to leave", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, exit, cause, .. }, .. } if *id == worker => {
            assert_eq!((*exit, *cause), (Exit::Code(0), ExitCause::Asked));
            Some(())
        }
        _ => None,
    });
}

pub(crate) fn a_worker_that_leaves_under_keep_alive_load_loses_no_request() {
    let mut running = Running::start(patient("http").workers(2));
    let address = running.wait_serving()[0];
    let mut oldest_first = vec![WorkerId::new(0, 1), WorkerId::new(1, 1)];
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| keep_alive(address, &stop, &answered))).collect();
        for round in 1..=ROUNDS {
            eventually("load", || {
                let broken = clients.iter().any(|client| client.is_finished());
                (broken || answered.load(Ordering::SeqCst) > PER_ROUND * round).then_some(())
            });
            let successor = running.block_on(running.handle.fork()).unwrap().id();
            running.wait_ready(successor);
            oldest_first.push(successor);
            let leaving = oldest_first.remove(0);
            running.block_on(running.handle.stop(leaving)).unwrap();
            wait_exited(&mut running, leaving);
        }
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
    eprintln!("{ROUNDS} workers left, {} requests answered, 0 lost", answered.into_inner());
    running.stop();
}

pub(crate) fn a_plain_server_ends_after_its_connections() {
    let mut running = Running::start(builder("echo").workers(1));
    let address = running.wait_serving()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut echo = |text: &[u8]| {
        stream.write_all(text).unwrap();
        let mut buffer = vec![0; text.len()];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, text);
    };
    echo(b"before");
    running.block_on(running.handle.shutdown()).unwrap();
    running.wait_for("the worker to be asked", |event| match event {
        Event::Lifecycle { event: Life::Stopping { .. }, .. } => Some(()),
        _ => None,
    });
    echo(b"while it leaves");
    drop(stream);
    wait_exited(&mut running, WorkerId::new(0, 1));
    running.outcome().unwrap();
}

/// systemd, for one, sends SIGTERM to every process of a service.
pub(crate) fn a_worker_terminated_by_somebody_else_finishes_its_requests() {
    let mut running = Running::start(builder("http").workers(1));
    let address = running.wait_serving()[0];
    let mut slow = under_way(&running, address, "/slow");
    process::signal(running.status().workers[0].pid.unwrap(), Signal::TERM);
    assert_eq!(slow.receive().unwrap().body, "slow");
    running.wait_for("the worker to end", |event| match event {
        Event::Lifecycle { event: Life::Exited { exit: Exit::Code(0), .. }, .. } => Some(()),
        _ => None,
    });
    running.wait_ready(WorkerId::new(0, 2));
    running.stop();
}

/// A request that has reached its worker.
fn under_way(running: &Running, address: std::net::SocketAddr, path: &str) -> Connection {
    let mut connection = Connection::open(address).unwrap();
    connection.send("GET", path, true).unwrap();
    let taken = || running.status().workers.iter().map(|worker| worker.taken).sum::<u64>();
    eventually("the request to have arrived", || (taken() > 0).then_some(()));
    connection
}

/// Connections that lie in the kernel's queue and on the way when the cluster is asked to stop.
pub(crate) fn what_has_connected_is_served_when_the_cluster_stops() {
    // They are handed out for as long as idle connections are kept.
    let mut running = Running::start(patient("http").workers(1));
    let address = running.wait_serving()[0];
    // The only worker doesn't take any.
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::STOP);
    eventually("the worker to stop", || process::is_stopped(pid).then_some(()));
    let mut waiting: Vec<_> = (0..100).map(|_| Connection::open(address).unwrap()).collect();
    waiting.iter_mut().for_each(|connection| connection.send("GET", "/", false).unwrap());
    process::signal(pid, Signal::CONT);
    running.block_on(running.handle.shutdown()).unwrap();
    for connection in &mut waiting {
        assert_eq!(connection.receive().unwrap().status, 200);
    }
    running.outcome().unwrap();
}

pub(crate) fn an_upgrade_stays_one_while_the_worker_leaves() {
    // Its connection is idle when the worker is asked to leave.
    let mut running = Running::start(builder("http").workers(1).linger(DEADLINE));
    let address = running.wait_serving()[0];
    let mut connection = under_way(&running, address, "/");
    assert!(!connection.receive().unwrap().closes);
    running.block_on(running.handle.stop(WorkerId::new(0, 1))).unwrap();
    running.wait_for("the worker to be asked", |event| match event {
        Event::Lifecycle { event: Life::Stopping { .. }, .. } => Some(()),
        _ => None,
    });
    let answer = connection.request("GET", "/upgrade", true).unwrap();
    assert_eq!((answer.status, answer.closes), (101, false));
    wait_exited(&mut running, WorkerId::new(0, 1));
    // It goes on, though nobody is left.
    running.stop();
}
