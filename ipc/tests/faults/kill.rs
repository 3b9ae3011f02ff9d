//! SIGKILL at random points of a conversation with a child that sends and answers as fast as it can.
//!
//! Whatever the child is doing then: each request of this side completes, what the kernel had taken from the child is
//! delivered, in order, and the end comes last.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::Child;
use std::thread::JoinHandle;

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Failure, Window};
use cluster_ipc::{Arrival, Error, Spawn, adopt, blocking, tokio as tasks};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::alone::{alone, copy, deadline, null, role, rounds};
use crate::random::Random;
use crate::wires::{End, runtime};

/// So many requests wait for answers all the time.
const ASKING: usize = 4;

fn config() -> Config {
    // Small enough that the child often waits.
    let window = Window { bytes: 200_000, messages: 64, descriptors: 16 };
    Config::new().window(window).memory_above(50_000)
}

/// Message `number`: its number and then as many bytes as that says. Some are long, some in memory.
fn message(number: u64) -> Vec<u8> {
    let len = match number % 16 {
        7 => 60_000,
        3 | 11 => 20_000,
        other => other as usize * 10,
    };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + len, number as u8);
    bytes
}

fn descriptors(number: u64) -> usize {
    usize::from(number % 5 == 2) * 2
}

/// Where the child writes down how many messages the kernel has taken.
struct Ledger(File);

impl Ledger {
    fn new() -> Self {
        Self(File::from(memfd_create(c"what was sent", MemfdFlags::CLOEXEC).unwrap()))
    }

    fn write(&self, sent: u64) {
        self.0.write_all_at(&sent.to_le_bytes(), 0).unwrap();
    }

