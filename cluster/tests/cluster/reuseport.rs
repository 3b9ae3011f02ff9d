//! A socket of each slot on one port: nothing is lost that no worker had accepted.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::health::Heartbeat;
use cluster::supervisor::{Backoff, Policy};
use cluster::{Builder, Mode};
use rustix::process::Signal;

use crate::support::{DEADLINE, eventually, process};
use crate::{QUICK, Running, apps, builder};

const WORKERS: usize = 4;

fn reuseport(backoff: Duration) -> Builder {
    let policy = Policy::new().backoff(Backoff::new().base(backoff).cap(backoff));
    let builder = builder("slot").env(apps::LISTEN, "127.0.0.1:0").workers(WORKERS);
    builder.mode(Mode::ReusePort).policy(policy).max_restarts(10_000)
}

/// What became of many connections, one after another, of clients that only listen. So the kernel tells what became of each: the
/// end of one that somebody had accepted and then died is an end; one that nobody had accepted is reset.
#[derive(Debug, Default)]
struct Outcomes {
    served: usize,
    /// Accepted by somebody who died.
    ended: usize,
    lost: Vec<io::Error>,
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}

/// Asks from several threads while `disturb` does what it does.
fn under_load(address: SocketAddr, disturb: impl FnOnce()) -> Outcomes {
    let over = AtomicBool::new(false);
    let hammer = || {
        let mut outcomes = Outcomes::default();
        while !over.load(Ordering::SeqCst) {
            match ask(address) {
                Ok(word) if word.is_empty() => outcomes.ended += 1,
                Ok(_) => outcomes.served += 1,
                Err(error) => outcomes.lost.push(error),
            }
        }
        outcomes
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(hammer)).collect();
        disturb();
        over.store(true, Ordering::SeqCst);
        let outcomes = clients.into_iter().map(|client| client.join().unwrap());
        outcomes.fold(Outcomes::default(), |mut sum, one| {
            (sum.served, sum.ended) = (sum.served + one.served, sum.ended + one.ended);
            sum.lost.extend(one.lost);
            sum
        })
    })
}

fn ready(running: &Running) -> Vec<(cluster::WorkerId, u32)> {
    let workers = running.status().workers.into_iter().filter(|worker| worker.state == "ready");
    workers
        .filter_map(|worker| Some((cluster::WorkerId::new(worker.slot, worker.generation), worker.pid?)))
        .collect()
}

fn kill_under_load(backoff: Duration) {
    let mut running = Running::start(reuseport(backoff));
    let address = running.wait_serving()[0];
    let outcomes = under_load(address, || {
        for round in 0..20 {
            let pid = eventually("somebody to be ready", || Some(ready(&running).get(round % WORKERS)?.1));
            process::signal(pid, Signal::KILL);
            eventually("it to be gone", || {
                running.status().workers.iter().all(|worker| worker.pid != Some(pid)).then_some(())
            });
            // Some are served while it is away, too.
            (0..20).for_each(|_| drop(ask(address)));
        }
        eventually("all to be ready", || (ready(&running).len() == WORKERS).then_some(()));
    });
    assert!(outcomes.lost.is_empty(), "{outcomes:?}");
    assert!(outcomes.ended <= 20, "who dies has one connection in its hands: {outcomes:?}");
    assert!(outcomes.served > 400, "{outcomes:?}");
    running.stop();
}

pub(crate) fn kills_lose_no_connection_that_nobody_had_accepted() {
    kill_under_load(QUICK);
}

pub(crate) fn nor_do_they_while_the_successor_backs_off() {
    kill_under_load(Duration::from_millis(200));
}

pub(crate) fn retiring_workers_lose_no_connection() {
    let mut running = Running::start(reuseport(QUICK));
    let address = running.wait_serving()[0];
    let outcomes = under_load(address, || {
        for _ in 0..20 {
            let (oldest, _) = *ready(&running).iter().min_by_key(|(id, _)| id.generation()).unwrap();
            let successor = running.block_on(running.handle.fork()).unwrap().id();
            eventually("the successor to be ready", || {
                ready(&running).iter().find(|(id, _)| *id == successor).map(drop)
            });
            running.block_on(running.handle.stop(oldest)).unwrap();
            eventually("the other to be gone", || (ready(&running).len() == WORKERS).then_some(()));
        }
    });
    assert!(outcomes.lost.is_empty() && outcomes.ended == 0, "{outcomes:?}");
    running.stop();
}

/// It is steered around, and what waits on its socket is given to others while it still hangs.
pub(crate) fn a_stopped_worker_keeps_nobody_waiting() {
    // However long this takes, it is not replaced.
    let heartbeat = Heartbeat::new().dead_at_least(10 * DEADLINE);
    let mut running = Running::start(reuseport(QUICK).heartbeat(heartbeat));
    let address = running.wait_serving()[0];
    let (id, pid) = ready(&running)[1];
    process::signal(pid, Signal::STOP);
    let ask_many = || {
        let answered = (0..100).map(|_| ask(address).unwrap());
        assert!(answered.into_iter().all(|word| !word.is_empty() && word != id.to_string()));
    };
    ask_many();
    // What came before it was suspected made a detour by the primary; what comes now doesn't.
    let accepted = |running: &Running| running.status().accept.accepted;
    let detours = accepted(&running);
    ask_many();
    assert_eq!(accepted(&running), detours);
    assert!(process::is_stopped(pid));
    process::signal(pid, Signal::CONT);
    eventually("it to serve again", || (ask(address).unwrap() == id.to_string()).then_some(()));
    // The primary accepts nothing any more.
    eventually("its socket to be its own again", || {
        let before = accepted(&running);
        (0..50).for_each(|_| drop(ask(address)));
        (accepted(&running) == before).then_some(())
    });
    running.stop();
}

/// At the end, connections in the queue of any socket are served.
pub(crate) fn what_has_connected_is_served_at_the_end() {
    // They are handed out for as long as idle connections are kept.
    let mut running = Running::start(reuseport(QUICK).linger(DEADLINE));
    let address = running.wait_serving()[0];
    let pids: Vec<u32> = ready(&running).iter().map(|(_, pid)| *pid).collect();
    pids.iter().for_each(|pid| process::signal(*pid, Signal::STOP));
    // More than a worker accepts in one go.
    let waiting: Vec<_> = (0..1_200).map(|_| TcpStream::connect(address).unwrap()).collect();
    running.block_on(running.handle.shutdown()).unwrap();
    pids.iter().for_each(|pid| process::signal(*pid, Signal::CONT));
    for mut stream in waiting {
        let mut word = String::new();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_to_string(&mut word).unwrap();
        assert!(!word.is_empty());
    }
    running.outcome().unwrap();
}
