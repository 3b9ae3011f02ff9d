//! What drivers of hubs and replicas must stand: links that come and go, that never or always are ready, callers that vanish.
#![cfg(all(feature = "tokio", feature = "ipc"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "drivers have threads and a clock")]

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_shared_state::tokio::{Follower, Hub, LinkError, Memory, SharedState, StateError, ipc, memory};
use cluster_shared_state::{
    ClientId, Command, CommandError, Condition, Epoch, Increment, KeyRange, Limits, Notice, PublisherConfig,
    Put, ReplicaConfig, RequestError, Transaction, Watch,
};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::time::timeout;

/// Long enough for a noisy machine.
const SOON: Duration = Duration::from_secs(20);

fn hub() -> Hub {
    Hub::new(Epoch::new(1), PublisherConfig::new())
}

fn client(number: u64) -> ClientId {
    ClientId::new(number, 1)
}

fn replica(number: u64) -> (SharedState, Follower) {
    SharedState::new(client(number), ReplicaConfig::new())
}

/// Follows over memory, for ever.
fn follow(hub: &Hub, client: ClientId) -> SharedState {
    let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
    let (here, there) = memory();
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client, there).await });
    tokio::spawn(async move { follower.follow(here).await });
    state
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A link that is always ready, and while it sends somebody writes.
struct Torrent {
    hub: Hub,
    hello: Option<Bytes>,
    sent: Arc<AtomicUsize>,
}

impl Stream for Torrent {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.hello.take().map_or(Poll::Pending, |hello| Poll::Ready(Some(Ok(hello))))
    }
}

impl Sink<Bytes> for Torrent {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Bytes) -> Result<(), Infallible> {
        let sent = self.sent.fetch_add(1, Ordering::SeqCst);
        assert!(sent < 100_000, "the requests of this replica, and other links, never get their turn");
        self.hub.execute(Command::put("a", sent.to_string())).unwrap();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

/// The first message of a replica.
async fn hello(number: u64) -> Bytes {
    let (_state, mut follower) = replica(number);
    let (here, mut there) = memory();
    let mut following = pin!(follower.follow(here));
    assert!(poll_once(following.as_mut()).is_pending());
    std::future::poll_fn(|cx| Pin::new(&mut there).poll_next(cx)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_link_that_is_always_ready_leaves_others_their_turn() {
    let hub = hub();
    let sent = Arc::new(AtomicUsize::new(0));
    let torrent = Torrent { hub: hub.clone(), hello: Some(hello(1).await), sent: Arc::clone(&sent) };
    let mut serving = pin!(hub.serve(client(1), torrent));
    assert!(poll_once(serving.as_mut()).is_pending());
    assert!(sent.load(Ordering::SeqCst) > 0);
}

/// A stream that may not be asked again once it has ended, like most.
struct Strict {
    inner: Memory,
    has_ended: bool,
}

impl Stream for Strict {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        assert!(!self.has_ended, "polled after it had ended");
        let polled = Pin::new(&mut self.inner).poll_next(cx);
        self.has_ended = matches!(polled, Poll::Ready(None));
        polled
    }
}

impl Sink<Bytes> for Strict {
    type Error = Infallible;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Infallible> {
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[tokio::test]
async fn a_stream_is_not_polled_after_its_end() {
    let hub = hub();
    let (here, there) = memory();
    let mut here = here;
    Pin::new(&mut here).start_send(hello(1).await).unwrap();
    drop(here);
    let error = hub.serve(client(1), Strict { inner: there, has_ended: false }).await;
    assert!(matches!(error, LinkError::Ended), "{error}");
}
