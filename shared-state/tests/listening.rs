//! Replicas that listen to a broadcast, over sockets and with a runtime.
#![cfg(all(feature = "tokio", feature = "ipc"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "drivers have threads and a clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster_ipc::{Frame, Kind, Socket};
use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::tokio::{Bell, Hub, SharedState, ipc};
use cluster_shared_state::{
    ClientId, Command, Epoch, KeyRange, Limits, Notice, PublisherConfig, PublisherEvent, ReplicaConfig, Watch,
};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Long enough for a noisy machine.
const SOON: Duration = Duration::from_secs(20);

fn client(number: u64) -> ClientId {
    ClientId::new(number, 1)
}

fn broadcasting(config: PublisherConfig) -> (Hub, ipc::Ring) {
    let (broadcast, ring) = ipc::broadcast().unwrap();
    (Hub::broadcasting(Epoch::new(1), config, broadcast), ring)
}

/// The primary's end of a link; the other is the replica's.
fn serve(hub: &Hub, ring: &ipc::Ring, client: ClientId) -> Socket {
    let (here, there) = Socket::pair().unwrap();
    let (link, bell) = ipc::offer(here, ipc::max_request(&Limits::new()), ring).unwrap();
    tokio::spawn(hub.serve_listening(client, link, bell));
    there
}

/// A hub on a runtime of its own, one for the replica, which has a turn only when that is given one, and the replica's end of a link.
fn apart() -> (Runtime, Runtime, Hub, Socket) {
    let theirs = Runtime::new().unwrap();
    let (hub, there) = theirs.block_on(async {
        let (hub, ring) = broadcasting(PublisherConfig::new());
        let there = serve(&hub, &ring, client(1));
        (hub, there)
    });
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (theirs, ours, hub, there)
}

/// Follows on the current runtime.
fn follow(client: ClientId, socket: Socket) -> SharedState {
    let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
    tokio::spawn(async move {
        let (link, listening) = ipc::accept(socket).await.unwrap();
        follower.follow_listening(link, listening).await
    });
    state
}

/// Waits until the replica takes what is new from the broadcast.
async fn until_tuned(hub: &Hub, client: ClientId, state: &SharedState) {
    let tuned = async {
        while !hub.inspect(|publisher| publisher.is_tuned(client)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, tuned).await.expect("it tunes in");
    // It was told so before it is answered this.
    timeout(SOON, state.sync()).await.expect("it is answered").unwrap();
}

fn put(hub: &Hub, key: &str, value: &str) {
    hub.execute(Command::put(key.to_owned(), value.to_owned())).unwrap();
}

#[tokio::test]
async fn what_one_writes_all_read_and_watchers_are_told() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let [anna, bert] = [1, 2].map(|number| follow(client(number), serve(&hub, &ring, client(number))));
    until_tuned(&hub, client(1), &anna).await;
    until_tuned(&hub, client(2), &bert).await;
    let mut watching = bert.watch(Watch::new(KeyRange::key("greeting"))).unwrap();
    anna.set("greeting", "hello").await.unwrap();
    assert_eq!(anna.get("greeting").unwrap().value, "hello", "who wrote reads it at once");
    let told = timeout(SOON, watching.next()).await.expect("its bell rings");
    let Some(Notice::Changes(batch)) = told else { panic!("{told:?}") };
    assert_eq!(batch.events[0].entry.as_ref().unwrap().value, "hello");
    // Each in turn, so that the bell of one and the answer of the other meet.
    for round in 1..=200 {
        let [writer, reader] = if round % 2 == 0 { [&anna, &bert] } else { [&bert, &anna] };
        assert_eq!(writer.increment("rounds", 1).await.unwrap(), round);
        reader.sync().await.unwrap();
        assert_eq!(reader.get("rounds").unwrap().number(), Some(round));
    }
}

#[derive(Debug)]
struct Counting {
    bell: ipc::Bell,
    rings: Arc<AtomicUsize>,
}

impl Bell for Counting {
    fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.bell.ring();
    }
}

