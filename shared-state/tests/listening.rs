//! Replicas that listen to a broadcast, over sockets and with a runtime.
#![cfg(all(feature = "tokio", feature = "ipc"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "drivers have threads and a clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster_ipc::{Frame, Kind, Socket};
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
    let theirs = Runtime::new().unwrap();
    let (hub, there) = theirs.block_on(async {
        let (hub, ring) = broadcasting(PublisherConfig::new());
        let there = serve(&hub, &ring, client(1));
        (hub, there)
    });
    let ours = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
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
