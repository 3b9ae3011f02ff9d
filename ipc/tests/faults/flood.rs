//! Both sides send as fast as they can through the smallest buffers: nothing stops, and memory stays within what was
//! stated.

use std::collections::VecDeque;
use std::time::Instant;

use allocation_counter::measure;
use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Charge, Config, Event, Window};
use cluster_ipc::{Arrival, Connection, Lane, Read, blocking, tokio as tasks};

use crate::alone::{alone, rounds};
use crate::random::Random;
use crate::wires::{nulls, pair, runtime, shrink_buffers};

const WINDOW: Window = Window { bytes: 256 << 10, messages: 200, descriptors: 20 };

const OUTBOX: usize = 64 << 10;

fn config() -> Config {
    Config::new().window(WINDOW).outbox(OUTBOX).max_message(200_000)
}

/// One side of the flood, and the slow application behind it.
struct Side {
    connection: Connection,
    /// What it has not handled yet.
    held: VecDeque<(usize, usize, Charge)>,
    sent: u64,
    received: u64,
}

impl Side {
    fn new(connection: Connection) -> Self {
        Self { connection, held: VecDeque::with_capacity(1000), sent: 0, received: 0 }
    }

    fn send(&mut self, random: &mut Random) {
        let len = match random.below(10) {
            0 => random.below(200_000),
            1..4 => random.below(20_000),
            _ => random.below(100),
        };
        let lane = if len < 1000 && random.below(8) == 0 { Lane::Control } else { Lane::Data };
        let attached = if lane == Lane::Data && random.below(6) == 0 { random.below(5) as usize } else { 0 };
        let bytes = vec![self.sent as u8; len as usize];
        self.sent += u64::from(self.connection.send(lane, &bytes, nulls(attached)).is_ok());
    }

    /// Writes and reads once, and handles a little of what has come.
    fn turn(&mut self, random: &mut Random, handles: bool) {
        let now = Instant::now();
        self.connection.flush(now);
        if self.connection.read(now) == Read::Some {
            while let Some(event) = self.connection.poll_event() {
                let Event::Message(message) = event else { continue };
                let (bytes, descriptors, charge) = message.into_parts();
                self.received += 1;
                // Held as numbers: what memory the bytes take is counted while they are unhandled in the session.
                self.held.push_back((bytes.len(), descriptors.len(), charge));
            }
        }
        if handles {
            for _ in 0..random.below(4) {
                if let Some((.., charge)) = self.held.pop_front() {
                    self.connection.handled(charge);
                }
            }
        }
        let held = |part: fn(&(usize, usize, Charge)) -> usize| self.held.iter().map(part).sum::<usize>();
        // The control lane has a window of its own.
        let bytes = WINDOW.bytes as usize + (256 << 10);
        assert!(held(|(bytes, ..)| *bytes) <= bytes, "more bytes than the windows");
        assert!(held(|(_, descriptors, _)| *descriptors) <= WINDOW.descriptors as usize + 16);
        assert!(self.held.len() <= WINDOW.messages as usize + 256, "more messages than the windows");
        let unsent = self.connection.session().unsent();
        assert!(unsent <= 2 * OUTBOX + 220_000, "{unsent} bytes wait for the socket");
    }
}

/// Whether either side handles little, or nothing for long.
#[test]
fn memory_stays_within_the_windows_whatever_both_send() {
    alone(|| {
        let mut random = Random::announced("flood");
        for round in 0..rounds(10) {
            let (here, there) = pair(config().memory_above(usize::MAX));
            shrink_buffers([&here, &there]);
            let mut sides = [Side::new(here), Side::new(there)];
            let used = measure(|| {
                for step in 0..20_000 {
                    for side in &mut sides {
                        side.send(&mut random);
                        side.turn(&mut random, step % 3000 > 1000);
                    }
                }
            });
            assert!(sides.iter().all(|side| side.received > 1000), "round {round}: it flows");
            // Each side: twice what its outbox may hold with one long message, the long message that arrives and its
            // memory kept for the next, and buffers.
            let bound = 2 * (2 * (2 * OUTBOX + 220_000) + 400_000 + (2 << 20) + (1 << 20));
            assert!(used.bytes_max as usize <= bound, "round {round}: {used:?}, not {bound} at most");
            // And it ends: what is left is handled.
            for _ in 0..100_000 {
                sides.iter_mut().for_each(|side| side.turn(&mut random, true));
            }
            let [one, other] = &sides;
            assert_eq!((one.sent, other.sent), (other.received, one.received), "all that was sent arrives");
        }
    });
}

