//! One to many over real connections: each policy with a subscriber that reads and one that doesn't.

#![allow(clippy::disallowed_methods, reason = "tests start threads and look at the clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_ipc::hub::{Figures, Policy, Subscription};
use cluster_ipc::session::{Config, Window};
use cluster_ipc::{Arrival, Error, TrySendError, blocking, tokio as tasks};
use serde::{Serialize, Serializer};

/// What is published: a number and some weight, so that sockets fill up.
type News = (u32, Vec<u8>);

fn news(number: u32) -> News {
    (number, vec![number as u8; 20_000])
}

/// A subscriber that takes little beyond what its sockets hold.
fn narrow() -> Config {
    Config::new().window(Window { bytes: 100_000, messages: 5, descriptors: 0 }).outbox(1000)
}

const PUBLISHED: u32 = 200;

/// What a subscriber got: numbers, and how many it was told it missed.
#[derive(Debug, Default)]
struct Got {
    numbers: Vec<u32>,
    missed: u64,
    /// What it was told in place: before each number, how many were missed since the one before.
    gaps: Vec<u64>,
}

impl Got {
    fn take(&mut self, arrival: Arrival<News, impl std::fmt::Debug>) {
        match arrival {
            Arrival::Message(parcel) => {
                let (number, weight) = parcel.value;
                assert!(weight == news(number).1, "{number} is not itself");
                self.numbers.push(number);
                self.gaps.push(self.missed);
            }
            Arrival::Gap { missed } => self.missed += missed,
            other => panic!("{other:?} is not what is published"),
        }
    }

    fn assert_in_order(&self) {
        assert!(
            self.numbers.is_sorted_by(|one, other| one < other),
            "in order, and once: {:?}",
            self.numbers
        );
    }

    /// All that is missing was reported before what came after it.
    fn assert_gaps_are_in_place(&self) {
        self.assert_in_order();
        for (index, (number, missed)) in self.numbers.iter().zip(&self.gaps).enumerate() {
            assert_eq!(u64::from(*number), index as u64 + missed, "told in its place: {self:?}");
        }
        assert_eq!(self.numbers.len() as u64 + self.missed, u64::from(PUBLISHED));
    }
}

fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Waits until a figure is as it should be.
fn until(mut figures: impl FnMut() -> Option<Figures>, is_it: impl Fn(&Figures) -> bool) {
    let deadline = patience();
    while !figures().is_some_and(|figures| is_it(&figures)) {
        assert!(Instant::now() < deadline, "{:?}", figures());
        std::thread::sleep(Duration::from_millis(1));
    }
}

mod threads {
    use super::*;

    pub(super) fn connect(config: Config) -> (blocking::Sender<News>, blocking::Receiver<News>) {
        let (here, there) = blocking::Endpoint::pair(config).unwrap();
        // The handshake needs both.
        let opening = std::thread::spawn(move || {
            there.opened().unwrap();
            there
        });
        here.opened().unwrap();
        let (sender, _receiver): (blocking::Sender<News>, blocking::Receiver<()>) = here.split();
        let (_sender, receiver): (blocking::Sender<()>, blocking::Receiver<News>) =
            opening.join().unwrap().split();
        (sender, receiver)
    }

    pub(super) fn read(mut receiver: blocking::Receiver<News>) -> (Got, Option<Error>) {
        let mut got = Got::default();
        loop {
            match receiver.next() {
                Ok(Some(arrival)) => got.take(arrival),
                Ok(None) => return (got, None),
                Err(error) => return (got, Some(error)),
            }
        }
    }

