//! The limits by way of the drivers: over memory and over sockets, with a runtime.
//!
//! Nothing here looks at a clock: what others notice is counted in revisions and messages.
#![cfg(all(feature = "tokio", feature = "ipc"))]
#![allow(clippy::print_stdout, reason = "figures for who reads them")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::tokio::{Hub, LinkError, Memory, SharedState, StateError, ipc, memory};
use cluster_shared_state::{
    ClientId, Command, CommandError, Epoch, KeyRange, Limits, Misbehaviour, Notice, Overflow, Publisher,
    PublisherConfig, PublisherEvent, Put, ReplicaConfig, RequestError, Transaction, Watch,
};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::broadcast::Receiver;

const MIB: usize = 1 << 20;

fn hub(config: PublisherConfig) -> Hub {
    Hub::new(Epoch::new(1), config)
}

fn client(number: u64) -> ClientId {
    ClientId::new(number, 1)
}

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Memory,
    Socket,
}

impl By {
    const BOTH: [Self; 2] = [Self::Memory, Self::Socket];

    /// Follows for ever.
    fn follow(self, hub: &Hub, client: ClientId) -> SharedState {
        let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
        let primary = hub.clone();
        match self {
            Self::Memory => {
                let (here, there) = memory();
                tokio::spawn(async move { primary.serve(client, there).await });
                tokio::spawn(async move { follower.follow(here).await });
            }
            Self::Socket => {
                let (here, there) = sockets();
                tokio::spawn(async move { primary.serve(client, there).await });
                tokio::spawn(async move { follower.follow(here).await });
            }
        }
        state
    }
}

fn sockets() -> (ipc::Pieces, ipc::Pieces) {
    let (here, there) = cluster_ipc::Socket::pair().unwrap();
    let max_request = ipc::max_request(&Limits::new());
    (ipc::link(here, usize::MAX).unwrap(), ipc::link(there, max_request).unwrap())
}

/// Puts so many keys, with values of 8 bytes.
fn fill(hub: &Hub, keys: usize) {
    for first in (0..keys).step_by(128) {
        let numbers = first..keys.min(first + 128);
        let put = |number: usize| Put::new(format!("key/{number:07}"), "8 bytes.");
        hub.execute(numbers.fold(Transaction::new(), |all, number| all.then(put(number)))).unwrap();
    }
}

/// The next event that is not merely about who joined.
async fn event(events: &mut Receiver<PublisherEvent>) -> PublisherEvent {
    loop {
        match events.recv().await.unwrap() {
            PublisherEvent::Joined { .. } | PublisherEvent::Live { .. } => {}
            event => return event,
        }
    }
}

/// Writes without pause, its window always full, until that is dropped.
fn flood(state: &SharedState, value: usize) -> tokio::task::JoinHandle<()> {
    let state = state.clone();
    let value = Bytes::from(vec![7; value]);
    tokio::spawn(async move {
        let mut pending = VecDeque::new();
        for round in 0_u64.. {
            match state.submit(Put::new(format!("flood/{}", round % 100), value.clone())) {
                Ok(request) => pending.push_back(request),
                Err(_) => drop(pending.pop_front().unwrap().await.unwrap()),
            }
        }
    })
}

#[tokio::test]
async fn one_who_writes_without_pause_leaves_others_their_turn() {
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new());
        let (writer, other) = (by.follow(&hub, client(1)), by.follow(&hub, client(2)));
        writer.live().await.unwrap();
        other.live().await.unwrap();
        let flood = flood(&writer, 8);
        let (mut most, mut all) = (0, 0);
        for _ in 0..60 {
            let before = hub.cursor().revision.get();
            let mine = other.set("mine", "x").await.unwrap().get();
            // Its write, and how many of the other's went before it.
            most = most.max(mine - before);
            all = hub.cursor().revision.get();
        }
        flood.abort();
        println!("{by:?}: at most {most} writes of another went before one's own, of {all}");
        assert!(all > 10_000, "the other did write: {all}");
        // A window of 256, and one turn of the link.
        assert!(most <= 512, "{most} writes went before");
    }
}

