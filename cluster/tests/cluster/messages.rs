//! Messages between real processes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use cluster::health::Heartbeat;
use cluster::supervisor::Event as Life;
use cluster::{Event, Letter, Letters, Message, Messages, Peer, Request, To, Worker, WorkerId};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::state::policy;
use crate::support::process;
use crate::{Running, builder, support};

/// What a worker has to say.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note(u32);
impl Message for Note {
    const NAME: &'static str = "note";
}

/// Asks a worker to ask another one.
#[derive(Debug, Serialize, Deserialize)]
struct Ask(To);
impl Message for Ask {
    const NAME: &'static str = "ask";
}
impl Request for Ask {
    type Reply = Result<(Peer, String), String>;
}

/// Who are you, and who has asked?
#[derive(Debug, Serialize, Deserialize)]
struct Who;
impl Message for Who {
    const NAME: &'static str = "who";
}
impl Request for Who {
    type Reply = (Peer, String);
}

/// Tell all others this.
#[derive(Debug, Serialize, Deserialize)]
struct Tell(u32);
impl Message for Tell {
    const NAME: &'static str = "tell";
}
impl Request for Tell {
    type Reply = usize;
}

/// What did you hear?
#[derive(Debug, Serialize, Deserialize)]
struct Heard;
impl Message for Heard {
    const NAME: &'static str = "heard";
}
impl Request for Heard {
    type Reply = (Peer, u32);
}

/// Do that.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Do {
    /// Say so many notes, and die.
    SayAndDie(u32),
    /// Never turn again.
    Spin,
    /// Never answer.
    Wait,
    /// Send the listening socket that came with it on to that worker.
    PassOn(WorkerId),
    /// Accept a connection on the socket that comes with it, and say who you are.
    Accept,
}
impl Message for Do {
    const NAME: &'static str = "do";
}
impl Request for Do {
    type Reply = ();
}

/// App: does what it is told.
pub(crate) async fn talker(worker: Worker) {
    let messages = worker.messages();
    let id = worker.id();
    messages.answer(move |letter: Letter<Who>| std::future::ready(Ok((letter.from, id.to_string()))));
    let port = messages.clone();
    messages.answer(move |letter: Letter<Ask>| {
        let port = port.clone();
        async move { Ok(port.request(letter.message.0, &Who).await.map_err(|error| error.to_string())) }
    });
    let port = messages.clone();
    messages.answer(move |letter: Letter<Tell>| {
        let port = port.clone();
        async move {
            let reached = port.broadcast(&Note(letter.message.0)).await.map_err(|error| error.to_string())?;
            assert_eq!(reached.missed, []);
            Ok(reached.workers)
        }
    });
    let notes = std::sync::Arc::new(tokio::sync::Mutex::new(messages.stream::<Note>()));
    messages.answer(move |_: Letter<Heard>| {
        let notes = std::sync::Arc::clone(&notes);
        async move {
            let letter = notes.lock().await.recv().await.ok_or("nothing")?;
            Ok((letter.from, letter.message.0))
        }
    });
    let port = messages.clone();
    messages.answer(async |_: Letter<Do>| std::future::pending().await);
    messages.on(move |letter: Letter<Do>| drop(tokio::spawn(act(port.clone(), letter, id))));
    worker.ready().await;
    worker.draining().await;
}

async fn act(messages: Messages, letter: Letter<Do>, id: WorkerId) {
    match letter.message {
        Do::SayAndDie(notes) => {
            for note in 0..notes {
                messages.send(To::Primary, &Note(note)).await.unwrap();
            }
            messages.flush().await.unwrap();
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        }
        Do::Spin => loop {
            std::hint::spin_loop();
        },
        Do::Wait => {}
        Do::PassOn(to) => messages.send_with(to_worker(to), &Do::Accept, letter.descriptors).await.unwrap(),
        Do::Accept => {
            let listener = letter.descriptors.into_iter().next().unwrap();
            let accept = move || TcpListener::from(listener).accept().unwrap();
            let (mut stream, _) = tokio::task::spawn_blocking(accept).await.unwrap();
            write!(stream, "{id} by way of {}", letter.from).unwrap();
        }
    }
}

fn to_worker(id: WorkerId) -> To {
    To::Worker(id)
}

fn start(workers: usize) -> (Running, Messages) {
    // One that hears nothing is not found and ended before the test is done with it.
    let heartbeat = Heartbeat::new().dead_at_least(10 * support::DEADLINE);
    let mut running =
        Running::start(builder("talker").workers(workers).policy(policy()).heartbeat(heartbeat));
    running.wait_for("all workers to be ready", |event| matches!(event, Event::Serving { .. }).then_some(()));
    let messages = running.handle.messages().timeout(support::DEADLINE);
    (running, messages)
}

/// Of these tests each worker is its slot's first.
fn first(slot: u32) -> WorkerId {
    WorkerId::new(slot, 1)
}