/// How many messages and requests each side sends.
fn each() -> u32 {
    rounds(400) as u32
}

fn word(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + (number as usize * 7919) % 30_000, number as u8);
    bytes
}

/// Each side: one thread sends, one asks, one receives and answers. All of them at once, on both sides.
fn threads(connection: Connection) -> Vec<std::thread::JoinHandle<()>> {
    let (sender, mut receiver): (blocking::Sender<[u8], Raw>, blocking::Receiver<Bytes, Raw>) =
        blocking::Endpoint::new(connection).unwrap().split();
    let client = sender.client::<Bytes>().timeout(None);
    let sending = std::thread::spawn(move || {
        for number in 0..each() {
            sender.send_with(&word(number), nulls(number as usize % 3)).unwrap();
        }
    });
    let asking = std::thread::spawn(move || {
        for number in 0..each() {
            let (answer, descriptors) = client.request_with(&word(number), nulls(1)).unwrap();
            assert!(answer[..] == word(number)[..] && descriptors.len() == 1);
        }
    });
    let receiving = std::thread::spawn(move || {
        let mut next = 0;
        while let Some(arrival) = receiver.next().unwrap() {
            match arrival {
                Arrival::Message(parcel) => {
                    assert!(parcel.value[..] == word(next)[..], "in order");
                    assert_eq!(parcel.descriptors.len(), next as usize % 3);
                    next += 1;
                }
                Arrival::Request(parcel, responder) => {
                    responder.reply_with(&parcel.value, parcel.descriptors).unwrap();
                }
                _ => panic!("no gaps here"),
            }
        }
        assert_eq!(next, each());
    });
    vec![sending, asking, receiving]
}

#[test]
fn two_sides_of_threads_flood_each_other_and_finish() {
    alone(|| {
        let (here, there) = pair(config());
        shrink_buffers([&here, &there]);
        let all: Vec<_> = [here, there].into_iter().flat_map(threads).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

async fn tasks(connection: Connection) {
    let (sender, mut receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) =
        tasks::Endpoint::new(connection).unwrap().split();
    let client = sender.client::<Bytes>().timeout(None);
    let sending = async move {
        for number in 0..each() {
            sender.send_with(&word(number), nulls(number as usize % 3)).await.unwrap();
        }
    };
    let asking = async move {
        for number in 0..each() {
            let (answer, descriptors) = client.request_with(&word(number), nulls(1)).await.unwrap();
            assert!(answer[..] == word(number)[..] && descriptors.len() == 1);
        }
    };
    let receiving = async move {
        let mut next = 0;
        while let Some(arrival) = receiver.next().await.unwrap() {
            match arrival {
                Arrival::Message(parcel) => {
                    assert!(parcel.value[..] == word(next)[..], "in order");
                    assert_eq!(parcel.descriptors.len(), next as usize % 3);
                    next += 1;
                }
                Arrival::Request(parcel, responder) => {
                    responder.reply_with(&parcel.value, parcel.descriptors).await.unwrap();
                }
                _ => panic!("no gaps here"),
            }
        }
        assert_eq!(next, each());
    };
    tokio::join!(sending, asking, receiving);
}

#[test]
fn two_sides_of_tasks_flood_each_other_and_finish() {
    alone(|| {
        let (here, there) = pair(config());
        shrink_buffers([&here, &there]);
        runtime().block_on(async {
            tokio::join!(tasks(here), tasks(there));
        });
    });
}