#[tokio::test]
async fn one_joins_while_another_writes_without_pause_and_a_third_is_answered() {
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new().chunk_bytes(1 << 10));
        fill(&hub, 30_000);
        let (writer, other) = (by.follow(&hub, client(1)), by.follow(&hub, client(2)));
        writer.live().await.unwrap();
        other.live().await.unwrap();
        let flood = flood(&writer, 8);
        let mut events = hub.events();
        let late = by.follow(&hub, client(3));
        let (mut answers, mut most) = (0, 0);
        let mut live = Box::pin(late.live());
        while std::future::poll_fn(|cx| Poll::Ready(live.as_mut().poll(cx))).await.is_pending() {
            let before = hub.cursor().revision.get();
            most = most.max(other.set("mine", "x").await.unwrap().get() - before);
            answers += 1;
            assert!(answers < 10_000, "it never becomes live");
        }
        flood.abort();
        // What it asks is answered in turn.
        late.set("late", "x").await.unwrap();
        assert!(late.view().len() >= 30_002);
        let sent = loop {
            if let PublisherEvent::Live { client: who, sent, .. } = events.recv().await.unwrap()
                && who == client(3)
            {
                break sent;
            }
        };
        println!("{by:?}: {answers} answers, {most} writes before one at most; {sent:?}");
        assert!(sent.entries >= 30_000 && answers >= 3, "{sent:?}");
        // A window of 256, and one turn of the link.
        assert!(most <= 512, "{most} writes went before");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_is_just_within_goes_to_everybody() {
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new().limits(Limits::new().total_bytes(5 * MIB)));
        let (state, other) = (by.follow(&hub, client(1)), by.follow(&hub, client(2)));
        let value = Bytes::from(vec![7; MIB]);
        state.set("a", value.clone()).await.unwrap();
        let pair = |last: usize| {
            Transaction::new().then(Put::new("b", value.clone())).then(Put::new("c", value.slice(..last)))
        };
        state.transact(pair(MIB - 2)).await.unwrap();
        let refused = |error: StateError| match error {
            StateError::Request(RequestError::Refused(error)) => error,
            other => panic!("{other:?}"),
        };
        let at = hub.cursor();
        let error = refused(state.transact(pair(MIB - 1)).await.unwrap_err());
        assert_eq!(error, CommandError::CommandTooLong { bytes: 2_097_153, limit: 2_097_152 });
        let error = refused(state.set("huge", vec![7; MIB + 1]).await.unwrap_err());
        assert_eq!(error, CommandError::ValueTooLong { length: 1_048_577, limit: 1_048_576 });
        state.set("d", value.clone()).await.unwrap();
        let error = refused(state.set("e", value.clone()).await.unwrap_err());
        assert_eq!(error, CommandError::StoreFull { bytes: 5 * MIB as u64 + 3, limit: 5 * MIB as u64 });
        assert_eq!(hub.cursor().revision, at.revision.next(), "what was refused took no revision");
        other.sync().await.unwrap();
        assert_eq!((other.view().len(), other.get("d").unwrap().value.len()), (4, MIB));
    }
}

#[tokio::test]
async fn thousands_of_watchers_and_one_that_never_reads() {
    const MANY: usize = 1000;
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new());
        let (state, other) = (by.follow(&hub, client(1)), by.follow(&hub, client(2)));
        state.live().await.unwrap();
        let watch = Watch::new(KeyRange::prefix("key/"));
        let never = [Overflow::Tell, Overflow::Coalesce]
            .map(|overflow| watch.clone().overflow(overflow).capacity(16));
        let mut never = never.map(|watch| state.watch(watch).unwrap());
        let same: Vec<_> = (0..MANY).map(|_| state.watch(watch.clone().capacity(4096)).unwrap()).collect();
        let own = |number: usize| Watch::new(KeyRange::key(format!("key/{number:07}")));
        let own: Vec<_> = (0..MANY).map(|number| state.watch(own(number)).unwrap()).collect();
        // All keys, in 8 transactions, and then all of them gone.
        let filling = hub.clone();
        fill(&filling, MANY);
        assert_eq!(other.delete_range(KeyRange::prefix("key/")).await.unwrap(), MANY as u64);
        for mut watching in same {
            for count in [128, 128, 128, 128, 128, 128, 128, 104, MANY] {
                let Some(Notice::Changes(batch)) = watching.next().await else { panic!("changes") };
                assert_eq!(batch.events.len(), count);
            }
        }
        for mut watching in own {
            for exists in [true, false] {
                let Some(Notice::Changes(batch)) = watching.next().await else { panic!("changes") };
                assert_eq!((batch.events.len(), batch.events[0].entry.is_some()), (1, exists));
            }
        }
        let [tell, coalesce] = &mut never;
        assert!(matches!(tell.next().await, Some(Notice::Lagged { .. })));
        assert!(matches!(tell.next().await, Some(Notice::Present { entries, .. }) if entries.is_empty()));
        fill(&hub, 1);
        // Made and gone before anybody looked; but the first transaction waited by itself.
        let Some(Notice::Changes(batch)) = coalesce.next().await else { panic!("changes") };
        assert!(batch.events.len() <= 128);
    }
}

