//! Workers that die and hang while clients keep coming.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::server::{Server, command};
use crate::support::client::{self, Connection};
use crate::support::{eventually, process};

/// One line of the log about a connection: which port, which worker, what became of its ticket.
#[derive(Debug)]
struct Step {
    port: u16,
    worker: (u64, u64),
    ticket: String,
}

fn steps(log: &[String]) -> Vec<Step> {
    let field = |line: &str, name: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let parse = |line: &String| {
        Some(Step {
            ticket: field(line, "ticket")?,
            port: field(line, "peer")?.rsplit_once(':')?.1.parse().ok()?,
            worker: (field(line, "slot")?.parse().ok()?, field(line, "generation")?.parse().ok()?),
        })
    };
    log.iter().filter_map(parse).collect()
}

fn traced(workers: usize) -> std::process::Command {
    let mut command = command(workers);
    command.env("RUST_LOG", "info,cluster::connection=trace").env("NO_COLOR", "1");
    command.args(["--max-restarts", "1000000", "--restart-delay", "5"]);
    command
}

/// What one client did: the ports it used, and which of them failed.
#[derive(Default)]
struct Attempts {
    ports: Vec<u16>,
    failed: Vec<(u16, io::Error)>,
}

fn hammer(server: &Server, stop: &AtomicBool) -> Attempts {
    let mut attempts = Attempts::default();
    while !stop.load(Ordering::SeqCst) {
        let mut connection = Connection::open(server.address).expect("the listening socket is always there");
        attempts.ports.push(connection.port());
        let outcome = connection.request("GET", "/", false).and_then(|answer| {
            assert_eq!(answer.status, 200);
            connection.expect_end()
        });
        if let Err(error) = outcome {
            attempts.failed.push((connection.port(), error));
        }
    }
    attempts
}

/// 8 clients, a connection per request; a random worker is killed every 200 ms for 10 s. Every connection must have been
/// taken exactly once, so one that failed was in the hands of a worker that died.
pub(crate) fn killed_workers_lose_only_what_they_had_taken() {
    let server = Server::start(traced(4));
    let stop = AtomicBool::new(false);
    let killed = Mutex::new(0);
    let attempts: Vec<Attempts> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| hammer(&server, &stop))).collect();
        kill_every_200_ms(&server, &killed);
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let killed = killed.into_inner().unwrap();
    let mut opened: BTreeMap<u16, usize> = BTreeMap::new();
    attempts
        .iter()
        .flat_map(|attempts| &attempts.ports)
        .for_each(|port| *opened.entry(*port).or_default() += 1);
    let total: usize = opened.values().sum();
    assert!(killed >= 20, "only {killed} workers were killed");

    // The log of the last ones may still be on its way.
    let steps = eventually("every connection to be accounted for", || {
        let steps = steps(&server.log_from(0));
        let taken = |step: &&Step| step.ticket == "Taken" && opened.contains_key(&step.port);
        (steps.iter().filter(taken).count() >= total).then_some(steps)
    });
    let mut taken: BTreeMap<u16, Vec<(u64, u64)>> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.ticket == "Taken") {
        taken.entry(step.port).or_default().push(step.worker);
    }
    for (port, count) in &opened {
        let takers = taken.get(port).map_or(0, Vec::len);
        // The killer's own status requests may have used the port as well.
        assert!(takers >= *count, "port {port} connected {count} times but was taken {takers} times");
    }
    let dead: BTreeSet<(u64, u64)> =
        server.log_from(0).iter().filter_map(|line| killed_worker(line)).collect();
    let failed: Vec<_> = attempts.into_iter().flat_map(|attempts| attempts.failed).collect();
    for (port, error) in &failed {
        let by_the_dead = taken[port].iter().any(|worker| dead.contains(worker));
        assert!(by_the_dead, "port {port} failed ({error}), but no worker that took it was killed");
    }
    let recalled = steps.iter().filter(|step| step.ticket == "Recalled").count();
    eprintln!(
        "{killed} kills, {total} connections, {} failed (all taken by a worker that died), {recalled} recalled, 0 lost",
        failed.len()
    );
}