    /// Publishes to one who reads and one who doesn't until all has been published. Returns what the slow one got.
    pub(super) fn publish(policy: Policy, keyed: bool) -> (Got, Option<Error>) {
        let broadcast = blocking::Broadcast::<News>::new();
        let (quick_sender, quick) = connect(Config::new());
        let (slow_sender, slow) = connect(narrow());
        let quick_id = broadcast.subscribe(&quick_sender, Subscription::new(Policy::Wait));
        let slow_id = broadcast.subscribe(&slow_sender, Subscription::new(policy).max_messages(10));
        drop((quick_sender, slow_sender));
        let quick = std::thread::spawn(move || read(quick));
        for number in 0..PUBLISHED {
            match keyed {
                true => broadcast.publish_keyed((number % 3).to_le_bytes().to_vec(), &news(number)).unwrap(),
                false => broadcast.publish(&news(number)).unwrap(),
            };
        }
        until(|| broadcast.figures(quick_id), |figures| figures.delivered == PUBLISHED.into());
        let figures = broadcast.figures(slow_id);
        // Now it reads. Whoever publishes is gone by then, and what is queued is still sent.
        drop(broadcast);
        let (got, end) = read(slow);
        if let Some(figures) = figures {
            // One may have been pushed out while it was being sent, and then been delivered after all.
            assert!((got.missed..=got.missed + 1).contains(&figures.dropped), "{figures:?}, {got:?}");
        }
        let (all, ended) = quick.join().unwrap();
        assert_eq!(all.numbers, (0..PUBLISHED).collect::<Vec<_>>(), "a slow one costs the quick one nothing");
        assert!(ended.is_none());
        (got, end)
    }
}

mod on_tokio {
    use super::*;

    pub(super) async fn connect(config: Config) -> (tasks::Sender<News>, tasks::Receiver<News>) {
        let (here, there) = tasks::Endpoint::pair(config).unwrap();
        let (one, other) = tokio::join!(here.opened(), there.opened());
        one.unwrap();
        other.unwrap();
        let (sender, _receiver): (tasks::Sender<News>, tasks::Receiver<()>) = here.split();
        let (_sender, receiver): (tasks::Sender<()>, tasks::Receiver<News>) = there.split();
        (sender, receiver)
    }

    pub(super) async fn read(mut receiver: tasks::Receiver<News>) -> (Got, Option<Error>) {
        let mut got = Got::default();
        loop {
            match receiver.next().await {
                Ok(Some(arrival)) => got.take(arrival),
                Ok(None) => return (got, None),
                Err(error) => return (got, Some(error)),
            }
        }
    }

    pub(super) async fn publish(policy: Policy, keyed: bool) -> (Got, Option<Error>) {
        let broadcast = tasks::Broadcast::<News>::new();
        let (quick_sender, quick) = connect(Config::new()).await;
        let (slow_sender, slow) = connect(narrow()).await;
        let quick_id = broadcast.subscribe(&quick_sender, Subscription::new(Policy::Wait));
        let slow_id = broadcast.subscribe(&slow_sender, Subscription::new(policy).max_messages(10));
        drop((quick_sender, slow_sender));
        let quick = tokio::spawn(read(quick));
        for number in 0..PUBLISHED {
            match keyed {
                true => {
                    let topic = (number % 3).to_le_bytes().to_vec();
                    broadcast.publish_keyed(topic, &news(number)).await.unwrap()
                }
                false => broadcast.publish(&news(number)).await.unwrap(),
            };
        }
        while broadcast.figures(quick_id).unwrap().delivered < PUBLISHED.into() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let figures = broadcast.figures(slow_id);
        drop(broadcast);
        let (got, end) = read(slow).await;
        if let Some(figures) = figures {
            // One may have been pushed out while it was being sent, and then been delivered after all.
            assert!((got.missed..=got.missed + 1).contains(&figures.dropped), "{figures:?}, {got:?}");
        }
        let (all, ended) = quick.await.unwrap();
        assert_eq!(all.numbers, (0..PUBLISHED).collect::<Vec<_>>(), "a slow one costs the quick one nothing");
        assert!(ended.is_none());
        (got, end)
    }
}

fn publish_by_tasks(policy: Policy, keyed: bool) -> (Got, Option<Error>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let limited = tokio::time::timeout_at(patience().into(), on_tokio::publish(policy, keyed));
        limited.await.expect("it takes too long")
    })
}

type Publish = fn(Policy, bool) -> (Got, Option<Error>);

/// Both drivers.
const BOTH: [Publish; 2] = [threads::publish, publish_by_tasks];

