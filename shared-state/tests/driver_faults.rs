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

fn follow_by_socket(hub: &Hub, client: ClientId, limits: &Limits) -> SharedState {
    let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
    let (here, there) = cluster_ipc::Socket::pair().unwrap();
    let (here, there) =
        (ipc::link(here, usize::MAX).unwrap(), ipc::link(there, ipc::max_request(limits)).unwrap());
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client, there).await });
    tokio::spawn(async move { follower.follow(here).await });
    state
}

/// A link whose readiness to send is asked of somebody.
struct Asked<F> {
    inner: Memory,
    is_ready: F,
}

impl<F: FnMut() -> bool + Unpin> Stream for Asked<F> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl<F: FnMut() -> bool + Unpin> Sink<Bytes> for Asked<F> {
    type Error = Infallible;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if (self.is_ready)() { Pin::new(&mut self.inner).poll_ready(cx) } else { Poll::Pending }
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

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

type Serving = Pin<Box<dyn Future<Output = LinkError> + Send>>;

/// Two threads, in the worst order.
#[tokio::test]
async fn a_link_that_is_replaced_while_it_sends_takes_nothing_from_its_successor() {
    let hub = hub();
    let (state, mut follower) = replica(1);
    let (here, there) = memory();
    tokio::spawn(async move { follower.follow(here).await });
    tokio::task::yield_now().await;
    // The successor has heard who it is, and can't answer yet.
    let is_ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_ready);
    let link = Asked { inner: there, is_ready: move || asked.load(Ordering::SeqCst) };
    let primary = hub.clone();
    let mut successor: Serving = Box::pin(async move { primary.serve(client(1), link).await });
    let begun = Arc::new(Mutex::new(None));
    let begin = Arc::clone(&begun);
    let mut may_begin = false;
    let (_there, here) = memory();
    let is_first = Arc::new(AtomicBool::new(true));
    let first = Arc::clone(&is_first);
    let mut successor = Some(move || {
        assert!(poll_once(successor.as_mut()).is_pending());
        successor
    });
    let old = Asked {
        inner: here,
        is_ready: move || {
            if std::mem::replace(&mut may_begin, true) && first.swap(false, Ordering::SeqCst) {
                *begin.lock().unwrap() = successor.take().map(|begin| begin());
            }
            true
        },
    };
    let mut former = pin!(hub.serve(client(1), old));
    // Once with nothing to send, once in the middle of which it is replaced.
    let mut ended = None;
    for _ in 0..3 {
        if let Poll::Ready(error) = poll_once(former.as_mut()) {
            ended = Some(error);
            break;
        }
    }
    is_ready.store(true, Ordering::SeqCst);
    let successor = begun.lock().unwrap().take().expect("it has begun");
    tokio::spawn(successor);
    timeout(SOON, state.live()).await.expect("it was welcomed").unwrap();
    assert!(matches!(ended, Some(LinkError::Ended)), "{ended:?}");
}

#[tokio::test]
async fn a_replaced_link_ends_though_its_peer_reads_nothing() {
    let hub = hub();
    let (_peer, there) = memory();
    let stalled = Asked { inner: there, is_ready: || false };
    let primary = hub.clone();
    let former = tokio::spawn(async move { primary.serve(client(1), stalled).await });
    tokio::task::yield_now().await;
    let state = follow(&hub, client(1));
    state.live().await.unwrap();
    let error = timeout(SOON, former).await.expect("it ends").unwrap();
    assert!(matches!(error, LinkError::Ended), "{error}");
    state.set("a", "1").await.unwrap();
}

