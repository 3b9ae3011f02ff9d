//! Events and calls by name, with handlers on threads and on tasks.

#![allow(clippy::disallowed_methods, reason = "tests start threads")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use cluster_ipc::blocking::{Broadcast, Emitter, Endpoint, Receiver, Sender};
use cluster_ipc::codec::{Encode, Postcard, Raw};
use cluster_ipc::events::{Call, Event, Handlers, named};
use cluster_ipc::hub::{Policy, Subscription};
use cluster_ipc::session::{Config, Failure};
use cluster_ipc::{Error, tokio as tasks};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Log(String);

impl Event for Log {
    const NAME: &'static str = "log";
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Divide(i32, i32);

impl Event for Divide {
    const NAME: &'static str = "divide";
}

impl Call for Divide {
    type Reply = i32;
}

/// Of the same name as [`Divide`], and another form.
#[derive(Debug, Serialize, Deserialize)]
struct OtherDivide(String);

impl Event for OtherDivide {
    const NAME: &'static str = "divide";
}

impl Call for OtherDivide {
    type Reply = String;
}

#[derive(Debug, Serialize, Deserialize)]
struct Nobody;

impl Event for Nobody {
    const NAME: &'static str = "nobody handles this";
}

impl Call for Nobody {
    type Reply = ();
}

fn divide(Divide(one, other): Divide) -> Result<i32, String> {
    one.checked_div(other).ok_or_else(|| format!("{one} cannot be divided by {other}"))
}

/// What everything a peer may say should come to, whatever the handlers run on.
fn say_everything(emitter: &Emitter) {
    emitter.emit(&Log("first".to_owned())).unwrap();
    assert_eq!(emitter.call(&Divide(42, 6)).unwrap(), 7);
    let refused = emitter.call(&Divide(1, 0)).unwrap_err();
    assert_eq!(refused.to_string(), "the request failed: 1 cannot be divided by 0");
    let unhandled = emitter.call(&Nobody).unwrap_err();
    assert!(matches!(unhandled, Error::Failed(Failure::Unhandled)), "{unhandled:?}");
    let wrong = emitter.call(&OtherDivide("one by two".to_owned())).unwrap_err();
    assert!(matches!(wrong, Error::Failed(Failure::Undecodable { .. })), "{wrong:?}");
    // As events these cost nobody anything.
    emitter.emit(&Nobody).unwrap();
    emitter.emit(&OtherDivide("x".to_owned())).unwrap();
    emitter.emit(&Log("last".to_owned())).unwrap();
    assert_eq!(emitter.call(&Divide(9, 3)).unwrap(), 3, "all goes on");
}

fn assert_heard(logs: &mpsc::Receiver<String>) {
    assert_eq!(logs.iter().collect::<Vec<_>>(), ["first", "last"]);
}

#[test]
fn handlers_on_threads_get_what_is_theirs() {
    let (here, there) = Endpoint::pair(Config::new()).unwrap();
    let (sender, logs) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let (_sender, receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = there.split();
        let mut handlers = Handlers::blocking();
        handlers.on(|_: Log| panic!("replaced by the next of its name"));
        handlers.on(move |Log(text)| sender.send(text).unwrap());
        handlers.on_call(divide);
        handlers.serve(receiver).unwrap();
        handlers.unhandled()
    });
    let emitter = Emitter::new(here);
    say_everything(&emitter);
    drop(emitter);
    assert_eq!(server.join().unwrap(), 2, "one call and one event of that name");
    assert_heard(&logs);
}

#[test]
fn handlers_on_tasks_get_what_is_theirs() {
    let (here, there) = cluster_ipc::Connection::pair(Config::new()).unwrap();
    let (sender, logs) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let endpoint = tasks::Endpoint::new(there).unwrap();
            let (_sender, receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) =
                endpoint.split();
            let mut handlers = Handlers::tasks();
            handlers.on(move |Log(text)| {
                let sender = sender.clone();
                async move { sender.send(text).unwrap() }
            });
            handlers.on_call(|call: Divide| async move {
                tokio::task::yield_now().await;
                divide(call)
            });
            handlers.serve(receiver).await.unwrap();
        });
    });
    let emitter = Emitter::new(Endpoint::new(here).unwrap());
    say_everything(&emitter);
    drop(emitter);
    server.join().unwrap();
    assert_heard(&logs);
}