/// `worker 2.7 killed by signal 9 (SIGKILL) after it was ready …`
fn killed_worker(line: &str) -> Option<(u64, u64)> {
    let (before, _) = line.split_once(" killed by signal 9")?;
    let (slot, generation) = before.rsplit(' ').next()?.split_once('.')?;
    Some((slot.parse().ok()?, generation.parse().ok()?))
}

fn kill_every_200_ms(server: &Server, killed: &Mutex<usize>) {
    let mut random = std::process::id() as usize;
    let begin = Instant::now();
    for round in 1..=50 {
        let ready = eventually("a ready worker", || Some(server.ready()).filter(|ready| !ready.is_empty()));
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        process::signal(ready[(random >> 33) % ready.len()].1, Signal::KILL);
        *killed.lock().unwrap() += 1;
        // The rhythm of the load, not a wait for something to happen.
        std::thread::park_timeout(
            (begin + Duration::from_millis(200) * round).saturating_duration_since(Instant::now()),
        );
    }
}

fn handed_to(server: &Server, slot: u64) -> usize {
    steps(&server.log_from(0)).iter().filter(|step| step.worker.0 == slot && step.ticket == "Offered").count()
}

fn stop_worker(server: &Server, (slot, pid): (u64, u32)) -> usize {
    process::signal(pid, Signal::STOP);
    eventually("the worker to stop", || process::is_stopped(pid).then_some(()));
    // The log comes later: when it has this connection, it has all before it.
    let marker = Connection::open(server.address).unwrap();
    eventually("the log", || {
        steps(&server.log_from(0)).iter().find(|step| step.port == marker.port()).map(drop)
    });
    handed_to(server, slot)
}

/// Connections that lie in a stopped worker's socket when it is killed are answered by another, to the end of the stream.
pub(crate) fn connections_of_a_stopped_then_killed_worker_are_served_by_another() {
    // In turn: least-loaded would pass over a worker that lets things lie.
    let mut command = traced(2);
    command.args(["--strategy", "round-robin"]);
    let server = Server::start(command);
    let victim = server.ready()[0];
    let before = stop_worker(&server, victim);
    let over = AtomicBool::new(false);
    // Until it was its turn: it is passed over for a while if it was when it had just been stopped.
    let ask = || {
        while !over.load(Ordering::SeqCst) {
            let answer = client::get(server.address, "/").expect("answered by another worker");
            assert_eq!(answer.status, 200);
            assert!(!answer.body.contains(&format!("pid {}\n", victim.1)));
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        eventually("connections to be handed to the stopped worker", || {
            let broken = clients.iter().any(|client| client.is_finished());
            (broken || handed_to(&server, victim.0) > before).then_some(())
        });
        process::signal(victim.1, Signal::KILL);
        over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    let recalled = eventually("the recalls in the log", || {
        let recalled =
            steps(&server.log_from(0)).into_iter().filter(|step| step.ticket == "Recalled").count();
        (recalled > 0).then_some(recalled)
    });
    eprintln!("{recalled} connections were claimed back");
}

/// While it is stopped its untaken connections are given to others; when it wakes it is given work again.
pub(crate) fn a_stopped_worker_is_steered_around_and_comes_back() {
    let server = Server::start(traced(2));
    let (slot, pid) = server.ready()[0];
    stop_worker(&server, (slot, pid));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| client::get(server.address, "/"))).collect();
        for client in clients {
            assert_eq!(client.join().unwrap().expect("answered while the worker is stopped").status, 200);
        }
    });
    assert!(process::is_stopped(pid), "nobody woke it");
    process::signal(pid, Signal::CONT);
    eventually("the worker to serve again", || {
        let answer = client::get(server.address, "/").unwrap();
        assert_eq!(answer.status, 200);
        answer.body.contains(&format!("pid {pid}\n")).then_some(())
    });
}