#[tokio::test]
async fn a_replica_for_whom_nobody_waits_sleeps_through_writes() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let (here, there) = Socket::pair().unwrap();
    let (link, bell) = ipc::offer(here, ipc::max_request(&Limits::new()), &ring).unwrap();
    let rings = Arc::<AtomicUsize>::default();
    tokio::spawn(hub.serve_listening(client(1), link, Counting { bell, rings: Arc::clone(&rings) }));
    let state = follow(client(1), there);
    until_tuned(&hub, client(1), &state).await;
    let rung = || rings.swap(0, Ordering::Relaxed);
    assert_eq!(rung(), 0);
    (0..10).for_each(|number| put(&hub, "key", &number.to_string()));
    assert_eq!((rung(), state.get("key").unwrap().value.clone()), (0, "9".into()), "and yet is read");
    (0..100).for_each(|number| put(&hub, "key", &number.to_string()));
    assert_eq!(rung(), 6, "one for 16, so that no read has much to take in");

    // It has all of it.
    state.sync().await.unwrap();
    let mut watching = state.watch(Watch::new(KeyRange::key("key"))).unwrap();
    // The primary knows of it before it answers this.
    state.sync().await.unwrap();
    rung();
    for number in 0..10 {
        put(&hub, "key", &number.to_string());
        assert_eq!(rung(), 1);
        let told = timeout(SOON, watching.next()).await.expect("it is woken");
        let Some(Notice::Changes(batch)) = told else { panic!("{told:?}") };
        assert_eq!(batch.events[0].entry.as_ref().unwrap().value, number.to_string());
    }
    drop(watching);
    // Woken once more, it says that nobody waits.
    let no_more = async {
        loop {
            put(&hub, "key", "last");
            if rung() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, no_more).await.expect("it sleeps again");
}

/// The follower gets no turn: its runtime belongs to the test, which never yields.
#[test]
fn a_read_sees_what_was_written_before_it_though_its_follower_had_no_turn() {
    let (_theirs, ours, hub, there) = apart();
    ours.block_on(async {
        let state = follow(client(1), there);
        until_tuned(&hub, client(1), &state).await;
        for number in 0..50 {
            put(&hub, "key", &number.to_string());
            assert_eq!(state.get("key").unwrap().value, number.to_string(), "at once");
            hub.execute(Command::delete("key")).unwrap();
            assert!(state.view().get("key").is_none(), "at once");
            assert_eq!(state.cursor(), Some(hub.cursor()));
        }
        // More than one read takes in, so that no read takes long: none is skipped.
        (0..1000).for_each(|number| put(&hub, "many", &number.to_string()));
        let mut reads = 0;
        while state.get("many").is_none_or(|entry| entry.value != "999") {
            reads += 1;
            assert!(reads < 1000, "each read takes in some");
        }
        assert!(reads > 1, "one read does not take in a thousand");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_many_threads_never_go_back_while_one_of_them_takes_in_what_is_new() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let state = follow(client(1), serve(&hub, &ring, client(1)));
    until_tuned(&hub, client(1), &state).await;
    let is_over = Arc::<AtomicBool>::default();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (state, is_over) = (state.clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let number = state.get("number").map_or(0, |entry| entry.number().unwrap());
                    assert!(number >= last, "{number} after {last}");
                    last = number;
                }
            })
        })
        .collect();
    for _ in 0..5000 {
        hub.execute(cluster_shared_state::Increment::new("number", 1)).unwrap();
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(state.sync().await.unwrap(), hub.cursor().revision);
    assert_eq!(state.get("number").unwrap().number(), Some(5000));
}

/// Its runtime stands still for longer than the ring remembers.
#[test]
fn one_that_was_stopped_gets_what_it_missed_by_its_link() {
    let theirs = Runtime::new().unwrap();
    let (hub, there) = theirs.block_on(async {
        let (hub, ring) = broadcasting(PublisherConfig::new());
        let there = serve(&hub, &ring, client(1));
        (hub, there)
    });
    let mut events = hub.events();
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = ours.block_on(async {
        let state = follow(client(1), there);
        until_tuned(&hub, client(1), &state).await;
        state
    });
    // 8 MiB, in 64 messages; the ring has 4 MiB.
    let long = "x".repeat(128 << 10);
    (0..64).for_each(|number| put(&hub, &format!("long/{number}"), &long));
    ours.block_on(async {
        timeout(SOON, state.sync()).await.expect("it catches up").unwrap();
        assert_eq!(state.view().len(), 64);
        until_tuned(&hub, client(1), &state).await;
        put(&hub, "after", "it");
        assert!(state.get("after").is_some(), "it is tuned again");
    });
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    assert!(told.iter().any(|it| matches!(it, PublisherEvent::Missed { .. })), "{told:?}");
    assert!(!told.iter().any(|it| matches!(it, PublisherEvent::FellBehind { .. })), "{told:?}");
}

#[tokio::test]
async fn a_commit_that_is_too_long_for_the_ring_comes_by_the_link() {
    let limits = Limits::new().value_bytes(3 << 20).command_bytes(4 << 20);
    let (hub, ring) = broadcasting(PublisherConfig::new().limits(limits));
    let state = follow(client(1), serve(&hub, &ring, client(1)));
    until_tuned(&hub, client(1), &state).await;
    for round in 0..3 {
        put(&hub, "long", &"y".repeat((2 << 20) + round));
        put(&hub, "short", &round.to_string());
        timeout(SOON, state.sync()).await.expect("it catches up").unwrap();
        assert_eq!(state.get("long").unwrap().value.len(), (2 << 20) + round);
        assert_eq!(state.get("short").unwrap().value, round.to_string());
    }
}