#[tokio::test]
async fn one_that_never_reads_falls_behind_alone_and_comes_back() {
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new().history(1 << 10, 1 << 20).queue_bytes(1 << 20));
        let mut events = hub.events();
        let writer = by.follow(&hub, client(1));
        writer.live().await.unwrap();
        // It says hello, and reads nothing of what comes.
        let (state, mut follower) = SharedState::new(client(2), ReplicaConfig::new());
        let primary = hub.clone();
        let hello = protocol::encode(&ToPrimary::Hello { version: 1, client: client(2), cursor: None });
        let (mut memory_link, mut socket_link) = (None, None);
        match by {
            By::Memory => {
                let (mut here, there) = memory();
                Pin::new(&mut here).start_send(hello).unwrap();
                tokio::spawn(async move { primary.serve(client(2), there).await });
                memory_link = Some(here);
            }
            By::Socket => {
                let (here, there) = sockets();
                let mut here = Box::pin(here);
                here.as_mut().start_send(hello).unwrap();
                std::future::poll_fn(|cx| here.as_mut().poll_flush(cx)).await.unwrap();
                tokio::spawn(async move { primary.serve(client(2), there).await });
                socket_link = Some(here);
            }
        }
        while hub.inspect(|publisher| !publisher.is_live(client(2))) {
            writer.sync().await.unwrap();
        }
        let (mut most, mut is_behind) = (0, false);
        for round in 0..3_000 {
            let value = vec![7; 1000];
            writer.set(format!("key/{:03}", round % 100), value).await.unwrap();
            let kept = |publisher: &Publisher| {
                let history = publisher.history();
                history.bytes_from(history.oldest()).unwrap()
            };
            most = most.max(hub.inspect(kept));
            is_behind = is_behind || hub.inspect(|publisher| !publisher.is_live(client(2)));
        }
        assert!(is_behind && most <= 1 << 20, "{most} bytes are kept for it");
        let told = event(&mut events).await;
        assert!(
            matches!(told, PublisherEvent::FellBehind { client: who, .. } if who == client(2)),
            "{told:?}"
        );
        // It reads again: what was under way, then a snapshot.
        let mut messages = Vec::new();
        let is_live = |message: &Bytes| matches!(protocol::decode(message), Some(ToReplica::Live { .. }));
        while messages.iter().filter(|message| is_live(message)).count() < 2 {
            let message = match (&mut memory_link, &mut socket_link) {
                (Some(link), _) => next(link).await,
                (_, Some(link)) => {
                    std::future::poll_fn(|cx| link.as_mut().poll_next(cx)).await.unwrap().unwrap()
                }
                _ => unreachable!(),
            };
            messages.push(message);
        }
        let told = event(&mut events).await;
        let PublisherEvent::Resynchronised { client: who, sent, .. } = told else { panic!("{told:?}") };
        println!("{by:?}: {} messages, {most} bytes kept, {sent:?}", messages.len());
        assert_eq!((who, sent.entries), (client(2), 100));
        // And one that is not as slow has the same name, and all of it.
        drop((memory_link, socket_link));
        let (here, there) = memory();
        let primary = hub.clone();
        tokio::spawn(async move { primary.serve(client(2), there).await });
        tokio::spawn(async move { follower.follow(here).await });
        state.live().await.unwrap();
        assert_eq!(state.view().len(), 100);
    }
}

async fn next(link: &mut Memory) -> Bytes {
    let Ok(message) = std::future::poll_fn(|cx| Pin::new(&mut *link).poll_next(cx)).await.unwrap();
    message
}

/// A link whose peer sends the same message for ever, and reads nothing; it counts how often it was asked.
struct Endless {
    hello: Option<Bytes>,
    message: Bytes,
    taken: usize,
}

impl Stream for Endless {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let hello = self.hello.take();
        self.taken += 1;
        // As one that comes from elsewhere, it is in memory of its own.
        Poll::Ready(Some(Ok(hello.unwrap_or_else(|| Bytes::copy_from_slice(&self.message)))))
    }
}

impl Sink<Bytes> for Endless {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, _: Bytes) -> Result<(), Infallible> {
        unreachable!("it is never ready")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }
}