#[test]
fn the_newest_are_left_out_for_a_slow_one_and_it_is_told() {
    for publish in BOTH {
        let (got, end) = publish(Policy::DropNewest, false);
        assert!(end.is_none(), "{end:?}");
        got.assert_gaps_are_in_place();
        assert!(got.missed > 50, "it did not read: {got:?}");
        assert_eq!(got.numbers[..10], (0..10).collect::<Vec<_>>(), "the oldest stay");
    }
}

#[test]
fn the_oldest_make_way_for_a_slow_one_and_it_is_told() {
    for publish in BOTH {
        let (got, end) = publish(Policy::DropOldest, false);
        assert!(end.is_none(), "{end:?}");
        got.assert_gaps_are_in_place();
        assert!(got.missed > 50, "it did not read: {got:?}");
        let last: Vec<_> = (PUBLISHED - 10..PUBLISHED).collect();
        assert!(got.numbers.ends_with(&last), "the newest stay: {:?}", got.numbers);
    }
}

#[test]
fn a_slow_one_gets_the_latest_of_each_topic() {
    for publish in BOTH {
        let (got, end) = publish(Policy::LatestByKey, true);
        assert!(end.is_none(), "{end:?}");
        got.assert_in_order();
        assert_eq!(got.missed, 0, "who gets the latest of each misses nothing");
        assert!(got.numbers.ends_with(&[PUBLISHED - 3, PUBLISHED - 2, PUBLISHED - 1]), "{:?}", got.numbers);
        assert!(got.numbers.len() < 100, "and not all that was before: {:?}", got.numbers);
    }
}

#[test]
fn a_slow_one_that_must_not_miss_anything_is_cut_off() {
    for publish in BOTH {
        let (got, end) = publish(Policy::Disconnect, false);
        assert!(matches!(end, Some(Error::PeerGone)), "{end:?}");
        assert!(got.numbers.len() < 100 && got.missed == 0, "{got:?}");
        assert_eq!(
            got.numbers,
            (0..got.numbers.len() as u32).collect::<Vec<_>>(),
            "what it got, it got whole"
        );
    }
}

/// All credit is used up, and the subscriber reads nothing: its pump is in the middle of sending when it is cut off.
#[test]
fn one_that_hangs_is_cut_off_too() {
    let narrow = || Config::new().window(Window { bytes: 1 << 20, messages: 2, descriptors: 0 });
    let (sender, _receiver) = threads::connect(narrow());
    (0..2).for_each(|number| sender.send(&news(number)).unwrap());
    let broadcast = blocking::Broadcast::<News>::new();
    let id = broadcast.subscribe(&sender, Subscription::new(Policy::Disconnect).max_messages(1));
    while broadcast.figures(id).is_some() {
        broadcast.publish(&news(2)).unwrap();
        std::thread::yield_now();
    }
    let deadline = patience();
    while !matches!(sender.try_send(news(3)), Err(TrySendError::Closed(_))) {
        assert!(Instant::now() < deadline, "its connection stays open");
        std::thread::yield_now();
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, _receiver) = on_tokio::connect(narrow()).await;
        for number in 0..2 {
            sender.send(&news(number)).await.unwrap();
        }
        let broadcast = tasks::Broadcast::<News>::new();
        let id = broadcast.subscribe(&sender, Subscription::new(Policy::Disconnect).max_messages(1));
        while broadcast.figures(id).is_some() {
            broadcast.publish(&news(2)).await.unwrap();
            tokio::task::yield_now().await;
        }
        let deadline = patience();
        while !matches!(sender.try_send(news(3)), Err(TrySendError::Closed(_))) {
            assert!(Instant::now() < deadline, "its connection stays open");
            tokio::task::yield_now().await;
        }
    });
}

/// Who is unsubscribed while it hangs keeps nothing open: its peer is told that this was all.
#[test]
fn one_that_hangs_can_be_unsubscribed() {
    let (sender, mut receiver) = threads::connect(narrow());
    let broadcast = blocking::Broadcast::<News>::new();
    let id = broadcast.subscribe(&sender, Subscription::new(Policy::DropNewest).max_messages(1));
    let deadline = patience();
    while broadcast.figures(id).unwrap().dropped == 0 {
        assert!(Instant::now() < deadline, "it never fills up");
        broadcast.publish(&news(0)).unwrap();
    }
    assert!(broadcast.unsubscribe(id));
    drop(sender);
    while receiver.next().unwrap().is_some() {}
}

