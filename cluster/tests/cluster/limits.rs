//! Limits on connections: over the cluster, and of each worker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::health::Heartbeat;
use cluster::{Fork, Mode, Settings, WhenFull};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{DEADLINE, eventually};
use crate::{Running, builder};

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A connection that somebody has taken: it echoes.
fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

fn served(address: SocketAddr) -> TcpStream {
    let mut stream = open(address);
    echo(&mut stream);
    stream
}

/// Opens as many as there may be; one more is answered only after another has ended.
fn one_more_waits(running: &Running, address: SocketAddr, most: usize) {
    let mut streams: Vec<_> = (0..most).map(|_| served(address)).collect();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let stream = served(address);
            assert!(ended.load(Ordering::SeqCst), "it did not wait");
            stream
        });
        // Time enough for it not to wait, if it didn't have to.
        (0..200).for_each(|_| streams.iter_mut().for_each(echo));
        let taken: u64 = running.status().workers.iter().map(|worker| worker.taken).sum();
        assert_eq!(taken, most as u64);
        ended.store(true, Ordering::SeqCst);
        drop(streams.pop());
        waiting.join().unwrap();
    });
    streams.iter_mut().for_each(echo);
}

pub(crate) fn beyond_the_clusters_limit_connections_wait() {
    let mut running = Running::start(builder("echo").workers(2).max_connections(5));
    let address = running.wait_serving()[0];
    one_more_waits(&running, address, 5);
    running.stop();
}

pub(crate) fn beyond_the_workers_limits_connections_wait_in_each_mode() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let builder = builder("echo").workers(2).max_connections_per_worker(2).mode(mode);
        let mut running = Running::start(builder);
        let address = running.wait_serving()[0];
        one_more_waits(&running, address, 4);
        let status = running.status();
        assert!(status.workers.iter().all(|worker| worker.active <= 2), "{status:?}");
        running.stop();
    }
}

pub(crate) fn connections_beyond_a_limit_can_be_rejected() {
    for builder in [builder("echo").max_connections(4), builder("echo").max_connections_per_worker(2)] {
        let mut running = Running::start(builder.workers(2).when_full(WhenFull::Reject));
        let address = running.wait_serving()[0];
        let mut streams: Vec<_> = (0..4).map(|_| served(address)).collect();
        for _ in 0..10 {
            // It has sent nothing, so it sees an end and no reset.
            assert_eq!(open(address).read(&mut [0; 1]).unwrap(), 0);
        }
        eventually("the rejections to be counted", || (running.status().accept.rejected == 10).then_some(()));
        drop(streams.pop());
        eventually("a place to be free", || {
            let mut stream = open(address);
            // A rejected one may be gone before it is written to.
            stream.write_all(b"h").ok()?;
            stream.read_exact(&mut [0; 1]).ok()
        });
        drop(streams);
        running.stop();
    }
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Node's primary spins there: it offers the connection to each worker again and again, at 46 % of a core (§1.10).
///
/// The primary of a test is in this process. While clients wait, it may use far less of a processor than this thread does for a fixed
/// number of echoes that it has nothing to do with; one that spins would use more.
pub(crate) fn nobody_spins_at_a_limit() {
    let echoes = |stream: &mut TcpStream| {
        let (process, thread) = (cpu_time(ClockId::ProcessCPUTime), cpu_time(ClockId::ThreadCPUTime));
        (0..10_000).for_each(|_| echo(stream));
        let own = cpu_time(ClockId::ThreadCPUTime) - thread;
        (own, (cpu_time(ClockId::ProcessCPUTime) - process).saturating_sub(own))
    };
    for builder in [builder("echo").max_connections(2), builder("echo").max_connections_per_worker(1)] {
        // Without what it does regularly: on a busy machine echoes last, and that would add up.
        let heartbeat = Heartbeat::new().interval(DEADLINE).dead_at_least(10 * DEADLINE);
        let builder = builder.workers(2).heartbeat(heartbeat).sample_every(Duration::MAX);
        let mut running = Running::start(builder);
        let address = running.wait_serving()[0];
        let mut streams = [served(address), served(address)];
        let mut waiting: Vec<_> = (0..10).map(|_| open(address)).collect();
        let (own, primary) = echoes(&mut streams[0]);
        eprintln!("the primary used {primary:?} while 10,000 echoes took {own:?}");
        assert!(primary * 4 < own, "it spins: {primary:?} beside {own:?}");
        drop(streams);
        waiting.drain(..).for_each(|mut stream| echo(&mut stream));
        running.stop();
    }
}

/// Of 10 connections to a worker with a limit of 1 or 9, so many are taken at a time; the rest waits, or is rejected where that is wanted.
pub(crate) fn of_ten_connections_none_is_lost() {
    for limit in [1, 9] {
        let builder = || builder("echo").workers(1).max_connections_per_worker(limit);
        let mut running = Running::start(builder());
        let address = running.wait_serving()[0];
        let mut streams: Vec<_> = (0..10).map(|_| open(address)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"hello").unwrap());
        // In the order in which they came; where one ends, the next is taken.
        for mut stream in streams {
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert!(running.status().workers[0].active <= u64::from(limit));
        }
        assert_eq!(running.status().workers[0].taken, 10);
        running.stop();

        let mut running = Running::start(builder().when_full(WhenFull::Reject));
        let address = running.wait_serving()[0];
        let ask = || {
            let mut stream = open(address);
            // A rejected one may be gone before it is written to, or read from.
            let answered = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut [0; 5]));
            answered.is_ok().then_some(stream)
        };
        let streams: Vec<_> = (0..10).filter_map(|_| ask()).collect();
        assert_eq!(streams.len(), limit as usize);
        let rejected = u64::from(10 - limit);
        eventually("the rejections to be counted", || {
            (running.status().accept.rejected == rejected).then_some(())
        });
        drop(streams);
        running.stop();
    }
}