/// Values of a MiB, as fast as they are taken: a few are in memory before they are handled, not hundreds.
#[tokio::test]
async fn what_is_taken_at_once_is_bounded_in_bytes() {
    let hub = hub(PublisherConfig::new());
    let hello = protocol::encode(&ToPrimary::Hello { version: 1, client: client(1), cursor: None });
    let command = Put::new("a", vec![7; MIB - 1]).into();
    // Always the same request, so it is carried out once.
    let message = protocol::encode(&ToPrimary::Request { number: 1, acknowledged: 0, command });
    let link = Endless { hello: Some(hello), message, taken: 0 };
    let mut serving = pin!(hub.serve(client(1), link));
    let mut context = Context::from_waker(Waker::noop());
    let used = measure(|| assert!(serving.as_mut().poll(&mut context).is_pending()));
    println!("a turn of a link takes {} bytes at most", used.bytes_max);
    assert!(used.bytes_max <= 8 * MIB as u64, "{used:?}");
}

#[tokio::test]
async fn one_who_is_cut_off_and_reads_nothing_is_not_listened_to() {
    let hub = hub(PublisherConfig::new());
    let mut events = hub.events();
    let other = By::Memory.follow(&hub, client(2));
    other.live().await.unwrap();
    let mut link = Endless { hello: None, message: Bytes::from_static(b"nonsense"), taken: 0 };
    let mut serving = Box::pin(hub.serve(client(1), Lent(&mut link)));
    for _ in 0..100 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        other.set("a", "1").await.unwrap();
    }
    drop(serving);
    let told = event(&mut events).await;
    assert_eq!(told, PublisherEvent::CutOff { client: client(1), reason: Misbehaviour::Garbage });
    assert!(link.taken <= 512, "{} messages were taken of it", link.taken);
}

/// A link that is looked at afterwards.
struct Lent<'a>(&'a mut Endless);

impl Stream for Lent<'_> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

impl Sink<Bytes> for Lent<'_> {
    type Error = Infallible;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut *self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Infallible> {
        Pin::new(&mut *self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Pin::new(&mut *self.0).poll_close(cx)
    }
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_over_a_socket_harms_nobody() {
    let hub = hub(PublisherConfig::new());
    let other = By::Socket.follow(&hub, client(0));
    let mut silent = Vec::new();
    for number in 1..=100 {
        let (here, there) = sockets();
        let primary = hub.clone();
        silent.push(here);
        tokio::spawn(async move { primary.serve(client(number), there).await });
    }
    let hello =
        |number| protocol::encode(&ToPrimary::Hello { version: 1, client: client(number), cursor: None });
    for number in 101..=200 {
        let (here, there) = sockets();
        let primary = hub.clone();
        let served = tokio::spawn(async move { primary.serve(client(number), there).await });
        let mut here = Box::pin(here);
        here.as_mut().start_send(hello(number)).unwrap();
        here.as_mut().start_send(Bytes::from(vec![0xff; MIB])).unwrap();
        std::future::poll_fn(|cx| here.as_mut().poll_flush(cx)).await.unwrap();
        let error = served.await.unwrap();
        assert!(matches!(error, LinkError::CutOff(Misbehaviour::Garbage)), "{error}");
        other.set("a", "1").await.unwrap();
    }
    // One who says that a message goes on and on is not listened to beyond the longest request.
    let (here, there) = sockets();
    let primary = hub.clone();
    let served = tokio::spawn(async move { primary.serve(client(201), there).await });
    let mut here = Box::pin(here);
    here.as_mut().start_send(Bytes::from(vec![0; ipc::max_request(&Limits::new()) + 1])).unwrap();
    let _ = std::future::poll_fn(|cx| here.as_mut().poll_flush(cx)).await;
    let error = served.await.unwrap();
    assert!(matches!(error, LinkError::Failed(_)), "{error}");
    other.sync().await.unwrap();
    assert_eq!(hub.inspect(|publisher| publisher.replicas().count()), 101);
}

#[tokio::test]
async fn a_range_of_thirty_thousand_keys_is_deleted_at_once_and_everybody_is_told() {
    for by in By::BOTH {
        let hub = hub(PublisherConfig::new());
        fill(&hub, 30_000);
        let (state, other) = (by.follow(&hub, client(1)), by.follow(&hub, client(2)));
        other.live().await.unwrap();
        let mut watching = other.watch(Watch::new(KeyRange::All)).unwrap();
        let answer = state.execute(Command::delete_range(KeyRange::All)).await.unwrap();
        assert!(state.view().is_empty(), "who wrote reads it at once");
        let Some(Notice::Changes(batch)) = watching.next().await else { panic!("changes") };
        assert_eq!((batch.events.len(), batch.last.revision), (30_000, answer.revision));
    }
}