/// Each is answered when it is done, not in the order in which they came.
#[test]
fn calls_on_tasks_do_not_wait_for_each_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (here, there) = tasks::Endpoint::pair(Config::new()).unwrap();
        let (_sender, receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) = there.split();
        let done = Arc::new(AtomicBool::new(false));
        let mut handlers = Handlers::tasks();
        handlers.on_call(move |Divide(one, other)| {
            let done = Arc::clone(&done);
            async move {
                // The first waits for the second.
                while other == 1 && !done.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
                done.store(true, Ordering::SeqCst);
                Ok(one)
            }
        });
        let serving = tokio::spawn(async move { handlers.serve(receiver).await });
        let emitter = tasks::Emitter::new(here);
        let (first, second) = (Divide(10, 1), Divide(20, 2));
        let (first, second) = tokio::join!(emitter.call(&first), emitter.call(&second));
        assert_eq!((first.unwrap(), second.unwrap()), (10, 20));
        drop(emitter);
        serving.await.unwrap().unwrap();
    });
}

/// A handler that panics ends its thread. Who asked learns it, and does not wait for the time-out.
#[test]
fn a_handler_that_panics_leaves_nobody_waiting() {
    let (here, there) = Endpoint::pair(Config::new()).unwrap();
    let server = std::thread::spawn(move || {
        let (_sender, receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = there.split();
        let mut handlers = Handlers::blocking();
        handlers.on_call(|_: Divide| -> Result<i32, String> {
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        handlers.serve(receiver)
    });
    let emitter = Emitter::new(here).timeout(None);
    let answer = emitter.call(&Divide(1, 1));
    assert!(matches!(answer, Err(Error::Failed(Failure::Unanswered) | Error::PeerGone)), "{answer:?}");
    assert!(server.join().is_err(), "the panic is the server's");
}

#[test]
fn a_named_event_reaches_all_subscribers_of_a_broadcast() {
    let broadcast = Broadcast::<Bytes, Raw>::new();
    let (sender, logs) = mpsc::channel();
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let (here, there) = Endpoint::pair(Config::new()).unwrap();
            let (sending, _receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = here.split();
            broadcast.subscribe(&sending, Subscription::new(Policy::Wait));
            let sender = sender.clone();
            std::thread::spawn(move || {
                let (_sender, receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = there.split();
                let mut handlers = Handlers::blocking();
                handlers.on(move |Log(text)| sender.send(text).unwrap());
                handlers.serve(receiver)
            })
        })
        .collect();
    drop(sender);
    broadcast.publish(&named(&Log("to all".to_owned())).unwrap()).unwrap();
    drop(broadcast);
    servers.into_iter().for_each(|server| server.join().unwrap().unwrap());
    assert_eq!(logs.iter().collect::<Vec<_>>(), ["to all"; 3]);
}

#[test]
fn a_message_without_a_name_is_no_event() {
    let mut handlers = Handlers::blocking();
    handlers.on(|_: Log| panic!("it is not for this one"));
    for garbage in [&[][..], &[0xff; 10], &[200, 1]] {
        let answer = handlers.dispatch(garbage);
        assert!(matches!(answer, Err(Failure::Undecodable { .. })), "{garbage:?}: {answer:?}");
    }
    let mut scratch = Vec::new();
    let nobody = Postcard::encode(&("somebody else", 7u8), &mut scratch).unwrap();
    assert!(matches!(handlers.dispatch(nobody), Err(Failure::Unhandled)));
    assert_eq!(handlers.unhandled(), 1);
}
