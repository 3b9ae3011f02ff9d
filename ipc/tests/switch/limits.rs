//! How much each can make the others keep, and whom that holds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::events::{Call, Event, named};
use cluster_ipc::session::{Config, Event as Happened, Outcome, Window};
use cluster_ipc::switch::{Letter, Limits, Port, Switch, To};
use cluster_ipc::tokio::Endpoint;
use cluster_ipc::{Arrival, Connection, Error};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::team::{Blob, DEADLINE, Double, Note, Running, Team, until, within};

const KIB: usize = 1 << 10;

/// A place for so many bytes, and for more letters and descriptors than are ever sent.
fn bytes(bytes: usize) -> Window {
    Window { bytes: bytes as u64, messages: 1000, descriptors: 1000 }
}

fn blob(len: usize) -> Blob {
    Blob(vec![7; len])
}

/// So little may be on its way to it that what is kept for it shows.
fn narrow() -> Config {
    Config::new()
        .window(Window { bytes: 64 << 10, messages: 1000, descriptors: 1000 })
        .outbox(64 << 10)
        .max_requests(1000)
        // Some are served late, or never.
        .handshake_timeout(20 * DEADLINE)
}

/// A call as large as one likes, answered with something as large as one likes.
#[derive(Serialize, Deserialize)]
struct Swap {
    bytes: Vec<u8>,
    wanted: usize,
}
impl Event for Swap {
    const NAME: &'static str = "swap";
}
impl Call for Swap {
    type Reply = Vec<u8>;
}

fn swap(bytes: usize, wanted: usize) -> Swap {
    Swap { bytes: vec![7; bytes], wanted }
}

/// What a worker sends that keeps to nothing: a call of the primary.
fn unbounded_call<C: Call>(call: &C) -> Vec<u8> {
    // A call, for the primary, sent long ago.
    [&[2, 0, 0][..], &named(call).unwrap()].concat()
}

/// Answers calls on this port, each when `gate` has a permit for it, and counts those that it has begun and not ended, and the most of them.
struct Gated {
    gate: Arc<Semaphore>,
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
}

impl Gated {
    fn on(port: &Port<u32>) -> Self {
        let counter = || Arc::new(AtomicU32::new(0));
        let gated =
            Self { gate: Arc::new(Semaphore::new(0)), running: counter(), most: counter(), ended: counter() };
        let (gate, running) = (Arc::clone(&gated.gate), Arc::clone(&gated.running));
        let (most, ended) = (Arc::clone(&gated.most), Arc::clone(&gated.ended));
        port.answer(move |call: Letter<Swap, u32>| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let (gate, guard, ended) = (Arc::clone(&gate), Running(Arc::clone(&running)), Arc::clone(&ended));
            async move {
                gate.acquire().await.expect("it is never closed").forget();
                drop(guard);
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(vec![7; call.message.wanted])
            }
        });
        gated
    }

    fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// Waits until whatever can happen has happened: everything runs in this one thread, and over sockets.
