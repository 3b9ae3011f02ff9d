//! Limits on connections: over the cluster, and of each worker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Mode, WhenFull};

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