#[tokio::test]
async fn who_is_gone_is_served_no_more() {
    let hub = hub();
    let (state, mut follower) = replica(1);
    let (here, there) = memory();
    let primary = hub.clone();
    let served = tokio::spawn(async move { primary.serve(client(1), there).await });
    tokio::spawn(async move { follower.follow(here).await });
    state.set("a", "1").await.unwrap();
    hub.gone(client(1));
    let error = timeout(SOON, served).await.expect("it ends").unwrap();
    assert!(matches!(error, LinkError::Gone), "{error}");
    let error = timeout(SOON, state.set("a", "2")).await.expect("nobody waits for ever").unwrap_err();
    assert_eq!(error, StateError::Gone);
}

#[tokio::test]
async fn who_is_gone_before_its_link_was_looked_at_does_not_come_back() {
    let hub = hub();
    let (_state, mut follower) = replica(1);
    let (here, there) = memory();
    let serving = hub.serve(client(1), there);
    hub.gone(client(1));
    tokio::spawn(async move { follower.follow(here).await });
    let error = timeout(SOON, serving).await.expect("it ends");
    assert!(matches!(error, LinkError::Gone), "{error}");
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

#[test]
fn whoever_waits_for_a_live_state_is_told_when_it_never_will_be() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (sender, followers) = std::sync::mpsc::channel::<(Follower, Arc<AtomicBool>)>();
    std::thread::spawn(move || {
        for (follower, go) in followers {
            while !go.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
            drop(follower);
        }
    });
    // One ends it while the other begins to wait: sooner or later at any moment.
    for _ in 0..100_000 {
        let (state, follower) = replica(1);
        let go = Arc::<AtomicBool>::default();
        sender.send((follower, Arc::clone(&go))).unwrap();
        go.store(true, Ordering::SeqCst);
        let told = runtime.block_on(async { timeout(SOON, state.live()).await });
        assert_eq!(told.expect("it is told"), Err(StateError::Gone));
    }
}

#[tokio::test]
async fn what_was_sent_is_in_doubt_when_nobody_follows_any_more() {
    let hub = hub();
    let (state, mut follower) = replica(1);
    let (here, there) = memory();
    let mut serving = Box::pin(hub.serve(client(1), there));
    let mut following = Box::pin(async move { follower.follow(here).await });
    while !state.is_live() {
        assert!(poll_once(following.as_mut()).is_pending());
        assert!(poll_once(serving.as_mut()).is_pending());
    }
    let sent = state.submit(Command::put("a", "1")).unwrap();
    assert!(poll_once(following.as_mut()).is_pending());
    assert!(poll_once(serving.as_mut()).is_pending());
    let unsent = state.submit(Command::put("b", "1")).unwrap();
    drop(following);
    assert!(hub.inspect(|publisher| publisher.store().get("a").is_some()), "it was carried out");
    assert_eq!(sent.await.unwrap_err(), StateError::Request(RequestError::InDoubt));
    assert_eq!(unsent.await.unwrap_err(), StateError::Gone, "it was never sent");
}

#[tokio::test]
async fn a_replica_that_is_gone_says_so_however_often_it_is_asked() {
    let (state, follower) = SharedState::new(client(1), ReplicaConfig::new().requests(4));
    let early: Vec<_> = (0..4).map(|_| state.submit(Command::put("a", "1")).unwrap()).collect();
    drop(follower);
    for _ in 0..8 {
        let late = state.submit(Command::put("a", "1")).expect("there is room: nobody waits");
        assert_eq!(late.await.unwrap_err(), StateError::Gone);
    }
    for early in early {
        assert_eq!(early.await.unwrap_err(), StateError::Gone);
    }
}

/// The last instant that there is.
fn end_of_time() -> Instant {
    let (mut at, mut step) = (Instant::now(), Duration::from_secs(u64::MAX / 2));
    while step > Duration::ZERO {
        match at.checked_add(step) {
            Some(later) => at = later,
            None => step /= 2,
        }
    }
    at
}