async fn settled(mut is_settled: impl FnMut() -> bool) {
    within(async {
        while !is_settled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn only_so_many_bytes_wait_for_a_worker_that_takes_nothing() {
    let team = Team::with(1, Limits::new().outbox(bytes(256 * KIB)));
    let (here, there) = Endpoint::pair(narrow()).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let mut sending = JoinSet::new();
    for _ in 0..64 {
        let port = team.port(0).clone().timeout(None);
        sending.spawn(async move { port.send(To::Worker(9), &blob(32 * KIB)).await });
    }
    // 8 fit into the outbox, 2 into the window, and one is between them.
    for _ in 0..64 - 11 {
        match within(sending.join_next()).await.unwrap().unwrap() {
            Err(Error::NotTaken { to }) => assert_eq!(to, "worker 9"),
            Ok(()) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let reached = team.primary.broadcast(&blob(32 * KIB)).await.unwrap();
    assert_eq!((reached.workers, reached.missed), (1, vec![9]), "a broadcast passes it over");
    // The primary itself waits.
    let primary = team.primary.clone();
    let waiting = tokio::spawn(async move { primary.send(To::Worker(9), &Note(1)).await });
    let (_sender, mut receiver) = there.split::<[u8], Bytes, Raw>();
    let mut seen = 0;
    loop {
        let Some(Arrival::Message(letter)) = within(receiver.next()).await.unwrap() else { panic!() };
        if letter.value.len() < KIB {
            break;
        }
        seen += 1;
    }
    assert!((8..=11).contains(&seen), "{seen} of 64 were kept");
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn descriptors_that_wait_for_a_worker_are_counted_too() {
    let most = Window { bytes: 1 << 30, messages: 1000, descriptors: 20 };
    let team = Team::with(1, Limits::new().outbox(most));
    let (here, _there) = Endpoint::pair(Config::new()).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let mut sending = JoinSet::new();
    for _ in 0..64 {
        let port = team.port(0).clone().timeout(None);
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let descriptors = (0..10).map(|_| null()).collect();
        sending.spawn(async move { port.send_with(To::Worker(9), &Note(1), descriptors).await });
    }
    // The window takes 256 of them.
    let mut refused = 0;
    while refused < 64 - 25 - 3 {
        refused += i32::from(within(sending.join_next()).await.unwrap().unwrap().is_err());
    }
}

#[tokio::test]
async fn what_is_larger_than_all_room_goes_alone() {
    let tiny = Window { bytes: 1, messages: 4, descriptors: 1 };
    let limits = Limits::new().outbox(tiny).queue(tiny).unhandled(tiny).calls(tiny).answers(1);
    let team = Team::with(2, limits);
    let mut stream = team.port(1).stream::<Blob>();
    for (from, to) in [(team.port(0), To::Worker(1)), (&team.primary, To::Worker(1))] {
        for _ in 0..3 {
            within(from.send(to, &blob(100 * KIB))).await.unwrap();
            assert_eq!(within(stream.recv()).await.unwrap().message.0.len(), 100 * KIB);
        }
    }
    drop(stream);
    for port in [&team.primary, team.port(1)] {
        Gated::on(port).open();
    }
    for (asker, to) in [
        (team.port(0), To::Primary),
        (team.port(0), To::Worker(1)),
        (&team.primary, To::Worker(1)),
        (&team.primary, To::Primary),
    ] {
        let reply = within(asker.request(to, &swap(100 * KIB, 100 * KIB))).await.unwrap();
        assert_eq!(reply.len(), 100 * KIB);
    }
    // Held for a handler to come, and then in its queue.
    within(team.primary.send(To::Worker(1), &blob(KIB))).await.unwrap();
    team.port(1).answer(async |call: Letter<Double, u32>| Ok(call.message.0));
    within(team.primary.request(To::Worker(1), &Double(1))).await.unwrap();
    let mut stream = team.port(1).stream::<Blob>();
    assert_eq!(within(stream.recv()).await.unwrap().message.0.len(), KIB);
}

#[tokio::test]
async fn only_so_many_bytes_wait_for_a_handler_that_is_busy() {
    let team = Team::with(1, Limits::new().queue(bytes(256 * KIB)));
    let (here, there) = Endpoint::pair(narrow()).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let (port, serving) = Port::<u32>::new(there);
    tokio::spawn(serving);
    team.primary.answer(async |call: Letter<Double, u32>| Ok(call.message.0 * 2));
    let mut stream = team.primary.stream::<Blob>();
    let sent = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for _ in 0..64 {
            port.send(To::Primary, &blob(32 * KIB)).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        port
    });
    let own = team.primary.clone();
    let to_self = tokio::spawn(async move { own.send(To::Primary, &blob(32 * KIB)).await });
    // Others are not held up, and meanwhile all would come that may.
    for _ in 0..100 {
        within(team.port(0).request(To::Primary, &Double(1))).await.unwrap();
    }
    let kept = sent.load(Ordering::SeqCst);
    // Beside the queue: one that waits for it, a window, and what waits for the socket.
    assert!(kept <= 8 + 1 + 2 + 2, "{kept} of 64 were taken by a process that handles none");
    for _ in 0..65 {
        assert_eq!(within(stream.recv()).await.unwrap().message.0.len(), 32 * KIB);
    }
    within(to_self).await.unwrap().unwrap();
    drop(within(sending).await.unwrap());
}

#[tokio::test]
async fn calls_of_a_worker_that_keeps_to_nothing_are_read_as_there_is_room() {
    let switch: Switch<u32> = Switch::with_limits(Limits::new().calls(bytes(128 * KIB)));
    let (here, there) = Endpoint::pair(narrow()).unwrap();
    tokio::spawn(switch.attach(0, here));
    let gated = Gated::on(&switch.port());
    let (sender, _receiver) = there.split::<[u8], Bytes, Raw>();
    let mut asking = JoinSet::new();
    for _ in 0..64 {
        let client = sender.client::<Bytes>().timeout(None);
        asking.spawn(async move { client.request(&unbounded_call(&swap(31 * KIB, 1))).await });
    }
    until(&gated.running, 4).await;
    for ended in 1..=64 {
        gated.gate.add_permits(1);
        until(&gated.ended, ended).await;
    }
    while let Some(asked) = within(asking.join_next()).await {
        asked.unwrap().unwrap();
    }
    assert_eq!(gated.most.load(Ordering::SeqCst), 4, "no more are taken at a time than there is room for");
}

#[tokio::test]
async fn a_worker_reads_calls_as_it_has_room_whatever_the_primary_passes_on() {
    let switch: Switch<u32> = Switch::new();
    let (here, there) = Endpoint::pair(narrow()).unwrap();
    tokio::spawn(switch.attach(0, here));
    // Four times that of one caller.
    let (port, serving) = Port::<u32>::with_limits(there, Limits::new().calls(bytes(32 * KIB)));
    tokio::spawn(serving);
    let gated = Gated::on(&port);
    let mut asking = JoinSet::new();
    for _ in 0..32 {
        let port = switch.port().timeout(None);
        asking.spawn(async move { port.request(To::Worker(0), &swap(31 * KIB, 1)).await });
    }
    until(&gated.running, 4).await;
    for ended in 1..=32 {
        gated.gate.add_permits(1);
        until(&gated.ended, ended).await;
    }
    while let Some(asked) = within(asking.join_next()).await {
        asked.unwrap().unwrap();
    }
    assert_eq!(gated.most.load(Ordering::SeqCst), 4, "no more are taken at a time than there is room for");
}

#[tokio::test]
async fn calls_wait_for_room_where_they_are_made_and_hold_up_nothing_else() {
    let team = Team::with(2, Limits::new().calls(bytes(128 * KIB)));
    for (asker, to, callee) in [
        (team.port(0), To::Primary, &team.primary),
        (team.port(0), To::Worker(1), team.port(1)),
        (&team.primary, To::Worker(1), team.port(1)),
    ] {
        let gated = Gated::on(callee);
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let port = asker.clone().timeout(None);
            asking.spawn(async move { port.request(to, &swap(31 * KIB, 1)).await });
        }
        until(&gated.running, 4).await;
        // One that waits for room does so for its time and no longer.
        let timed_out = asker.clone().timeout(Duration::from_millis(20)).request(to, &swap(0, 1)).await;
        assert!(matches!(timed_out, Err(Error::TimedOut)), "{timed_out:?}");
        let mut stream = callee.stream::<Note>();
        within(asker.send(to, &Note(1))).await.unwrap();
        assert_eq!(within(stream.recv()).await.unwrap().message, Note(1));
        // Dropped, they give their room back.
        asking.abort_all();
        until(&gated.running, 0).await;
        gated.open();
        within(asker.request(to, &swap(31 * KIB, 1))).await.unwrap();
        assert_eq!(gated.most.load(Ordering::SeqCst), 4, "from {to}");
    }
}

#[tokio::test]
async fn nobody_can_use_up_all_calls_that_another_process_takes() {
    let calls = Window { bytes: 1 << 30, messages: 4, descriptors: 1 };
    let team = Team::with(2, Limits::new().calls(calls));
    // It takes 8 calls at a time.
    let (here, there) = Endpoint::pair(Config::new().max_requests(8)).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let (port, serving) = Port::new(there);
    tokio::spawn(serving);
    let gated = Gated::on(&port);
    port.answer(async |call: Letter<Double, u32>| Ok(call.message.0 * 2));
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let port = team.port(0).clone().timeout(None);
        asking.spawn(async move { port.request(To::Worker(9), &swap(1, 1)).await });
    }
    until(&gated.running, 4).await;
    for asker in [team.port(1), &team.primary] {
        assert_eq!(within(asker.request(To::Worker(9), &Double(4))).await.unwrap(), 8);
    }
    gated.open();
    while let Some(asked) = within(asking.join_next()).await {
        asked.unwrap().unwrap();
    }
    assert_eq!(gated.most.load(Ordering::SeqCst), 4, "one process had more calls open than its share");
    assert_eq!(gated.ended.load(Ordering::SeqCst), 20);
}

/// A worker that asks without end and reads no answers.
#[tokio::test]
async fn answers_that_nobody_reads_are_dropped_and_who_asked_is_told() {
    const ASKED: u32 = 40;
    let switch: Switch<u32> = Switch::with_limits(Limits::new().answers((256 * KIB) as u64));
    let (here, mut there) = Connection::pair(narrow()).unwrap();
    tokio::spawn(switch.attach(0, Endpoint::new(here).unwrap()));
    let gated = Gated::on(&switch.port());
    gated.open();
    let mut is_open = false;
    settled(|| {
        there.read(Instant::now());
        there.flush(Instant::now());
        is_open |= matches!(there.poll_event(), Some(Happened::Opened(_)));
        is_open
    })
    .await;
    for _ in 0..ASKED {
        let now = Instant::now();
        there.request(&unbounded_call(&swap(1, 32 * KIB)), Vec::new(), None, now).unwrap();
    }
    settled(|| {
        there.flush(Instant::now());
        gated.ended.load(Ordering::SeqCst) == ASKED
    })
    .await;
    // Now it reads: what was kept comes, in whole, and of all others word.
    let (mut kept, mut dropped) = (0, 0);
    settled(|| {
        there.read(Instant::now());
        while let Some(event) = there.poll_event() {
            if let Happened::Completed(_, outcome) = event {
                let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
                // The head: none, or why there is no answer.
                match (reply.bytes().first(), reply.bytes().len()) {
                    (Some(0), len) if len > 32 * KIB => kept += 1,
                    (Some(1), len) if len < 32 => dropped += 1,
                    other => panic!("{other:?}"),
                }
                there.handled(reply.into_parts().2);
            }
        }
        there.flush(Instant::now());
        kept + dropped == ASKED
    })
    .await;
    // 8 wait for room, and 2 have their window.
    assert!((8..=11).contains(&kept), "{kept} of {ASKED} answers were kept");
}
