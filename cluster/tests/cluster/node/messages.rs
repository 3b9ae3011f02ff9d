//! Messages and the sockets in them: Node's test-cluster-{advanced-serialization, invalid-message, net-send, send-deadlock, send-handle-*}.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use cluster::supervisor::Exit;
use cluster::{Departure, Letter, To};

use super::puppet::{Do, Double, Parcel, Stage, forge};
use crate::builder;
use crate::support::{DEADLINE, eventually};

fn stage(workers: usize) -> Stage {
    Stage::open(builder("puppet").workers(workers))
}

fn parcel(number: u64) -> Parcel {
    Parcel { number, bytes: Vec::new(), anything: BTreeMap::new() }
}

/// Two ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    here.set_read_timeout(Some(DEADLINE)).unwrap();
    (here, listener.accept().unwrap().0)
}

fn send(stage: &Stage, slot: u32, parcel: &Parcel, descriptors: Vec<OwnedFd>) {
    stage.running.block_on(stage.messages.send_with(To::Slot(slot), parcel, descriptors)).unwrap();
}

fn next(stage: &Stage, letters: &mut cluster::Letters<Parcel>) -> Letter<Parcel> {
    stage.running.block_on(async { tokio::time::timeout(DEADLINE, letters.recv()).await.unwrap().unwrap() })
}

/// That it is the other end of this connection.
fn is_other_end(mut here: &TcpStream, there: Vec<OwnedFd>) {
    let mut there: Vec<TcpStream> = there.into_iter().map(TcpStream::from).collect();
    assert_eq!(there.len(), 1);
    there[0].write_all(b"from there").unwrap();
    let mut read = [0; 10];
    here.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"from there");
}

/// test-cluster-advanced-serialization.js: whatever serde can write comes back unchanged.
pub(crate) fn advanced_serialization() {
    let mut stage = stage(1);
    let mut letters = stage.messages.stream::<Parcel>();
    let odd = vec![None, Some((f64::NEG_INFINITY, '\u{1F980}')), Some((-0.0, '\0'))];
    let anything = BTreeMap::from([(String::new(), odd), ("empty".to_owned(), Vec::new())]);
    let sent = Parcel { number: u64::MAX, bytes: (0..=255).collect(), anything };
    send(&stage, 0, &sent, Vec::new());
    assert_eq!(next(&stage, &mut letters).message, sent);
    stage.running.stop();
}

/// test-cluster-net-send.js: a connection that a worker has made and sends can be used here, to its end.
pub(crate) fn net_send() {
    let mut stage = stage(1);
    let mut letters = stage.messages.stream::<Parcel>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    stage.tell(0, &Do::ConnectAndGive(listener.local_addr().unwrap())).unwrap();
    let (mut here, _) = listener.accept().unwrap();
    let mut there: Vec<TcpStream> =
        next(&stage, &mut letters).descriptors.into_iter().map(TcpStream::from).collect();
    assert_eq!(there.len(), 1);
    there[0].set_nonblocking(false).unwrap();
    here.write_all(b"hello").unwrap();
    drop(here);
    let mut said = String::new();
    there[0].read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    stage.running.stop();
}

/// test-cluster-invalid-message.js: what is forged to look like a message of this crate, or like one that has another content, is ignored, in both
/// directions: messages, requests and tasks go on as before, and the worker ends in order.
pub(crate) fn invalid_message() {
    let mut stage = stage(1);
    let mut letters = stage.messages.stream::<Parcel>();
    stage.tell(0, &Do::Work).unwrap();
    let tasks = stage.running.block_on(async { stage.running.handle.tasks() });
    let doubled = |number| {
        let ended = async { tokio::time::timeout(DEADLINE, tasks.submit(&Double(number))).await };
        stage.running.block_on(ended).expect("it ends")
    };
    eventually("the worker to run tasks", || doubled(0).ok());
    for number in 1..=3 {
        send(&stage, 0, &parcel(number), Vec::new());
        assert_eq!(next(&stage, &mut letters).message, parcel(number));
        assert_eq!(stage.tell(0, &Do::Ping).unwrap(), "0.1");
        assert_eq!(doubled(number).unwrap(), 2 * number);
        stage.running.block_on(forge(&stage.messages, To::Slot(0))).unwrap();
        stage.tell(0, &Do::Forge).unwrap();
    }
    let worker = stage.running.handle.worker_of_slot(0).unwrap();
    let departure = stage.running.block_on(worker.disconnect()).unwrap();
    assert_eq!(departure, Departure::Asked { exit: Exit::Code(0) });
    stage.running.stop();
}

/// test-cluster-send-deadlock.js: sockets in both directions at the same time, many.
pub(crate) fn send_deadlock() {
    const PARCELS: u64 = 200;
    let mut stage = stage(2);
    let mut letters = stage.messages.stream::<Parcel>();
    let ends: Vec<_> = (0..PARCELS).map(|_| connection()).collect();
    let (here, there): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    let messages = stage.messages.clone();
    let sending = stage.running.runtime.spawn(async move {
        for (number, there) in (0..).zip(there) {
            let to = To::Slot(u32::try_from(number % 2).unwrap());
            messages.send_with(to, &parcel(number), vec![there.into()]).await.unwrap();
        }
    });
    let mut numbers = BTreeSet::new();
    for _ in 0..PARCELS {
        let letter = next(&stage, &mut letters);
        is_other_end(&here[usize::try_from(letter.message.number).unwrap()], letter.descriptors);
        numbers.insert(letter.message.number);
    }
    assert_eq!(numbers.len(), usize::try_from(PARCELS).unwrap());
    stage.running.block_on(sending).unwrap();
    stage.running.stop();
}

/// test-cluster-send-handle-twice.js: each copy is one of its own.
pub(crate) fn send_handle_twice() {
    let mut stage = stage(1);
    let mut letters = stage.messages.stream::<Parcel>();
    let (here, there) = connection();
    for number in 0..2 {
        send(&stage, 0, &parcel(number), vec![there.try_clone().unwrap().into()]);
        is_other_end(&here, next(&stage, &mut letters).descriptors);
    }
    stage.running.stop();
}

/// test-cluster-send-handle-large-payload.js: 800 kB and a socket, there and back.
pub(crate) fn send_handle_large_payload() {
    let mut stage = stage(1);
    let mut letters = stage.messages.stream::<Parcel>();
    let (here, there) = connection();
    let sent = Parcel { bytes: vec![42; 800_000], ..parcel(1) };
    send(&stage, 0, &sent, vec![there.into()]);
    let letter = next(&stage, &mut letters);
    assert!(letter.message == sent);
    is_other_end(&here, letter.descriptors);
    stage.running.stop();
}

/// test-cluster-worker-init.js: messages work as soon as the worker is there, before anything else.
pub(crate) fn worker_init() {
    let mut stage = stage(1);
    assert_eq!(stage.tell(0, &Do::Ping).unwrap(), "0.1");
    let successor = stage.running.block_on(stage.running.handle.fork()).unwrap().id();
    // It is reached by its name from the moment at which it is a process.
    stage.running.wait_for("the process", |event| match event {
        cluster::Event::Lifecycle { event: cluster::supervisor::Event::Spawned { id }, .. } => {
            (*id == successor).then_some(())
        }
        _ => None,
    });
    let asked = stage.messages.request(To::Worker(successor), &Do::Ping);
    assert_eq!(stage.running.block_on(asked).unwrap().unwrap(), successor.to_string());
    stage.running.stop();
}