#[tokio::test]
async fn what_expires_at_the_end_of_time_keeps_nothing_else_alive() {
    let hub = hub();
    let end = end_of_time() - Duration::from_micros(900);
    hub.execute(Put::new("late", "1").ttl(end - Instant::now())).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    hub.execute(Put::new("soon", "1").ttl(Duration::from_millis(20))).unwrap();
    let is_there = || hub.inspect(|publisher| publisher.store().get("soon").is_some());
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_there() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!is_there());
}

#[tokio::test(start_paused = true)]
async fn time_is_that_of_the_runtime() {
    let hub = hub();
    hub.execute(Put::new("a", "1").ttl(Duration::from_secs(3600))).unwrap();
    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert!(hub.inspect(|publisher| publisher.store().get("a").is_some()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hub.inspect(|publisher| publisher.store().get("a").is_none()));
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_hub_wants_a_runtime_with_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _guard = runtime.enter();
    drop(hub());
}

#[tokio::test]
async fn a_huge_message_is_not_copied_for_each_who_reads_slowly() {
    let (here, _there) = cluster_ipc::Socket::pair().unwrap();
    let mut link = ipc::link(here, usize::MAX).unwrap();
    let message = Bytes::from(vec![7; 64 << 20]);
    let used = allocation_counter::measure(|| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut link = Pin::new(&mut link);
        assert!(link.as_mut().poll_ready(&mut cx).is_ready());
        link.as_mut().start_send(message.clone()).unwrap();
        assert!(link.as_mut().poll_flush(&mut cx).is_pending());
        assert!(link.as_mut().poll_ready(&mut cx).is_pending(), "it has enough to do");
    });
    assert!(used.bytes_max < 2 << 20, "{used:?}");
}

#[tokio::test]
async fn a_callback_is_not_called_after_its_guard_was_dropped() {
    let hub = hub();
    let state = follow(&hub, client(1));
    state.live().await.unwrap();
    let mut watching = state.watch(Watch::new(KeyRange::All)).unwrap();
    for number in 0..10 {
        state.set("a", number.to_string()).await.unwrap();
    }
    assert!(watching.next().await.is_some());
    let (calls, guard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (counted, own) = (Arc::clone(&calls), Arc::clone(&guard));
    let callback = watching.for_each(move |_: Notice| {
        counted.fetch_add(1, Ordering::SeqCst);
        drop(own.lock().unwrap().take());
    });
    *guard.lock().unwrap() = Some(callback);
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
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

/// A command that is made while it is asked for.
struct Made(Hub);

impl From<Made> for Command {
    fn from(Made(hub): Made) -> Self {
        Self::put("revision", hub.cursor().revision.to_string()).into()
    }
}

fn within<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(SOON).expect("it does not block")
}

#[tokio::test]
async fn a_command_is_made_before_anything_is_locked() {
    let hub = hub();
    within(move || hub.execute(Made(hub.clone())).unwrap());
}

/// Who waits without a runtime, and looks at once.
struct Looks(SharedState, AtomicBool);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let _ = self.0.cursor();
        self.1.store(true, Ordering::SeqCst);
    }
}

#[test]
fn nobody_is_woken_while_anything_is_locked() {
    for what in 0..4 {
        within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _guard = runtime.enter();
            let hub = hub();
            let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new().requests(1));
            let waker = Arc::new(Looks(state.clone(), AtomicBool::new(false)));
            let by = Waker::from(Arc::clone(&waker));
            let mut cx = Context::from_waker(&by);
            let first = state.submit(Command::put("a", "1")).unwrap();
            let mut waiting: Pin<Box<dyn Future<Output = ()>>> = match what {
                0 => Box::pin(async move { drop(first.await) }),
                1 => Box::pin(async { drop(state.live().await) }),
                2 => Box::pin(async { drop(state.set("b", "1").await) }),
                _ => {
                    let mut watching = state.watch(Watch::new(KeyRange::All)).unwrap();
                    Box::pin(async move { drop(watching.next().await) })
                }
            };
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            let (here, there) = memory();
            {
                let mut serving = pin!(hub.serve(client(1), there));
                let mut following = pin!(follower.follow(here));
                for _ in 0..4 {
                    assert!(poll_once(following.as_mut()).is_pending());
                    assert!(poll_once(serving.as_mut()).is_pending());
                }
            }
            assert!(waker.1.load(Ordering::SeqCst), "it was woken");
            drop(follower);
        });
    }
}

