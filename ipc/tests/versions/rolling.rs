//! A rolling restart in real processes: a primary of one version with a worker of the other, both ways round.

use cluster_ipc::blocking::{Endpoint, Receiver, Responder, Sender};
use cluster_ipc::session::{Config, Failure};
use cluster_ipc::{Arrival, Error, Spawn, adopt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alone::{alone, copy, role};
use crate::rule::{new, old};

/// What each version says besides what both know, if the peer knows it.
trait Version {
    type Word: Serialize + DeserializeOwned + std::fmt::Debug + Send + 'static;

    const SCHEMA: u32;

    /// What both know.
    fn common() -> Vec<Self::Word>;

    /// What only this version knows, and since which schema.
    fn own() -> Vec<(u32, Self::Word)>;

    /// What it makes of a request.
    fn answer(word: Self::Word) -> u32;
}

struct Old;

impl Version for Old {
    type Word = old::Word;

    const SCHEMA: u32 = old::SCHEMA;

    fn common() -> Vec<old::Word> {
        vec![old::Word::Add(1), old::Word::Resize { width: 2 }, old::Word::Retired]
    }

    fn own() -> Vec<(u32, old::Word)> {
        Vec::new()
    }

    fn answer(word: old::Word) -> u32 {
        match word {
            old::Word::Add(number) => number + 1,
            old::Word::Resize { width } => width.into(),
            old::Word::Retired => 0,
        }
    }
}

struct New;

impl Version for New {
    type Word = new::Word;

    const SCHEMA: u32 = new::SCHEMA;

    fn common() -> Vec<new::Word> {
        vec![new::Word::Add(1), new::Word::Resize { width: 2 }, new::Word::Retired]
    }

    fn own() -> Vec<(u32, new::Word)> {
        vec![(2, new::Word::Multiply(vec![6, 7])), (2, new::Word::ResizeV2 { width: 5, height: 6 })]
    }

    fn answer(word: new::Word) -> u32 {
        match word {
            new::Word::Add(number) => number + 1,
            new::Word::Resize { width } => width.into(),
            new::Word::Retired => 0,
            new::Word::ResizeV2 { width, height } => u32::from(width) * u32::from(height),
            new::Word::Multiply(numbers) => numbers.iter().product(),
        }
    }
}

/// Answers until the peer says that this was all. Returns how many words could not be read.
fn serve<V: Version>(mut receiver: Receiver<V::Word>) -> u32 {
    let mut unreadable = 0;
    loop {
        match receiver.next() {
            Ok(Some(Arrival::Request(word, responder))) => answer::<V>(word.value, responder),
            Ok(Some(Arrival::Message(_))) => {}
            Ok(other) => {
                assert!(other.is_none(), "no gaps here");
                return unreadable;
            }
            Err(Error::Decode { .. }) => unreadable += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn answer<V: Version>(word: V::Word, responder: Responder) {
    responder.reply(&V::answer(word)).unwrap();
}

/// Talks: first what both know, then what the peer may not know, first with care and then without.
fn talk<V: Version>(sender: &Sender<V::Word>, peer: u32) {
    let client = sender.client::<u32>();
    let common: Vec<u32> = V::common().iter().map(|word| client.request(word).unwrap()).collect();
    assert_eq!(common, [2, 2, 0]);
    for (since, word) in V::own() {
        let answer = client.request(&word);
        if peer >= since {
            answer.unwrap();
        } else {
            // Against the rule. It costs that request and nothing else.
            let refused = answer.unwrap_err();
            assert!(matches!(refused, Error::Failed(Failure::Undecodable { .. })), "{refused:?}");
            // As a message it is an error over there, and here nobody is told.
            sender.send(&word).unwrap();
        }
    }
    assert_eq!(client.request(&V::common()[0]).unwrap(), 2, "all goes on");
}

fn config<V: Version>() -> Config {
    Config::new().schema(V::SCHEMA)
}

/// How many of the peer's words this version can't read: each is said twice.
fn expected_unreadable<V: Version>(peer: u32) -> u32 {
    if peer > V::SCHEMA { 4 } else { 0 }
}

fn converse<V: Version>(endpoint: Endpoint) {
    let opened = endpoint.opened().unwrap();
    let peer = opened.schema();
    let (sender, receiver) = endpoint.split();
    let serving = std::thread::spawn(|| serve::<V>(receiver));
    talk::<V>(&sender, peer);
    drop(sender);
    assert_eq!(serving.join().unwrap(), expected_unreadable::<V>(peer));
}

fn worker<V: Version>() {
    converse::<V>(Endpoint::new(adopt().unwrap().connect(config::<V>(), b"").unwrap()).unwrap());
}

fn primary<V: Version>(worker: &str) {
    let (mut child, connection) = Spawn::from(copy(worker)).config(config::<V>()).spawn().unwrap();
    converse::<V>(Endpoint::new(connection).unwrap());
    assert!(child.wait().unwrap().success());
}

fn as_worker() -> bool {
    match role().as_deref() {
        Some("old worker") => worker::<Old>(),
        Some("new worker") => worker::<New>(),
        _ => return false,
    }
    true
}

#[test]
fn an_old_primary_works_with_a_new_worker() {
    if !as_worker() {
        alone(|| primary::<Old>("new worker"));
    }
}

#[test]
fn a_new_primary_works_with_an_old_worker() {
    if !as_worker() {
        alone(|| primary::<New>("old worker"));
    }
}

#[test]
fn workers_of_the_same_version_miss_nothing() {
    if !as_worker() {
        alone(|| {
            primary::<Old>("old worker");
            primary::<New>("new worker");
        });
    }
}