#[tokio::test]
async fn those_who_listen_and_those_who_do_not_follow_one_hub() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let listens = follow(client(1), serve(&hub, &ring, client(1)));
    let (state, mut follower) = SharedState::new(client(2), ReplicaConfig::new());
    let (here, there) = cluster_shared_state::tokio::memory();
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client(2), there).await });
    tokio::spawn(async move { follower.follow(here).await });
    until_tuned(&hub, client(1), &listens).await;
    for round in 1..=100 {
        assert_eq!(state.increment("rounds", 1).await.unwrap(), round);
        assert_eq!(listens.get("rounds").unwrap().number(), Some(round), "what was acknowledged is seen");
        assert_eq!(listens.increment("back", 1).await.unwrap(), round);
        state.sync().await.unwrap();
        assert_eq!(state.get("back").unwrap().number(), Some(round));
    }
}

#[tokio::test]
async fn what_offers_nothing_is_not_accepted() {
    let (here, there) = Socket::pair().unwrap();
    let mut channel = cluster_ipc::tokio::Channel::new(cluster_ipc::Channel::new(here)).unwrap();
    channel.try_send(Frame::new(Kind::Message, 2, &b""[..])).unwrap();
    channel.flush().await.unwrap();
    let refused = ipc::accept(there).await;
    assert!(matches!(refused, Err(cluster_ipc::Error::OutOfPlace { .. })), "{refused:?}");

    let (here, there) = Socket::pair().unwrap();
    drop(here);
    let refused = ipc::accept(there).await;
    assert!(matches!(refused, Err(cluster_ipc::Error::PeerGone)), "{refused:?}");
}

/// Ended links leave nothing behind, and a replica that comes back over another listens again.
#[tokio::test]
async fn a_link_that_ends_is_followed_by_another() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new());
    for round in 0..5 {
        let (link, listening) = ipc::accept(serve(&hub, &ring, client(1))).await.unwrap();
        let name = round.to_string();
        let following = async {
            until_tuned(&hub, client(1), &state).await;
            put(&hub, &name, "value");
            assert!(state.get(&name).is_some(), "it listens");
        };
        tokio::select! {
            error = follower.follow_listening(link, listening) => panic!("{error}"),
            () = following => {}
        }
        // While nobody drives it, it reads what it has, and nobody listens for it.
        put(&hub, "between", &name);
        assert_ne!(state.get("between").map(|entry| entry.value.clone()), Some(name.into()));
    }
}

/// What the reader's end of a bell allows: not to read it, to make it block, to fill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_makes_its_bell_full_and_blocking_holds_up_nobody() {
    let (hub, ring) = broadcasting(PublisherConfig::new());
    let bert = follow(client(2), serve(&hub, &ring, client(2)));
    until_tuned(&hub, client(2), &bert).await;
    let mut watching = bert.watch(Watch::new(KeyRange::key("greeting"))).unwrap();

    let mut hostile =
        cluster_ipc::tokio::Channel::new(cluster_ipc::Channel::new(serve(&hub, &ring, client(1)))).unwrap();
    let bell = hostile.recv().await.unwrap().take_descriptors().pop().unwrap();
    let mut say = async |message: &ToPrimary, until: Option<fn(&ToReplica) -> bool>| {
        hostile.try_send(Frame::new(Kind::Message, 0, protocol::encode(message))).unwrap();
        hostile.flush().await.unwrap();
        let Some(until) = until else { return };
        while !until(&protocol::decode(hostile.recv().await.unwrap().payload()).unwrap()) {}
    };
    let hello = ToPrimary::Hello { version: protocol::VERSION, client: client(1), cursor: None };
    say(&hello, Some(|it| matches!(it, ToReplica::Tune { .. }))).await;
    // To this there is no answer; it was heard when what comes after it is answered.
    say(&ToPrimary::Attend { wanted: true }, None).await;
    say(&ToPrimary::Sync { number: 1 }, Some(|it| matches!(it, ToReplica::Synced { .. }))).await;
    std::os::unix::net::UnixStream::from(bell.try_clone().unwrap()).set_nonblocking(false).unwrap();

    let (done, is_done) = tokio::sync::oneshot::channel();
    let primary = hub.clone();
    std::thread::spawn(move || {
        // More than a bell holds.
        (0..70_000).for_each(|number| put(&primary, "greeting", &number.to_string()));
        done.send(()).unwrap();
    });
    timeout(SOON, is_done).await.expect("the primary waits for nobody").unwrap();
    timeout(SOON, watching.next()).await.expect("another is told").unwrap();
}