/// One that is slow, but reads: everybody waits, nobody misses anything.
#[test]
fn who_is_waited_for_misses_nothing() {
    let broadcast = blocking::Broadcast::<News>::new();
    let connections: Vec<_> = (0..3).map(|_| threads::connect(narrow())).collect();
    for (sender, _) in &connections {
        broadcast.subscribe(sender, Subscription::new(Policy::Wait).max_messages(1));
    }
    let readers: Vec<_> =
        connections.into_iter().map(|(_, receiver)| std::thread::spawn(|| threads::read(receiver))).collect();
    for number in 0..PUBLISHED {
        broadcast.publish(&news(number)).unwrap();
    }
    drop(broadcast);
    for reader in readers {
        let (got, end) = reader.join().unwrap();
        assert!(end.is_none() && got.missed == 0);
        assert_eq!(got.numbers, (0..PUBLISHED).collect::<Vec<_>>());
    }
}

/// It leaves by itself; the publisher, who waits for it, goes on.
#[test]
fn a_subscriber_that_dies_is_not_waited_for() {
    let broadcast = blocking::Broadcast::<News>::new();
    let (dying_sender, dying) = threads::connect(narrow());
    let (sender, receiver) = threads::connect(Config::new());
    let dead = broadcast.subscribe(&dying_sender, Subscription::new(Policy::Wait).max_messages(1));
    let id = broadcast.subscribe(&sender, Subscription::new(Policy::Wait));
    let reader = std::thread::spawn(|| threads::read(receiver));
    let publisher = broadcast.clone();
    let publishing = std::thread::spawn(move || {
        for number in 0..PUBLISHED {
            publisher.publish(&news(number)).unwrap();
        }
    });
    until(|| broadcast.figures(dead), |figures| figures.queued_messages > 0);
    drop((dying_sender, dying));
    publishing.join().unwrap();
    until(|| broadcast.figures(id), |figures| figures.delivered == PUBLISHED.into());
    let deadline = patience();
    while broadcast.figures(dead).is_some() {
        assert!(Instant::now() < deadline, "a dead subscriber stays");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!broadcast.unsubscribe(dead));
    drop((broadcast, sender));
    assert_eq!(reader.join().unwrap().0.numbers.len(), PUBLISHED as usize);
}

#[test]
fn who_unsubscribes_gets_nothing_more_and_the_connection_stays() {
    let broadcast = blocking::Broadcast::<News>::new();
    let (sender, mut receiver) = threads::connect(Config::new());
    let id = broadcast.subscribe(&sender, Subscription::new(Policy::Wait));
    broadcast.publish(&news(1)).unwrap();
    assert_eq!(receiver.recv().unwrap(), Some(news(1)));
    assert!(broadcast.unsubscribe(id));
    broadcast.publish(&news(2)).unwrap();
    let sending = std::thread::spawn(move || sender.send(&news(3)));
    assert_eq!(receiver.recv().unwrap(), Some(news(3)));
    sending.join().unwrap().unwrap();
    assert_eq!(receiver.recv().unwrap(), None);
}

static ENCODED: AtomicUsize = AtomicUsize::new(0);

struct Counted;

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        (7u32, vec![0u8; 100]).serialize(serializer)
    }
}

#[test]
fn it_is_encoded_once_for_all() {
    let broadcast = blocking::Broadcast::<Counted>::new();
    let connections: Vec<_> = (0..10).map(|_| threads::connect(Config::new())).collect();
    for (sender, _) in &connections {
        broadcast.subscribe(sender, Subscription::new(Policy::Wait));
    }
    // Finding out how much room it takes, and writing it, are two.
    broadcast.publish(&Counted).unwrap();
    let once = ENCODED.swap(0, Ordering::SeqCst);
    assert!(once <= 3, "{once} times for ten subscribers");
    for (_, mut receiver) in connections {
        assert_eq!(receiver.recv().unwrap().unwrap().0, 7);
    }
}