#[tokio::test]
async fn a_command_beyond_all_limits_is_refused_and_harms_nobody() {
    let hub = hub();
    let state = follow_by_socket(&hub, client(1), &Limits::new());
    state.live().await.unwrap();
    let huge = vec![7; 16 << 20];
    let error = timeout(SOON, state.set("huge", huge)).await.expect("it is answered").unwrap_err();
    assert!(
        matches!(
            error,
            StateError::Request(RequestError::Refused(
                CommandError::ValueTooLong { .. } | CommandError::CommandTooLong { .. }
            ))
        ),
        "{error:?}"
    );
    state.set("small", "1").await.unwrap();
}

#[tokio::test]
async fn many_small_operations_pass_where_commands_must_be_short() {
    let limits = Limits::new().command_bytes(26 << 10).operations(4096);
    let hub = Hub::new(Epoch::new(u64::MAX), PublisherConfig::new().limits(limits));
    let state = follow_by_socket(&hub, client(1), &limits);
    let lease = state.grant(None).await.unwrap();
    let mut transaction = Transaction::new();
    for number in 0..4096_u16 {
        let key = || Bytes::copy_from_slice(&number.to_be_bytes());
        let count = || {
            let number = Increment::new(key(), i64::MIN).starting_at(i64::MIN).at_most(i64::MAX);
            number.lease(lease).ttl(Duration::new(1 << 40, 999_999_999))
        };
        let nobody = Condition::Owner(ClientId::new(u64::MAX, u64::MAX));
        transaction = transaction.when(key(), nobody).then(count()).otherwise(count());
    }
    let error = timeout(SOON, state.transact(transaction)).await.expect("it is answered").unwrap_err();
    let error = error.to_string();
    assert!(error.contains("would overflow") || error.contains("within"), "{error}");
}

#[tokio::test]
async fn who_is_told_without_pause_leaves_others_their_turn() {
    let hub = hub();
    let state = follow(&hub, client(1));
    state.live().await.unwrap();
    let mut watching = state.watch(Watch::new(KeyRange::All)).unwrap();
    for number in 0..1000 {
        state.set("a", number.to_string()).await.unwrap();
    }
    let turns = Arc::new(AtomicUsize::new(0));
    let others = Arc::clone(&turns);
    tokio::spawn(async move { others.fetch_add(1, Ordering::SeqCst) });
    for _ in 0..900 {
        watching.next().await.unwrap();
    }
    assert_eq!(turns.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_memory_of_a_long_message_is_given_back() {
    let (here, there) = cluster_ipc::Socket::pair().unwrap();
    let (mut here, mut there) = (ipc::link(here, usize::MAX).unwrap(), ipc::link(there, usize::MAX).unwrap());
    Pin::new(&mut here).start_send(Bytes::from(vec![7; 20 << 20])).unwrap();
    let mut received = None;
    let turn = |cx: &mut Context<'_>| {
        let used = allocation_counter::measure(|| {
            let _ = Pin::new(&mut here).poll_flush(cx);
            if let Poll::Ready(message) = Pin::new(&mut there).poll_next(cx) {
                received = Some(message.unwrap().unwrap().len());
            }
        });
        (used.bytes_current, received)
    };
    let (mut turn, mut held) = (turn, 0);
    let length = std::future::poll_fn(|cx| {
        let (more, received) = turn(cx);
        held += more;
        cx.waker().wake_by_ref();
        received.map_or(Poll::Pending, Poll::Ready)
    });
    assert_eq!(length.await, 20 << 20);
    assert!(held < 2 << 20, "{held} bytes");
}