/// test-cluster-message.js: messages both ways; and between workers.
pub(crate) fn everybody_talks_to_everybody() {
    let (mut running, messages) = start(3);
    running.block_on(async {
        let asked = async |to, call: &Ask| messages.request(to, call).await.unwrap();
        for slot in 0..3 {
            let (from, who) = messages.request(To::Slot(slot), &Who).await.unwrap();
            assert_eq!((from, who), (Peer::Primary, first(slot).to_string()));
            for other in 0..3 {
                // Each asks each, itself too.
                let (from, who) = asked(To::Slot(slot), &Ask(To::Slot(other))).await.unwrap();
                assert_eq!((from, who), (Peer::Worker(first(slot)), first(other).to_string()));
            }
        }
        let primary = messages.clone();
        primary.answer(async |letter: Letter<Who>| Ok((letter.from, "primary".to_owned())));
        let (from, who) = asked(To::Slot(1), &Ask(To::Primary)).await.unwrap();
        assert_eq!((from, who), (Peer::Worker(first(1)), "primary".to_owned()));
        let error = asked(To::Slot(1), &Ask(To::Slot(7))).await.unwrap_err();
        assert_eq!(error, "could not reach the worker of slot 7: it is not connected");

        assert_eq!(messages.request(To::Slot(2), &Tell(5)).await.unwrap(), 2);
        for slot in 0..2 {
            let heard = messages.request(To::Slot(slot), &Heard).await.unwrap();
            assert_eq!(heard, (Peer::Worker(first(2)), 5));
        }
        assert_eq!(messages.broadcast(&Note(6)).await.unwrap().workers, 3);
        assert_eq!(messages.request(To::Slot(2), &Heard).await.unwrap(), (Peer::Primary, 6));
    });
    running.stop();
}

/// What is there of a stream, without waiting.
fn there_is(letters: &mut Letters<Note>) -> Vec<Letter<Note>> {
    let mut found = Vec::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        let mut next = std::pin::pin!(letters.recv());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Some(letter)) => found.push(letter),
            _ => return found,
        }
    }
}

pub(crate) fn what_a_worker_sent_comes_before_its_end() {
    let (mut running, messages) = start(1);
    let before = SystemTime::now();
    let mut notes = messages.stream::<Note>();
    running.block_on(messages.send(To::Slot(0), &Do::SayAndDie(200))).unwrap();
    running.wait_for("its end", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, .. }, .. } => (*id == first(0)).then_some(()),
        _ => None,
    });
    let notes = there_is(&mut notes);
    let numbers: Vec<_> = notes.iter().map(|letter| letter.message.0).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert!(notes.iter().all(|letter| letter.from == Peer::Worker(first(0))));
    // By the same clock, to a microsecond.
    let after = before - Duration::from_micros(1);
    assert!(notes.iter().all(|letter| letter.sent_at >= after && letter.sent_at <= SystemTime::now()));
    running.stop();
}

pub(crate) fn who_asks_one_that_dies_is_told() {
    let (mut running, messages) = start(2);
    let pid = running.status().workers[1].pid.unwrap();
    let port = messages.clone();
    let asked = running.runtime.spawn(async move { port.request(To::Slot(1), &Do::Wait).await });
    let by_other = running.runtime.spawn({
        let port = messages.clone();
        async move { port.request(To::Slot(0), &Ask(To::Slot(1))).await }
    });
    running.block_on(by_other).unwrap().unwrap().unwrap();
    process::signal(pid, Signal::KILL);
    let error = running.block_on(asked).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the worker of slot 1 ended before it answered");
    let error = running.block_on(messages.send(To::Worker(first(1)), &Note(0))).unwrap_err();
    assert_eq!(error.to_string(), "could not reach worker 1.1: it is not connected");
    running.stop();
}

pub(crate) fn open_sockets_travel_between_workers() {
    let (mut running, messages) = start(2);
    for (to, what, via) in
        [(0, Do::Accept, "0.1 by way of the primary"), (0, Do::PassOn(first(1)), "1.1 by way of worker 0.1")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = messages.send_with(To::Slot(to), &what, vec![OwnedFd::from(listener)]);
        running.block_on(sent).unwrap();
        // It listens on here no more: only a worker can answer.
        let mut answer = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, via);
    }
    running.stop();
}

pub(crate) fn one_that_takes_nothing_holds_up_nobody() {
    let (mut running, messages) = start(2);
    running.block_on(async {
        messages.send(To::Slot(1), &Do::Spin).await.unwrap();
        let mut sent = 0_u64;
        // As far as its window and what may wait for it.
        let refused = loop {
            let reached = messages.broadcast(&Note(0)).await.unwrap();
            if !reached.missed.is_empty() {
                break reached;
            }
            sent += 1;
            // Also in between, the other one is asked and answers.
            messages.request(To::Slot(0), &Heard).await.unwrap();
        };
        assert_eq!((refused.workers, refused.missed), (1, vec![first(1)]));
        assert!(sent < 100_000, "{sent}");
    });
    // It is asked to leave, has no ear for it, and is killed at its deadline.
    let pid = running.status().workers[1].pid.unwrap();
    process::signal(pid, Signal::KILL);
    running.stop();
}

pub(crate) fn a_slots_messages_go_to_its_successor() {
    let (mut running, messages) = start(1);
    let successor = running.block_on(running.handle.restart(0)).unwrap();
    let (_, who) = running.block_on(messages.request(To::Slot(0), &Who)).unwrap();
    assert_eq!(who, successor.to_string());
    running.stop();
}