/// Its follower gets no turn, so what a read does not take in stays where it is.
#[test]
fn one_read_takes_in_no_more_bytes_than_a_turn_of_the_link_does() {
    let (_theirs, ours, hub, there) = apart();
    ours.block_on(async {
        let state = follow(client(1), there);
        until_tuned(&hub, client(1), &state).await;
        // Nearly all that the ring holds, in fewer messages than a read takes in.
        let value = "x".repeat(480);
        for commit in 0..60 {
            let puts =
                (0..128).map(|key| cluster_shared_state::Put::new(format!("{commit}/{key}"), value.clone()));
            hub.execute(puts.fold(cluster_shared_state::Transaction::new(), |all, put| all.then(put)))
                .unwrap();
        }
        let found = state.view().len();
        // A turn of the link is 64 messages or 1 MiB of them, whichever is less. (One more message may begin before that.)
        assert!(found <= 7680 / 3, "one read took in {found} entries of 0.5 kB");
    });
}

/// Whoever has the last of it looks once more.
struct LooksAtItsEnd(SharedState);

impl std::task::Wake for LooksAtItsEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for LooksAtItsEnd {
    fn drop(&mut self) {
        let _ = self.0.cursor();
    }
}

#[test]
fn no_waker_ends_while_anything_is_locked_when_another_comes() {
    no_waker_ends_while_anything_is_locked(false);
}

#[test]
fn no_waker_ends_while_anything_is_locked_when_the_link_ends() {
    no_waker_ends_while_anything_is_locked(true);
}

fn no_waker_ends_while_anything_is_locked(link_ends: bool) {
    use std::future::Future;
    use std::task::{Context, Waker};

    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (_theirs, ours, hub, there) = apart();
        ours.block_on(async {
            let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new());
            let (link, listening) = ipc::accept(there).await.unwrap();
            let mut following = Box::pin(follower.follow_listening(link, listening));
            let mut noop = Context::from_waker(Waker::noop());
            let is_tuned = || hub.inspect(|publisher| publisher.is_tuned(client(1)));
            while !is_tuned() {
                assert!(following.as_mut().poll(&mut noop).is_pending());
                tokio::task::yield_now().await;
            }
            put(&hub, "key", "value");
            while state.get("key").is_none() {
                assert!(following.as_mut().poll(&mut noop).is_pending());
                tokio::task::yield_now().await;
            }
            let waker = Waker::from(Arc::new(LooksAtItsEnd(state.clone())));
            assert!(following.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            // It is woken, so only what it waits for has the waker still.
            let pending = state.submit(Command::put("another", "value")).unwrap();
            if link_ends {
                drop(following);
            } else {
                assert!(following.as_mut().poll(&mut noop).is_pending());
            }
            drop(pending);
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(SOON).expect("a waker was dropped under the replica's lock, and waits for that");
}

/// The primary answers and dies. What it wrote before that is in the ring, and the answer in the socket.
#[test]
fn the_last_words_of_a_primary_count_also_those_that_it_broadcast() {
    let theirs = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let turns = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let (hub, there) = theirs.block_on(async {
        let (hub, ring) = broadcasting(PublisherConfig::new());
        let there = serve(&hub, &ring, client(1));
        turns().await;
        (hub, there)
    });
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new());
    let answered = ours.block_on(async {
        let (link, listening) = ipc::accept(there).await.unwrap();
        let mut following = Box::pin(follower.follow_listening(link, listening));
        let mut noop = std::task::Context::from_waker(std::task::Waker::noop());
        // By hand, so that the replica has a turn only when it is given one.
        let mut turn = || Future::poll(following.as_mut(), &mut noop);
        for _ in 0..10 {
            assert!(turn().is_pending());
            tokio::task::yield_now().await;
            std::thread::scope(|scope| scope.spawn(|| theirs.block_on(turns())).join().unwrap());
        }
        assert!(hub.inspect(|publisher| publisher.is_tuned(client(1))));
        let pending = state.submit(Command::put("mine", "value")).unwrap();
        (0..1000).for_each(|number| put(&hub, "others", &number.to_string()));
        // The request goes out, and is carried out and answered.
        assert!(turn().is_pending());
        let before = hub.cursor();
        std::thread::scope(|scope| scope.spawn(|| theirs.block_on(turns())).join().unwrap());
        assert!(hub.cursor() != before, "it was carried out");
        let last = hub.cursor();
        drop(hub);
        theirs.shutdown_background();
        let mut polls = 0;
        while turn().is_pending() {
            polls += 1;
            assert!(polls < 10_000, "the link ends");
            tokio::task::yield_now().await;
        }
        drop(following);
        drop(follower);
        (pending.await, state.cursor(), last)
    });
    let (answer, cursor, last) = answered;
    assert_eq!(cursor, Some(last), "all that was written is in the memory of the ring ({answer:?})");
    assert!(answer.is_ok(), "{answer:?}");
}