    fn read(&self) -> u64 {
        let mut bytes = [0; 8];
        // Nothing is there before the first.
        self.0.read_at(&mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// The child: sends numbered messages and answers requests until it is killed.
fn child() {
    let connection = adopt().unwrap().connect(config(), b"").unwrap();
    let endpoint = blocking::Endpoint::new(connection).unwrap();
    let ledger = endpoint.opened().unwrap().take_descriptors().pop().unwrap();
    let ledger = Ledger(ledger.into());
    let (sender, mut receiver): (blocking::Sender<[u8], Raw>, blocking::Receiver<Bytes, Raw>) =
        endpoint.split();
    let answering = std::thread::spawn(move || {
        let mut count = 0;
        while let Ok(Some(arrival)) = receiver.next() {
            let Arrival::Request(parcel, responder) = arrival else { continue };
            count += 1;
            match count % 4 {
                0 => drop(responder),
                // They go back to where they came from.
                _ => responder.reply_with(&parcel.value, parcel.descriptors).unwrap(),
            }
        }
    });
    for number in 0.. {
        let attached = (0..descriptors(number)).map(|_| null()).collect();
        if sender.send_with(&message(number), attached).is_err() {
            break;
        }
        ledger.write(number + 1);
    }
    answering.join().unwrap();
}

fn spawn(ledger: &Ledger) -> (Child, cluster_ipc::Connection) {
    let descriptor = OwnedFd::from(ledger.0.try_clone().unwrap());
    let mut command = copy("child");
    command.stdout(std::process::Stdio::null());
    Spawn::from(command).config(config()).descriptors(vec![descriptor]).spawn().unwrap()
}

/// When to kill: after so many messages, and then so many turns of nothing.
struct Moment {
    messages: u64,
    turns: u64,
}

impl Moment {
    fn choose(random: &mut Random) -> Self {
        // A quarter at the very beginning: before or within the handshake.
        let messages = if random.below(4) == 0 { 0 } else { random.below(400) };
        Self { messages, turns: random.below(400_000) }
    }

    fn kill_at(&self, received: u64, child: &mut Child) -> bool {
        let now = received == self.messages;
        if now {
            (0..self.turns).for_each(|_| std::hint::spin_loop());
            child.kill().unwrap();
        }
        now
    }
}

/// What an answer may be, whenever the child dies.
fn check_answer(question: &[u8], answer: Result<(Bytes, Vec<OwnedFd>), Error>) -> bool {
    match answer {
        Ok((bytes, descriptors)) => {
            assert_eq!((&bytes[..], descriptors.len()), (question, 1), "it comes back as it was");
            true
        }
        Err(Error::Failed(Failure::Unanswered)) => true,
        Err(Error::PeerGone) => false,
        Err(error) => panic!("a child that was killed is gone, not {error:?}"),
    }
}

fn question(asking: usize, number: usize) -> Vec<u8> {
    vec![asking as u8; 1 + number * 97 % 30_000]
}

/// Receives until the end; returns how many came.
fn receive(here: &mut End, moment: &Moment, child: &mut Child) -> u64 {
    let mut received = 0;
    let mut killed = moment.kill_at(received, child);
    loop {
        match here.message() {
            Ok(Some(parcel)) => {
                assert!(parcel.value[..] == message(received)[..], "message {received} is not itself");
                assert_eq!(parcel.descriptors.len(), descriptors(received));
                received += 1;
                killed |= moment.kill_at(received, child);
            }
            Err(Error::PeerGone) => {
                assert!(killed, "it ended by itself");
                return received;
            }
            other => panic!("the end of a child that was killed is {other:?}"),
        }
    }
}

fn check_round(ledger: &Ledger, received: u64, mut child: Child) {
    child.wait().unwrap();
    let taken = ledger.read();
    // The last may have been taken before that was written down.
    assert!(
        (taken..=taken + 1).contains(&received),
        "{taken} were in the kernel's hands, {received} were delivered"
    );
}

fn blocking_round(moment: &Moment) {
    let ledger = Ledger::new();
    let (mut child, connection) = spawn(&ledger);
    let (sender, receiver): (blocking::Sender<[u8], Raw>, blocking::Receiver<Bytes, Raw>) =
        blocking::Endpoint::new(connection).unwrap().split();
    let asking: Vec<JoinHandle<()>> = (0..ASKING)
        .map(|asking| {
            let client = sender.client().timeout(None);
            std::thread::spawn(move || {
                let mut numbers = 0..;
                let mut ask = |number| {
                    let question = question(asking, number);
                    check_answer(&question, client.request_with(&question[..], vec![null()]))
                };
                while numbers.next().is_some_and(&mut ask) {}
            })
        })
        .collect();
    let mut here = End::Blocking(sender, receiver);
    let received = receive(&mut here, moment, &mut child);
    asking.into_iter().for_each(|thread| thread.join().unwrap());
    check_round(&ledger, received, child);
}

fn tokio_round(moment: &Moment) {
    let ledger = Ledger::new();
    let (mut child, connection) = spawn(&ledger);
    let runtime = runtime();
    let endpoint = runtime.block_on(async { tasks::Endpoint::new(connection) }).unwrap();
    let (sender, receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) = endpoint.split();
    let asking: Vec<_> = (0..ASKING)
        .map(|asking| {
            let client = sender.client().timeout(None);
            runtime.spawn(async move {
                for number in 0.. {
                    let question = question(asking, number);
                    let answer = client.request_with(&question[..], vec![null()]).await;
                    if !check_answer(&question, answer) {
                        return;
                    }
                }
            })
        })
        .collect();
    let mut here = End::Tokio(sender, receiver, runtime);
    let received = receive(&mut here, moment, &mut child);
    let End::Tokio(_, _, runtime) = &here else { unreachable!() };
    runtime.block_on(async {
        for task in asking {
            tokio::time::timeout_at(deadline().into(), task).await.expect("it completes").unwrap();
        }
    });
    check_round(&ledger, received, child);
}

#[test]
fn a_child_that_is_killed_at_any_point_leaves_nothing_open_behind_blocking() {
    if role().as_deref() == Some("child") {
        return child();
    }
    alone(|| {
        let mut random = Random::announced("kills, threads");
        for _ in 0..rounds(100) {
            blocking_round(&Moment::choose(&mut random));
        }
    });
}

#[test]
fn a_child_that_is_killed_at_any_point_leaves_nothing_open_behind_tokio() {
    if role().as_deref() == Some("child") {
        return child();
    }
    alone(|| {
        let mut random = Random::announced("kills, tasks");
        for _ in 0..rounds(100) {
            tokio_round(&Moment::choose(&mut random));
        }
    });
}
