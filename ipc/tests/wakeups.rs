//! How often the runtime is woken: not by a peer who only reads what it was sent.
//!
//! A unix socket becomes "writable" anew each time its peer reads. Who sends to many would be woken by every one of them.

#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use cluster_ipc::session::Config;
use cluster_ipc::tokio::{Channel, Endpoint, Receiver, Sender};
use cluster_ipc::{Connection, Frame, Kind, Read};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::runtime::{Builder, Handle};

/// Messages that are read one by one.
const COUNT: u32 = 50;

/// No test waits longer for something that must come.
const DEADLINE: Duration = Duration::from_secs(60);

fn hello() -> Frame<std::os::fd::OwnedFd> {
    Frame::new(Kind::Message, 0, &b"hello"[..])
}

/// Whether the thread of this name waits in the kernel. One that was woken, and is not let run on a busy machine, doesn't.
fn is_asleep(thread: &str) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let mut stats = threads.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("stat")).ok());
    stats.any(|stat| stat.contains(&format!("({thread}) S ")))
}

/// So often the runtime, of one thread, went to sleep, once it is asleep.
fn sleeps(runtime: &Handle, thread: &str) -> u64 {
    let metrics = runtime.metrics();
    let mut before = metrics.worker_park_count(0);
    let mut same = 0;
    let deadline = Instant::now() + DEADLINE;
    while same < 20 {
        assert!(Instant::now() < deadline, "the runtime never rests");
        thread::sleep(Duration::from_millis(5));
        let now = metrics.worker_park_count(0);
        same = if now == before && is_asleep(thread) { same + 1 } else { 0 };
        before = now;
    }
    before
}

/// Runs a runtime on a thread of its own, of this name. `begin` ends once all was sent; what it returns is kept while `read` reads at the other end.
fn sleeps_while_read<T, F>(
    name: &str,
    begin: impl FnOnce() -> F + Send + 'static,
    mut read: impl FnMut(),
) -> u64
where
    F: Future<Output = T>,
{
    let (told, runs) = mpsc::channel();
    let (over, ends) = tokio::sync::oneshot::channel::<()>();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kept = begin().await;
            told.send(Handle::current()).unwrap();
            ends.await.unwrap();
            drop(kept);
        });
    });
    let thread = thread.unwrap();
    let runtime = runs.recv_timeout(DEADLINE).expect("all was sent");
    let before = sleeps(&runtime, name);
    for _ in 0..COUNT {
        read();
    }
    let slept = sleeps(&runtime, name) - before;
    over.send(()).unwrap();
    thread.join().unwrap();
    slept
}

#[test]
fn a_channel_is_not_woken_by_reads_of_its_peer() {
    let (here, mut there) = cluster_ipc::Channel::pair().unwrap();
    let begin = move || async move {
        let mut here = Channel::new(here).unwrap();
        for _ in 0..COUNT {
            here.try_send(hello()).unwrap();
            here.flush().await.unwrap();
        }
        let reading = tokio::spawn(async move { here.recv().await.map(drop) });
        vec![reading]
    };
    let mut got = 0;
    let slept =
        sleeps_while_read("channel", begin, || got += u32::from(there.poll_frame().unwrap().is_some()));
    assert_eq!(got, COUNT);
    assert_eq!(slept, 0, "nothing happened to it");
}

#[test]
fn an_endpoint_is_not_woken_by_reads_of_its_peer() {
    let (mut here, mut there) = Connection::pair(Config::new()).unwrap();
    let now = Instant::now();
    // Until each knows of the other.
    for _ in 0..4 {
        there.read(now);
        there.flush(now);
        here.read(now);
        here.flush(now);
    }
    let begin = move || async move {
        let (sender, receiver): (Sender<u32>, Receiver<()>) = Endpoint::new(here).unwrap().split();
        for number in 0..COUNT {
            sender.send(&number).await.unwrap();
        }
        (sender, receiver)
    };
    let mut got = 0;
    let slept = sleeps_while_read("endpoint", begin, || got += u32::from(there.read(now) == Read::Some));
    assert!(got > 0, "it was sent something");
    assert_eq!(slept, 0, "nothing happened to it");
}

/// Counts how often it is woken.
struct Counts(std::sync::atomic::AtomicUsize);

impl Wake for Counts {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// One task reads, another writes: that the second begins to wait for room must not make the first one deaf.
#[tokio::test]
async fn a_reader_is_woken_though_the_writer_found_no_room_after_it() {
    let (here, mut there) = cluster_ipc::Channel::pair().unwrap();
    let mut here = Channel::new(here).unwrap();
    let reader = std::sync::Arc::new(Counts(0.into()));
    let waker = std::sync::Arc::clone(&reader).into();
    let mut reading = Context::from_waker(&waker);
    assert!(Pin::new(&mut here).poll_next(&mut reading).is_pending());
    let large = vec![7; 64 << 10];
    let writing = |here: &mut Channel| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut here = Pin::new(here);
        while here.as_mut().poll_ready(&mut cx).is_ready() {
            let frame = Frame::new(Kind::Message, 0, large.clone());
            here.as_mut().start_send(frame).unwrap();
            if here.as_mut().poll_flush(&mut cx).is_pending() {
                return;
            }
        }
    };
    writing(&mut here);
    // Each poll is to be followed by a wake-up: of its own registration, or of the one that took its place.
    let mut before = reader.0.load(std::sync::atomic::Ordering::SeqCst);
    if before > 0 {
        assert!(Pin::new(&mut here).poll_next(&mut reading).is_pending());
        before = reader.0.load(std::sync::atomic::Ordering::SeqCst);
    }
    there.try_send(hello()).unwrap();
    there.flush().unwrap();
    tokio::time::timeout(DEADLINE, async {
        while reader.0.load(std::sync::atomic::Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the reader is woken");
    assert!(matches!(Pin::new(&mut here).poll_next(&mut reading), Poll::Ready(Some(Ok(_)))));
}

/// More than a socket holds goes in one direction, for long enough that room is watched for, and not, in turn.
#[tokio::test]
async fn all_that_is_sent_arrives_though_the_peer_reads_slowly() {
    let (here, there) = cluster_ipc::Channel::pair().unwrap();
    let (mut here, mut there) = (Channel::new(here).unwrap(), Channel::new(there).unwrap());
    let sent = tokio::spawn(async move {
        for number in 0..400_u64 {
            let len = if number % 100 < 50 { 100_000 } else { 10 };
            let mut frame = Some(Frame::new(Kind::Message, number, vec![7; len]));
            while let Some(queued) = frame.take() {
                if let Err(full) = here.try_send(queued) {
                    here.flush().await.unwrap();
                    frame = Some(full.into_inner());
                }
            }
            here.flush().await.unwrap();
        }
        here
    });
    for number in 0..400 {
        let frame = tokio::time::timeout(DEADLINE, there.recv()).await.expect("it arrives").unwrap();
        assert_eq!(frame.id(), number);
    }
    drop(sent.await.unwrap());
}