/// How many connections each worker has, by slot.
fn active(running: &Running) -> Vec<u64> {
    running.status().workers.iter().map(|worker| worker.active).collect()
}

/// test-cluster-net-server-drop-connection.js: of ten connections to workers with limits of 0, 1 and 9, so many are each one's: what one has no
/// room for another gets.
pub(crate) fn workers_may_have_limits_of_their_own() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let mut running = Running::start(builder("echo").workers(0).max_connections_per_worker(5).mode(mode));
        let handle = running.handle.clone();
        for limit in [0, 1, 9] {
            running.block_on(handle.fork_with(Fork::new().max_connections(limit))).unwrap();
        }
        let address = running.wait_serving()[0];
        let mut streams: Vec<_> = (0..10).map(|_| served(address)).collect();
        assert_eq!(active(&running), [0, 1, 9], "{mode}");
        // One that is forked without says what all others have.
        let settings = Settings::new().max_connections_per_worker(1);
        running.block_on(handle.setup(settings)).unwrap();
        let forked = running.block_on(handle.fork()).unwrap();
        running.wait_ready(forked.id());
        streams.push(served(address));
        assert_eq!(active(&running), [0, 1, 9, 1], "{mode}");
        drop(streams);
        running.stop();
    }
}

/// test-http-server-drop-connections-in-cluster.js: a limit of 0 and `WhenFull::Reject`: what comes is closed, and counted. Where another worker
/// has room it gets it, in each mode, also what the kernel would have given to the one that has none.
pub(crate) fn a_worker_with_a_limit_of_none_gets_none() {
    let rejects = builder("echo").max_connections_per_worker(0).when_full(WhenFull::Reject);
    let mut running = Running::start(rejects.workers(1));
    let address = running.wait_serving()[0];
    for rejected in 1..=3 {
        assert_eq!(open(address).read(&mut [0; 1]).unwrap(), 0);
        eventually("it to be counted", || (running.status().accept.rejected == rejected).then_some(()));
    }
    assert_eq!(active(&running), [0]);
    running.stop();

    let ways = [
        (Mode::Handoff, "least-loaded"),
        (Mode::Shared, "least-loaded"),
        (Mode::ReusePort, "least-loaded"),
        // These have one worker for all connections of a client: another one, where that has no room.
        (Mode::Handoff, "maglev"),
        (Mode::Handoff, "rendezvous"),
    ];
    for (mode, strategy) in ways {
        let mut running = Running::start(builder("echo").workers(1).mode(mode).strategy(strategy));
        let address = running.wait_serving()[0];
        for _ in 0..3 {
            let none = running.block_on(running.handle.fork_with(Fork::new().max_connections(0))).unwrap();
            running.wait_ready(none.id());
        }
        let streams: Vec<_> = (0..20).map(|_| served(address)).collect();
        assert_eq!(active(&running), [20, 0, 0, 0], "{mode} {strategy}");
        drop(streams);
        running.stop();
    }
}
