//! What is on the wire: it must not change, and whatever comes must not harm.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_shared_state::protocol::{self, Join, Memory, ToPrimary, ToReplica};
use cluster_shared_state::{
    Answer, ClientId, Command, CommandError, Condition, Cursor, Delete, Epoch, Increment, KeyRange, LeaseId,
    Limits, Misbehaviour, Outcome, PlainReplica, Publisher, PublisherConfig, ReplicaConfig, RequestError,
    Revision, Store, Transaction,
};
use common::wire::{State, Wire};
use common::{Repeat, seeds};

const SCHEDULES: u64 = 2000;
const CLIENT: ClientId = ClientId::new(2, 3);

fn hello() -> ToPrimary {
    let cursor = Some(Cursor::new(Epoch::new(4), Revision::new(5)));
    ToPrimary::Hello { version: 1, client: CLIENT, cursor }
}

fn request(number: u64, command: impl Into<Command>) -> ToPrimary {
    ToPrimary::Request { number, acknowledged: 1, command: command.into() }
}

#[test]
fn bytes_on_the_wire_stay_as_they_are() {
    let to_primary: Vec<(ToPrimary, &[u8])> = vec![
        (hello(), b"\0\x01\x02\x03\x01\x04\x05"),
        (request(2, Command::put("k", "v")), b"\x01\x02\x01\0\0\0\x01k\x01v\0\0\0"),
        (
            request(2, Command::put("k", "v").ttl(Duration::from_secs(9)).when(Condition::Absent)),
            b"\x01\x02\x01\0\x01\x01k\0\0\x01k\x01v\0\x01\x09\0\0",
        ),
        (request(2, Command::delete("k").returning_previous()), b"\x01\x02\x01\0\0\x01\x01k\x01"),
        (request(2, Command::delete_range(KeyRange::prefix("k"))), b"\x01\x02\x01\0\0\x02\x01\x01k"),
        (
            request(2, Increment::new("k", -1).at_least(0).at_most(1)),
            b"\x01\x02\x01\0\0\x03\x01k\x01\0\0\x02\0\0",
        ),
        (request(2, Command::append("k", "v")), b"\x01\x02\x01\0\0\x04\x01k\x01v\0\0"),
        (
            request(2, Transaction::new().when("k", Condition::Present).otherwise(Delete::new("k"))),
            b"\x01\x02\x01\x01\x01\x01k\x01\0\x01\x01\x01k\0",
        ),
        (request(2, Command::grant(None)), b"\x01\x02\x01\x02\0"),
        (ToPrimary::Sync { number: 6 }, b"\x02\x06"),
        (ToPrimary::Resync, b"\x03"),
    ];
    for (message, bytes) in to_primary {
        assert_eq!(protocol::encode(&message), bytes, "{message:?}");
        assert_eq!(protocol::decode(bytes), Some(message));
    }
    let welcome = ToReplica::Welcome {
        epoch: Epoch::new(4),
        join: Join::Snapshot,
        memory: Memory::Unknown,
        window: 7,
        command_bytes: 9,
    };
    let cut_off = ToReplica::CutOff { reason: Misbehaviour::HelloTwice };
    let refused = ToReplica::Reply {
        number: 1,
        at: Revision::new(2),
        result: Err(CommandError::KeyTooLong { length: 3, limit: 4 }),
    };
    let to_replica: Vec<(ToReplica, &[u8])> = vec![
        (welcome, b"\0\x04\x01\x01\x07\t"),
        (ToReplica::Begin { revision: Revision::new(1) }, b"\x02\x01"),
        (ToReplica::Chunk { entries: Vec::new() }, b"\x03\0"),
        (ToReplica::Live { revision: Revision::new(1) }, b"\x04\x01"),
        (refused, b"\x05\x01\x02\x01\x01\x03\x04"),
        (ToReplica::Synced { number: 1, at: Revision::new(2) }, b"\x06\x01\x02"),
        (cut_off, b"\x07\x04"),
    ];
    for (message, bytes) in to_replica {
        assert_eq!(protocol::encode(&message), bytes, "{message:?}");
        assert_eq!(protocol::decode(bytes), Some(message));
    }
}

