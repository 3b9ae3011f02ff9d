//! Who gets what, from whom, and what becomes of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Failure, Window};
use cluster_ipc::switch::{Letter, Peer, Port, To};
use cluster_ipc::tokio::Endpoint;
use cluster_ipc::{Arrival, Connection, Error};

use crate::team::{Blob, DEADLINE, Double, Note, Running, Team, Worker, until, within};

#[tokio::test]
async fn letters_say_who_sent_them_and_when() {
    let team = Team::of(2);
    let before = SystemTime::now() - Duration::from_millis(1);
    let mut to_primary = team.primary.stream::<Note>();
    let mut to_one = team.port(1).stream::<Note>();
    team.port(0).send(To::Primary, &Note(1)).await.unwrap();
    let letter = within(to_primary.recv()).await.unwrap();
    assert_eq!((letter.from, letter.message), (Peer::Worker(0), Note(1)));
    assert!(letter.sent_at >= before && letter.sent_at <= SystemTime::now());

    team.port(0).send(To::Worker(1), &Note(2)).await.unwrap();
    let letter = within(to_one.recv()).await.unwrap();
    assert_eq!((letter.from, letter.message), (Peer::Worker(0), Note(2)));

    team.primary.send(To::Slot(1), &Note(3)).await.unwrap();
    let letter = within(to_one.recv()).await.unwrap();
    assert_eq!((letter.from, letter.message), (Peer::Primary, Note(3)));

    // To oneself, from either side.
    team.port(1).send(To::Worker(1), &Note(4)).await.unwrap();
    assert_eq!(within(to_one.recv()).await.unwrap().from, Peer::Worker(1));
    team.primary.send(To::Primary, &Note(5)).await.unwrap();
    assert_eq!(within(to_primary.recv()).await.unwrap().from, Peer::Primary);
}