#[test]
fn a_delta_is_encoded_as_it_was() {
    let now = Instant::now();
    let mut store = Store::new(Epoch::new(1), Limits::new());
    let both = Transaction::new().then(Command::put("a", "b").ttl(Duration::new(1, 2)));
    store.execute(CLIENT, both.into(), now).expect("it is allowed");
    let message = ToReplica::Delta(store.poll_commit().expect("it changed"));
    let bytes = b"\x01\x01\x01\x01a\0\x01\x01b\x01\x01\x01\0\x01\x01\x02";
    assert_eq!(protocol::encode(&message), &bytes[..]);
    assert_eq!(protocol::decode(bytes), Some(message));
}

#[test]
fn lengths_that_promise_too_much_are_garbage() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for start in [&b"\x01\x02\x01\x01"[..], b"\x01\x02\x01\0\0\0", b"\x03", b"\x01\x01"] {
        let message = [start, &huge].concat();
        assert_eq!(protocol::decode::<ToPrimary>(&message), None);
        assert_eq!(protocol::decode::<ToReplica>(&message), None);
    }
}

#[test]
fn a_transaction_beyond_all_limits_is_refused_on_this_side() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    for (length, limit) in [(128, None), (129, Some(128)), (4096, Some(128)), (4097, Some(4096))] {
        let transaction = (0..length).fold(Transaction::new(), |it, _| it.then(Delete::new("a")));
        let id = wire.replica(0).submit(transaction).expect("there is room");
        wire.settle();
        let refused = match wire.ends[0].completion(id) {
            Some(Ok(_)) => None,
            Some(Err(RequestError::Refused(CommandError::TooManyOperations { limit, .. }))) => Some(*limit),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused, limit, "{length} operations");
        assert_eq!(wire.replica(0).cut_off_for(), None);
    }
}

/// Bytes that are nearly messages: neither side panics, and others are not harmed.
#[test]
fn garbage_harms_nobody() {
    let now = Instant::now();
    for seed in seeds(SCHEDULES) {
        let _repeat = Repeat { test: "protocol", seed };
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut publisher = Publisher::new(Epoch::new(4), PublisherConfig::new().chunk_bytes(50));
        for key in ["a", "b", "c", "d", "e"] {
            publisher.execute(Command::put(key, "1").ttl(Duration::from_secs(1)), now).expect("allowed");
        }
        publisher.handle_connected(CLIENT);
        let mut replica = PlainReplica::new(CLIENT, ReplicaConfig::new(), State::new());
        replica.handle_connected();
        for _ in 0..40 {
            if rng.u32(0..4) == 0 {
                let command: Command = match rng.u32(0..5) {
                    0 => Command::put("a", "2").returning_previous().into(),
                    1 => Command::grant(Some(Duration::from_secs(1))),
                    2 => Transaction::new().when("a", Condition::Absent).otherwise(KeyRange::All).into(),
                    3 => Increment::new("n", 1).starting_at(i64::MAX).into(),
                    _ => Command::keep_alive(lease()),
                };
                let _ = replica.submit(command);
            }
            if let Some(message) = replica.poll_transmit() {
                publisher.handle_message(CLIENT, &spoil(&message, &mut rng), now);
            }
            if let Some(message) = publisher.poll_transmit(CLIENT) {
                let _ = replica.handle_message(spoil(&message, &mut rng));
            }
            while replica.poll_completion().is_some() {}
            if rng.u32(0..20) == 0 {
                replica.handle_connected();
                publisher.handle_connected(CLIENT);
            }
        }
        publisher.handle_gone(CLIENT, now + Duration::from_secs(2));
        let after: Answer = publisher.execute(Command::put("z", "1"), now).expect("it still works");
        assert_eq!(after.outcome, Outcome::Put { previous: None });
    }
}

fn lease() -> LeaseId {
    protocol::decode(&[4, 1]).expect("an epoch and a number")
}

fn spoil(message: &Bytes, rng: &mut fastrand::Rng) -> Bytes {
    let mut bytes = message.to_vec();
    match rng.u32(0..12) {
        0 => bytes.truncate(rng.usize(0..=message.len())),
        1 => bytes.extend((0..rng.usize(1..5)).map(|_| rng.u8(..))),
        2..4 if !bytes.is_empty() => {
            let place = rng.usize(0..bytes.len());
            bytes[place] = rng.u8(..);
        }
        4 => bytes = (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect(),
        _ => {}
    }
    bytes.into()
}