#[tokio::test]
async fn letters_stay_in_order_on_every_way() {
    const LETTERS: u32 = 2_000;
    let team = Team::of(2);
    let (mut up, mut across) = (team.primary.stream::<Note>(), team.port(1).stream::<Note>());
    let sender = team.port(0).clone();
    let sending = tokio::spawn(async move {
        for number in 0..LETTERS {
            sender.send(To::Primary, &Note(number)).await.unwrap();
            sender.send(To::Worker(1), &Note(number)).await.unwrap();
        }
    });
    for number in 0..LETTERS {
        assert_eq!(within(up.recv()).await.unwrap().message, Note(number));
        assert_eq!(within(across.recv()).await.unwrap().message, Note(number));
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn everybody_may_ask_everybody() {
    let team = Team::of(2);
    let doubles = |port: &Port<u32>| {
        port.answer(async |call: Letter<Double, u32>| {
            call.message.0.checked_mul(2).ok_or_else(|| format!("too much for {}", call.from))
        });
    };
    doubles(&team.primary);
    doubles(team.port(1));
    for (asker, to) in [
        (&team.primary, To::Worker(1)),
        (&team.primary, To::Primary),
        (team.port(0), To::Worker(1)),
        (team.port(0), To::Slot(1)),
        (team.port(0), To::Primary),
        (team.port(1), To::Worker(1)),
    ] {
        assert_eq!(within(asker.request(to, &Double(21))).await.unwrap(), 42);
        let error = within(asker.request(to, &Double(u32::MAX))).await.unwrap_err();
        assert!(
            matches!(&error, Error::Failed(Failure::Refused { reason }) if reason.starts_with("too much for"))
        );
    }
}

#[tokio::test]
async fn who_is_not_there_is_told_by_name() {
    let team = Team::of(1);
    for asker in [&team.primary, team.port(0)] {
        let error = asker.send(To::Worker(9), &Note(0)).await.unwrap_err();
        assert_eq!(error.to_string(), "could not reach worker 9: it is not connected");
        let error = asker.request(To::Slot(9), &Double(0)).await.unwrap_err();
        assert_eq!(error.to_string(), "could not reach the worker of slot 9: it is not connected");
    }
}

#[tokio::test]
async fn a_slot_is_whoever_has_it_last() {
    let mut team = Team::of(1);
    team.workers.push(Worker::join(&team.switch, 7));
    assert_eq!(team.switch.holder(0), Some(0));
    team.switch.assign(0, 7);
    assert_eq!(team.switch.holder(0), Some(7));
    let mut to_new = team.port(1).stream::<Note>();
    team.primary.send(To::Slot(0), &Note(1)).await.unwrap();
    assert_eq!(within(to_new.recv()).await.unwrap().message, Note(1));
    let mut to_old = team.port(0).stream::<Note>();
    team.primary.send(To::Worker(0), &Note(2)).await.unwrap();
    assert_eq!(within(to_old.recv()).await.unwrap().message, Note(2));
    team.workers.pop().unwrap().die().await;
    let error = team.primary.send(To::Slot(0), &Note(3)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    // One that has gone gets no slot.
    team.switch.assign(0, 7);
    assert!(matches!(team.primary.send(To::Slot(0), &Note(3)).await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_broadcast_reaches_all_but_its_sender() {
    let team = Team::of(4);
    let streams: Vec<_> = team.workers.iter().map(|worker| worker.port.stream::<Note>()).collect();
    let reached = team.port(2).broadcast(&Note(1)).await.unwrap();
    assert_eq!((reached.workers, reached.missed), (3, vec![]));
    let reached = team.primary.broadcast(&Note(2)).await.unwrap();
    assert_eq!((reached.workers, reached.missed), (4, vec![]));
    for (key, mut stream) in streams.into_iter().enumerate() {
        if key != 2 {
            let letter = within(stream.recv()).await.unwrap();
            assert_eq!((letter.from, letter.message), (Peer::Worker(2), Note(1)));
        }
        let letter = within(stream.recv()).await.unwrap();
        assert_eq!((letter.from, letter.message), (Peer::Primary, Note(2)));
    }
}

#[tokio::test]
async fn who_takes_nothing_holds_up_nobody_and_is_told_of() {
    let team = Team::of(2);
    // It is there, and nobody serves it.
    let window = Window { bytes: 1 << 20, messages: 4, descriptors: 4 };
    let config = Config::new().window(window).handshake_timeout(20 * DEADLINE);
    let (here, _there) = Endpoint::pair(config).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    // As many are with it as its window takes, one is next, and 64 wait; the others are refused.
    for _ in 0..4 {
        within(team.primary.send(To::Worker(9), &Note(0))).await.unwrap();
    }
    for (letters, refused) in [(80, 80 - 65), (2, 1)] {
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..letters {
            let port = team.port(0).clone().timeout(None);
            sending.spawn(async move { port.send(To::Worker(9), &Note(0)).await });
        }
        for _ in 0..refused {
            match within(sending.join_next()).await.unwrap().unwrap() {
                Err(Error::NotTaken { to }) => assert_eq!(to, "worker 9"),
                other => panic!("{other:?}"),
            }
        }
        sending.detach_all();
    }
    let mut stream = team.port(1).stream::<Note>();
    within(team.port(0).send(To::Worker(1), &Note(1))).await.unwrap();
    assert_eq!(within(stream.recv()).await.unwrap().message, Note(1));
    let reached = team.port(0).broadcast(&Note(2)).await.unwrap();
    assert_eq!((reached.workers, reached.missed), (1, vec![9]));
    let reached = team.primary.broadcast(&Note(3)).await.unwrap();
    assert_eq!((reached.workers, reached.missed), (2, vec![9]));
}

#[tokio::test]
async fn letters_wait_for_their_handler_the_last_ones() {
    let team = Team::of(1);
    for number in 0..100 {
        team.primary.send(To::Worker(0), &Note(number)).await.unwrap();
    }
    // When this is answered, all before it have come.
    team.port(0).answer(async |call: Letter<Double, u32>| Ok(call.message.0));
    within(team.primary.request(To::Worker(0), &Double(1))).await.unwrap();
    let mut stream = team.port(0).stream::<Note>();
    for number in 36..100 {
        assert_eq!(within(stream.recv()).await.unwrap().message, Note(number));
    }
    assert_eq!(team.port(0).lost(), 36);
    // Dropped, and taken up again by another.
    drop(stream);
    team.primary.send(To::Worker(0), &Note(1000)).await.unwrap();
    let (seen, saw) = tokio::sync::oneshot::channel();
    let mut seen = Some(seen);
    team.port(0).on(move |letter: Letter<Note, u32>| {
        // Only the first is waited for.
        let _ = seen.take().map(|seen| seen.send(letter.message.0));
    });
    assert_eq!(within(saw).await.unwrap(), 1000);
}

#[tokio::test]
async fn calls_wait_for_their_handler_until_it_is_settled_that_there_is_none() {
    let team = Team::of(1);
    let (asker, answerer) = (team.primary.clone(), team.port(0).clone());
    let asked = tokio::spawn(async move { asker.request(To::Worker(0), &Double(4)).await });
    tokio::task::yield_now().await;
    answerer.answer(async |call: Letter<Double, u32>| Ok(call.message.0 * 2));
    assert_eq!(within(asked).await.unwrap().unwrap(), 8);

    let team = Team::of(1);
    let (asker, answerer) = (team.primary.clone(), team.port(0).clone());
    let asked = tokio::spawn(async move { asker.request(To::Worker(0), &Double(4)).await });
    tokio::task::yield_now().await;
    answerer.settle();
    assert!(matches!(within(asked).await.unwrap(), Err(Error::Failed(Failure::Unhandled))));
    let asked = within(team.primary.request(To::Worker(0), &Double(4))).await;
    assert!(matches!(asked, Err(Error::Failed(Failure::Unhandled))));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_dropped_where_it_runs() {
    let team = Team::of(2);
    let running = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&running);
    team.port(1).answer(move |_: Letter<Double, u32>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let guard = Running(Arc::clone(&counter));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(0)
        }
    });
    for asker in [team.primary.clone(), team.port(0).clone()] {
        let port = asker.clone();
        let asked = tokio::spawn(async move { port.request(To::Worker(1), &Double(1)).await });
        until(&running, 1).await;
        asked.abort();
        until(&running, 0).await;
        // By its time-out.
        let asked = asker.timeout(Duration::from_millis(50)).request(To::Worker(1), &Double(1)).await;
        assert!(matches!(asked, Err(Error::TimedOut)));
        until(&running, 0).await;
    }
}

#[tokio::test]
async fn a_death_ends_what_was_asked_of_it() {
    let team = Team::of(1);
    let (here, mut there) = Connection::pair(Config::new()).unwrap();
    tokio::spawn(team.switch.attach(1, Endpoint::new(here).unwrap()));
    let ask = |port: &Port<u32>| {
        let port = port.clone().timeout(None);
        tokio::spawn(async move { port.request(To::Worker(1), &Double(1)).await })
    };
    let asked = [ask(&team.primary), ask(team.port(0))];
    within(async {
        let mut requests = 0;
        while requests < 2 {
            there.read(Instant::now());
            there.flush(Instant::now());
            while let Some(event) = there.poll_event() {
                requests += i32::from(matches!(event, cluster_ipc::session::Event::Request { .. }));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Without a word, as if its process had died.
    drop(there);
    for asked in asked {
        let error = within(asked).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "worker 1 ended before it answered");
    }
}

#[tokio::test]
async fn what_a_worker_has_asked_for_is_dropped_with_it() {
    let mut team = Team::of(1);
    let running = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&running);
    team.primary.answer(move |_: Letter<Double, u32>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let guard = Running(Arc::clone(&counter));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(0)
        }
    });
    let port = team.port(0).clone().timeout(None);
    let asked = tokio::spawn(async move { port.request(To::Primary, &Double(1)).await });
    until(&running, 1).await;
    asked.abort();
    team.workers.pop().unwrap().die().await;
    until(&running, 0).await;
}

/// A pipe's writing end, and what reads it.
fn pipe() -> (OwnedFd, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (writer.into(), reader)
}

fn write(descriptors: Vec<OwnedFd>, text: &str) {
    assert_eq!(descriptors.len(), 1);
    for descriptor in descriptors {
        std::fs::File::from(descriptor).write_all(text.as_bytes()).unwrap();
    }
}

/// Node: test-cluster-send-deadlock.
#[tokio::test]
async fn descriptors_cross_on_every_way_at_the_same_time() {
    let team = Team::of(2);
    let ports = [&team.primary, team.port(0), team.port(1)];
    let peers = [Peer::Primary, Peer::Worker(0), Peer::Worker(1)];
    let mut streams: Vec<_> = ports.iter().map(|port| port.stream::<Note>()).collect();
    let mut readers = Vec::new();
    let mut sending = tokio::task::JoinSet::new();
    for (from, port) in ports.iter().enumerate() {
        for to in (0..3).filter(|to| *to != from) {
            let (writer, reader) = pipe();
            readers.push((from, to, reader));
            let (port, to) = (Port::clone(port), peers[to]);
            sending.spawn(async move { port.send_with(to, &Note(0), vec![writer]).await });
        }
    }
    for (to, stream) in streams.iter_mut().enumerate() {
        let mut from = BTreeSet::new();
        for _ in 0..2 {
            let letter = within(stream.recv()).await.unwrap();
            from.insert(letter.from);
            write(letter.descriptors, &format!("{} to {to}", letter.from));
        }
        assert_eq!(from.len(), 2);
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap().unwrap();
    }
    for (from, to, mut reader) in readers {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{} to {to}", peers[from]));
    }
}

/// Node: sequential/test-cluster-send-handle-large-payload.
#[tokio::test]
async fn a_large_message_keeps_its_descriptor() {
    let team = Team::of(2);
    let (mut across, mut up) = (team.port(1).stream::<Blob>(), team.primary.stream::<Blob>());
    let text = vec![42; 800_000];
    for (to, stream) in [(To::Worker(1), &mut across), (To::Primary, &mut up)] {
        let (writer, mut reader) = pipe();
        let blob = Blob(text.clone());
        let (sent, letter) =
            tokio::join!(team.port(0).send_with(to, &blob, vec![writer]), within(stream.recv()));
        sent.unwrap();
        let letter = letter.unwrap();
        assert!(letter.message.0 == text);
        write(letter.descriptors, "here");
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "here");
    }
}

#[tokio::test]
async fn garbage_harms_only_itself() {
    let team = Team::of(1);
    let (here, there) = Endpoint::pair(Config::new()).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let (sender, _receiver) = there.split::<[u8], Bytes, Raw>();
    let mut stream = team.primary.stream::<Note>();
    for len in 0..40_u8 {
        sender.send(&vec![0xff; len.into()]).await.unwrap();
        let refused = sender.client::<Bytes>().request(&vec![0xff; len.into()]).await;
        assert!(matches!(refused, Err(Error::Failed(Failure::Undecodable { .. }))), "{refused:?}");
    }
    // A right head, a name, and half a message.
    sender.send(&[0, 0, 0, 4, b'n', b'o', b't', b'e', 0x80]).await.unwrap();
    team.port(0).send(To::Primary, &Note(1)).await.unwrap();
    assert_eq!(within(stream.recv()).await.unwrap().message, Note(1));
    assert!(team.primary.lost() >= 40, "{}", team.primary.lost());
}

#[tokio::test]
async fn a_call_comes_after_the_letters_sent_before_it() {
    let team = Team::of(1);
    let (here, there) = Endpoint::pair(Config::new()).unwrap();
    tokio::spawn(team.switch.attach(9, here));
    let (_sender, mut receiver) = there.split::<[u8], Bytes, Raw>();
    for asker in [team.primary.clone(), team.port(0).clone()] {
        let asked = tokio::spawn(async move {
            asker.broadcast(&Note(1)).await.unwrap();
            asker.request(To::Worker(9), &Double(1)).await
        });
        let first = within(receiver.next()).await.unwrap().unwrap();
        assert!(matches!(first, Arrival::Message(_)), "the letter is first");
        let second = within(receiver.next()).await.unwrap().unwrap();
        assert!(matches!(second, Arrival::Request(..)), "the call is next");
        drop(second);
        within(asked).await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn letters_that_a_handler_has_not_taken_wait_for_the_next() {
    let team = Team::of(1);
    let stream = team.port(0).stream::<Note>();
    for number in 0..10 {
        team.primary.send(To::Worker(0), &Note(number)).await.unwrap();
    }
    team.port(0).answer(async |call: Letter<Double, u32>| Ok(call.message.0));
    within(team.primary.request(To::Worker(0), &Double(1))).await.unwrap();
    drop(stream);
    team.primary.send(To::Worker(0), &Note(10)).await.unwrap();
    within(team.primary.request(To::Worker(0), &Double(1))).await.unwrap();
    let mut stream = team.port(0).stream::<Note>();
    for number in 0..11 {
        assert_eq!(within(stream.recv()).await.unwrap().message, Note(number));
    }
}

#[tokio::test]
async fn letters_that_nobody_handles_take_little_room() {
    let team = Team::of(1);
    for _ in 0..60 {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let descriptors = (0..50).map(|_| null()).collect();
        team.port(0).send_with(To::Primary, &Blob(vec![7; 1 << 20]), descriptors).await.unwrap();
    }
    team.primary.answer(async |call: Letter<Double, u32>| Ok(call.message.0));
    within(team.port(0).request(To::Primary, &Double(1))).await.unwrap();
    // Of all that may run beside this, and of what waits.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 1000, "{open}");
    let mut stream = team.primary.stream::<Blob>();
    let mut kept = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(200), stream.recv()).await {
        kept += 1;
    }
    assert!((1..=6).contains(&kept), "{kept}");
    assert_eq!(team.primary.lost(), 60 - kept);
}
