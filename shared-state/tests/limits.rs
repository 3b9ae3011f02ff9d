//! What there may be at most: keys, bytes, watchers, requests, what is kept for those who don't keep up. What goes
//! beyond is refused with an error that says how much may be, and nobody else notices.
//!
//! Nothing here looks at a clock: what others notice is counted in messages, memory by the allocator.
#![allow(clippy::print_stdout, reason = "figures for who reads them")]
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use bytes::Bytes;
use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::{
    Append, ChangeKind, ClientId, Command, CommandError, Condition, Delete, Epoch, Increment, KeyRange,
    Limits, Misbehaviour, Notice, Outcome, Publisher, PublisherConfig, PublisherEvent, Put, Replica,
    ReplicaConfig, RequestError, Transaction, Watch,
};
use common::raw::{Raw, fill, key};
use common::wire::{State, Wire};

fn publisher(config: PublisherConfig) -> Publisher {
    Publisher::new(Epoch::new(1), config)
}

fn events(publisher: &mut Publisher) -> Vec<PublisherEvent> {
    std::iter::from_fn(|| publisher.poll_event()).collect()
}

const MIB: usize = 1 << 20;

#[test]
fn a_million_keys_and_not_one_more() {
    let now = Instant::now();
    let config = PublisherConfig::new().limits(Limits::new().operations(4096));
    let limit = config.limits.keys;
    let mut publisher = publisher(config);
    let mut writer = Raw::live(&mut publisher, 1, now);
    fill(&mut publisher, limit, now);
    while publisher.poll_transmit(writer.client).is_some() {}
    assert_eq!((publisher.store().len(), limit), (1_048_576, 1_048_576));

    // One more is refused; what makes it no more is not.
    let (_, refused) = writer.ask(&mut publisher, Put::new("one more", "x"), now);
    let error = refused.expect_err("there is no room");
    assert_eq!(error, CommandError::TooManyKeys { keys: limit as u64 + 1, limit: limit as u64 });
    assert_eq!(error.to_string(), "1048577 keys would be more than the limit of 1048576");
    let (_, done) = writer.ask(&mut publisher, Put::new(key(0), "another"), now);
    done.expect("the key is there");
    let exchange = Transaction::new().then(Put::new("one more", "x")).then(Delete::new(key(1)));
    writer.ask(&mut publisher, exchange, now).1.expect("one comes and one goes");

    // One who comes late gets all of them in chunks, a message at a time. Between any two of its messages the
    // writer writes and asks.
    events(&mut publisher);
    let client = ClientId::new(2, 1);
    let mut late = Replica::new(client, ReplicaConfig::new(), State::new());
    publisher.handle_connected(client);
    late.handle_connected();
    let hello = late.poll_transmit().expect("it says hello");
    publisher.handle_message(client, &hello, now);
    let (mut chunks, mut deltas, mut peak) = (0, 0, 0);
    while !late.is_live() {
        assert!(chunks + deltas < 50_000, "it never becomes live");
        let mut message = None;
        let used = measure(|| message = publisher.poll_transmit(client));
        let message = message.expect("there is more");
        peak = peak.max(used.bytes_max);
        match message.first() {
            Some(3) => {
                chunks += 1;
                assert!(message.len() <= config.chunk_bytes, "a chunk of {}", message.len());
            }
            _ => deltas += 1,
        }
        late.handle_message(message).expect("it makes sense");
        let number = (chunks * 7919 + deltas * 31) % limit;
        let (messages, done) = writer.ask(&mut publisher, Put::new(key(number.max(2)), "written"), now);
        done.expect("the key is there");
        assert_eq!(messages, 2, "the delta and the answer");
        let number = writer.sync(&mut publisher, now);
        assert_eq!(number, 1, "the answer");
    }
    let told = events(&mut publisher);
    let Some(PublisherEvent::Live { sent, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(sent.entries as usize, limit);
    println!(
        "join: {chunks} chunks, {} bytes, {} deltas; a message takes {peak} bytes",
        sent.chunk_bytes, sent.deltas
    );
    // Vector and message of a chunk; nothing that grows with the state.
    assert!(peak <= 8 * config.chunk_bytes as u64, "{peak} bytes to make a message");
    while let Some(message) = publisher.poll_transmit(client) {
        late.handle_message(message).expect("it makes sense");
    }
    assert!(late.cursor() == Some(publisher.cursor()) && late.state().len() == limit);
    assert!(late.state().iter().eq(publisher.store().range(&KeyRange::All)), "it has something else");
    let history = publisher.history();
    let kept = history.bytes_from(history.oldest()).expect("it is the oldest");
    assert!(kept <= config.history_bytes as u64 && history.len() <= config.history_entries);

    // All of them go at once, by one short command; everybody is told, by one long message.
    let watching = publisher.watch(Watch::new(KeyRange::key(key(7)))).expect("there is room");
    let (messages, done) = writer.ask(&mut publisher, Command::delete_range(KeyRange::All), now);
    let done = done.expect("whatever makes it less may be done");
    assert_eq!(done.outcome, Outcome::Deleted { keys: limit as u64, previous: None });
    assert_eq!(messages, 2, "the delta and the answer");
    assert!(publisher.store().is_empty() && publisher.store().bytes() == 0);
    let message = publisher.poll_transmit(client).expect("it is told");
    println!("all deleted: a message of {} bytes", message.len());
    // Length, key, kind, no entry: for keys of 11 bytes, 14 for each.
    assert!(message.len() <= limit * 14 + 16, "a message of {} bytes", message.len());
    late.handle_message(message).expect("it makes sense");
    assert!(late.state().is_empty() && publisher.poll_transmit(client).is_none());
    assert_eq!(publisher.poll_ready(), Some(watching));
    let Some(Notice::Changes(batch)) = publisher.poll_notice(watching) else { panic!("it is told") };
    assert_eq!((batch.events.len(), batch.events[0].kind), (1, ChangeKind::Deleted));
    assert!(events(&mut publisher).is_empty(), "nobody fell behind");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_stored() {
    let now = Instant::now();
    let mut publisher = publisher(PublisherConfig::new());
    let other = Raw::live(&mut publisher, 1, now);
    let mut writer = Raw::live(&mut publisher, 2, now);
    let bytes = |length| Bytes::from(vec![7; length]);
    let mut goes = |publisher: &mut Publisher, command: Command| {
        let answer = writer.ask(publisher, command, now).1.expect("it is at the limit, not beyond");
        // Others are told of what changed.
        while publisher.poll_transmit(other.client).is_some() {}
        answer
    };
    goes(&mut publisher, Put::new("value", bytes(MIB)).into());
    goes(&mut publisher, Put::new(vec![b'k'; 1024], "x").into());
    goes(&mut publisher, Append::new("appended", bytes(MIB - 1)).into());
    // Keys count: two values and two keys make a command of just two MiB.
    let pair = |last| Transaction::new().then(Put::new("a", bytes(MIB))).then(Put::new("b", bytes(last)));
    goes(&mut publisher, pair(MIB - 2).into());
    goes(&mut publisher, Put::new("c", bytes(3)).into());
    let both = |with: &str| {
        let previous = |key: &str| Put::new(key, "x").returning_previous();
        Transaction::new().then(previous("value")).then(previous("a")).then(previous(with))
    };
    let many = |count| (0..count).fold(Transaction::new(), |all, _| all.then(Increment::new("n", 1)));
    goes(&mut publisher, many(128).into());

    let cursor = publisher.cursor();
    let state = publisher.store().bytes();
    let beyond: [(Command, CommandError); 9] = [
        (
            Put::new("value", bytes(MIB + 1)).into(),
            CommandError::ValueTooLong { length: 1_048_577, limit: 1_048_576 },
        ),
        (
            Append::new("appended", "xx").into(),
            CommandError::ValueTooLong { length: 1_048_577, limit: 1_048_576 },
        ),
        (
            Put::new("a", "x").when(Condition::Value(bytes(MIB + 1))),
            CommandError::ValueTooLong { length: 1_048_577, limit: 1_048_576 },
        ),
        (Put::new(vec![b'k'; 1025], "x").into(), CommandError::KeyTooLong { length: 1025, limit: 1024 }),
        (
            Command::delete_range(KeyRange::prefix(vec![b'k'; 1025])),
            CommandError::KeyTooLong { length: 1025, limit: 1024 },
        ),
        (Put::new("", "x").into(), CommandError::EmptyKey),
        (pair(MIB - 1).into(), CommandError::CommandTooLong { bytes: 2_097_153, limit: 2_097_152 }),
        (both("c").into(), CommandError::AnswerTooLong { bytes: 2_097_155, limit: 2_097_152 }),
        (many(129).into(), CommandError::TooManyOperations { operations: 129, limit: 128 }),
    ];
    for (command, expected) in beyond {
        let (messages, refused) = writer.ask(&mut publisher, command, now);
        assert_eq!(refused.expect_err("it is beyond the limit"), expected);
        assert_eq!(messages, 1, "the answer");
        assert!(expected.to_string().len() < 100, "it does not repeat what was sent: {expected}");
        assert_eq!((publisher.cursor(), publisher.store().bytes()), (cursor, state), "nothing changed");
        assert!(publisher.poll_transmit(other.client).is_none(), "others are told nothing");
    }
    // Without the last one the answer is of just two MiB.
    let (_, answer) = writer.ask(&mut publisher, both("not there"), now);
    answer.expect("it is at the limit");
    assert!(publisher.is_live(writer.client) && publisher.is_live(other.client));
}

/// Also what a condition alone gives back.
#[test]
fn what_a_conflict_returns_is_within_the_limit_of_answers() {
    let now = Instant::now();
    let config = PublisherConfig::new().limits(Limits::new().answer_bytes(1000));
    for (length, is_within) in [(1000, true), (1001, false)] {
        let mut publisher = publisher(config);
        publisher.execute(Put::new("a", vec![7; length]), now).expect("it is short");
        let alone = Put::new("a", "x").when(Condition::Absent);
        let together = Transaction::new().when("a", Condition::Absent).then(Put::new("a", "x"));
        for command in [alone, together.into()] {
            match publisher.execute(command, now) {
                Ok(answer) => assert!(answer.is_conflict() && is_within, "{length} bytes"),
                Err(error) => {
                    assert_eq!(error, CommandError::AnswerTooLong { bytes: 1001, limit: 1000 });
                    assert!(!is_within);
                }
            }
        }
    }
}

#[test]
fn all_together_are_within_the_limit_and_the_history_is_within_its_own() {
    let now = Instant::now();
    let config = PublisherConfig::new();
    let limit = config.limits.total_bytes;
    let mut publisher = publisher(config);
    // All share one value, so what is allocated is what is kept beside the state.
    let value = Bytes::from(vec![7; MIB - 8]);
    let used = measure(|| {
        for number in 0..256 {
            publisher.execute(Put::new(format!("k/{number:06}"), value.clone()), now).expect("there is room");
        }
    });
    assert_eq!(publisher.store().bytes(), limit);
    for (key, value) in [("one more", ""), ("k/000007", "longer by one")] {
        let value = if value.is_empty() { Bytes::new() } else { Bytes::from(vec![7; MIB - 7]) };
        let bytes = (limit + if value.is_empty() { 8 } else { 1 }) as u64;
        let refused = publisher.execute(Put::new(key, value), now).expect_err("there is no room");
        assert_eq!(refused, CommandError::StoreFull { bytes, limit: limit as u64 });
    }
    let history = publisher.history();
    let kept = history.bytes_from(history.oldest()).expect("it is the oldest");
    println!("256 MiB written: history {kept} bytes, allocated {} at most", used.bytes_max);
    assert!(kept <= config.history_bytes as u64 && used.bytes_max <= 20 * MIB as u64, "{used:?}");
    publisher.execute(Command::delete("k/000007"), now).expect("it makes room");
    publisher.execute(Put::new("one more", "x"), now).expect("there is room");
}

/// What no replica of ours would send is not even read; a replica refuses to send it.
#[test]
fn a_list_that_is_too_long_is_not_read() {
    let mut wire = Wire::new(PublisherConfig::new(), 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    let many = |count| (0..count).fold(Transaction::new(), |all, _| all.then(Delete::new("k")));
    let refused = wire.replica(0).submit(many(4097)).expect("there is room");
    let tried = wire.replica(0).submit(many(4096)).expect("there is room");
    wire.settle();
    for (request, operations, limit) in [(refused, 4097, 4096), (tried, 4096, 128)] {
        let expected = CommandError::TooManyOperations { operations, limit };
        assert_eq!(wire.ends[0].completion(request), Some(&Err(RequestError::Refused(expected))));
    }
    let message =
        protocol::encode(&ToPrimary::Request { number: 9, acknowledged: 0, command: many(4097).into() });
    let (now, client) = (wire.now, wire.ends[1].client);
    let used = measure(|| wire.publisher.handle_message(client, &message, now));
    assert!(used.bytes_max < 4096, "{used:?}");
    assert!(matches!(
        events(&mut wire.publisher).last(),
        Some(PublisherEvent::CutOff { reason: Misbehaviour::Garbage, .. })
    ));
    wire.put("a", "1");
    wire.settle();
    assert!(wire.replica(0).is_live() && wire.replica(0).state().len() == 1);
}

#[test]
fn a_worker_that_writes_without_pause_holds_up_nobody() {
    let now = Instant::now();
    let config = PublisherConfig::new();
    let window = config.limits.requests as u64;
    let mut publisher = publisher(config);
    let mut writer = Raw::live(&mut publisher, 1, now);
    let mut other = Raw::live(&mut publisher, 2, now);
    for _ in 0..window {
        writer.request(&mut publisher, window, Put::new("mine", "x"), now);
    }
    let mut most = 0;
    for round in 0..10_000 {
        // As each answer is read, the next request is there: the window is always full.
        while let Some(message) = publisher.poll_transmit(writer.client) {
            if matches!(protocol::decode(&message), Some(ToReplica::Reply { .. })) {
                break;
            }
        }
        writer.request(&mut publisher, window, Put::new("mine", "x"), now);
        if round % 10 == 9 {
            let (messages, done) = other.ask(&mut publisher, Put::new("other", "y"), now);
            done.expect("it is allowed");
            most = most.max(messages);
        }
    }
    // The first time all of the window had been written. Then: what was, since it was there last.
    println!("an answer came after {most} messages at most");
    assert!(most <= window as usize + 12, "{most} messages");
    // One more than may be under way, and it is cut off; what it wrote is there.
    for _ in 0..2 * window {
        writer.request(&mut publisher, u64::MAX, Put::new("mine", "x"), now);
    }
    let limit = window;
    let reason = Misbehaviour::TooManyRequests { limit };
    assert_eq!(
        events(&mut publisher).last(),
        Some(&PublisherEvent::CutOff { client: writer.client, reason })
    );
    other.ask(&mut publisher, Put::new("other", "z"), now).1.expect("it is allowed");
}

#[test]
fn a_replica_that_never_reads_costs_a_bounded_amount_and_comes_back_by_a_snapshot() {
    let mut wire = Wire::new(PublisherConfig::new(), 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    drop(events(&mut wire.publisher));
    let cap = PublisherConfig::new().queue_bytes as u64;
    let (now, writer, slow) = (wire.now, wire.ends[0].client, wire.ends[1].client);
    // It asks for all that it may, and reads nothing.
    for _ in 0..1024 {
        drop(wire.replica(1).submit(Put::new("asked", vec![7; 1 << 10]).returning_previous()));
    }
    wire.say(1, usize::MAX);
    wire.hear(1, usize::MAX);
    for (length, rounds) in [(0, 300_000), (1 << 10, 70_000), (1 << 16, 1_000)] {
        let value = Bytes::from(vec![7; length]);
        let (mut most, mut entries) = (0, 0);
        let used = measure(|| {
            for round in 0..rounds {
                let put = Put::new(format!("key/{:03}", round % 100), value.clone());
                wire.publisher.execute(put, now).expect("there is room");
                while wire.publisher.poll_transmit(writer).is_some() {}
                let history = wire.publisher.history();
                most = most.max(history.bytes_from(history.oldest()).unwrap_or(0));
                entries = entries.max(history.len());
            }
        });
        println!(
            "values of {length}: {entries} commits of {most} bytes kept, {} allocated at most",
            used.bytes_max
        );
        assert!(most <= cap, "{most} bytes are kept for it");
        assert!(used.bytes_max <= 2 * cap, "{used:?}");
    }
    let told = events(&mut wire.publisher);
    assert!(matches!(told[..], [PublisherEvent::FellBehind { client, .. }] if client == slow), "{told:?}");
    assert!(!wire.publisher.is_live(slow) && wire.publisher.is_live(writer));
    // It reads again.
    wire.send(1, usize::MAX);
    wire.read(1, usize::MAX, |_| ()).expect("it makes sense");
    assert!(wire.replica(1).is_live());
    assert_eq!(wire.ends[1].completions.len(), 256, "it is answered what it had asked");
    let told = events(&mut wire.publisher);
    let [PublisherEvent::Resynchronised { client, sent, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!((client, sent.entries, sent.deltas), (slow, 101, 0));
    assert!(wire.ends[1].replica.state().iter().eq(wire.publisher.store().range(&KeyRange::All)));
}

#[test]
fn who_says_nothing_or_nonsense_costs_nothing_and_harms_nobody() {
    let now = Instant::now();
    let mut publisher = publisher(PublisherConfig::new());
    let mut other = Raw::live(&mut publisher, 0, now);
    drop(events(&mut publisher));
    // A thousand connect and never say hello.
    let used = measure(|| (1..=1000).for_each(|number| publisher.handle_connected(ClientId::new(number, 1))));
    println!("a connection without hello: {} bytes", used.bytes_max / 1000);
    assert!(used.bytes_max / 1000 < 1024, "{used:?}");
    let used = measure(|| {
        for round in 0..10_000 {
            let put = Put::new("a", round.to_string());
            assert_eq!(other.ask(&mut publisher, put, now).0, 2, "the delta and the answer");
        }
    });
    println!("10,000 writes, a thousand without hello: {} bytes remain", used.bytes_current);
    assert!((1..=1000).all(|number| publisher.poll_transmit(ClientId::new(number, 1)).is_none()));
    // Others say hello, and then nonsense without end.
    let nonsense = vec![0xff; 4 * MIB];
    for number in 1001..=1600 {
        let raw = Raw::connect(&mut publisher, number, now);
        publisher.handle_message(raw.client, &nonsense, now);
        let used = measure(|| (0..100).for_each(|_| publisher.handle_message(raw.client, &nonsense, now)));
        assert_eq!(used.count_total, 0, "what comes after is not read");
        let last: Vec<_> = std::iter::from_fn(|| publisher.poll_transmit(raw.client)).collect();
        assert_eq!(last, [protocol::encode(&ToReplica::CutOff { reason: Misbehaviour::Garbage })]);
        assert_eq!(other.ask(&mut publisher, Put::new("a", "b"), now).0, 2, "the delta and the answer");
    }
    assert_eq!(publisher.replicas().count(), 1001);
    assert!(events(&mut publisher).len() <= 1024, "who does not ask for events does not collect them");
}

#[test]
fn ten_thousand_leases_and_keys_that_are_due_at_once_go_in_one_commit() {
    const MANY: usize = 10_000;
    let now = Instant::now();
    let config = PublisherConfig::new().limits(Limits::new().leases(MANY));
    let mut publisher = publisher(config);
    let mut other = Raw::live(&mut publisher, 1, now);
    let watching = publisher.watch(Watch::new(KeyRange::All).capacity(1)).expect("there is room");
    let minute = Duration::from_secs(60);
    for number in 0..MANY {
        let granted = publisher.execute(Command::grant(Some(minute)), now).expect("it may have so many");
        let Outcome::Granted(lease) = granted.outcome else { panic!("{granted:?}") };
        publisher
            .execute(Put::new(format!("lease/{number}"), "x").lease(lease), now)
            .expect("it has the lease");
        publisher.execute(Put::new(format!("ttl/{number}"), "x").ttl(minute), now).expect("there is room");
    }
    let refused = publisher.execute(Command::grant(None), now).expect_err("these are all it may have");
    assert_eq!(refused, CommandError::TooManyLeases { limit: MANY as u64 });
    other.ask(&mut publisher, Put::new("stays", "x"), now).1.expect("it is allowed");
    while publisher.poll_notice(watching).is_some() {}

    assert_eq!(publisher.poll_timeout(), Some(now + minute));
    publisher.handle_timeout(now + minute - Duration::from_nanos(1));
    assert_eq!(publisher.store().len(), 2 * MANY + 1);
    let before = publisher.cursor().revision;
    // Whoever writes at that moment goes on, and sees nothing of them any more.
    let (messages, done) = other.ask(&mut publisher, Put::new("stays", "y"), now + minute);
    assert_eq!(done.expect("it is allowed").revision, before.next().next());
    assert_eq!(messages, 3, "what was due in one delta, its own, the answer");
    assert_eq!((publisher.store().len(), publisher.store().leases()), (1, 0));
    assert_eq!(publisher.poll_timeout(), None);
    let Some(Notice::Changes(batch)) = publisher.poll_notice(watching) else { panic!("it is told") };
    let expired = batch.events.iter().filter(|it| it.kind == ChangeKind::Expired).count();
    let gone = batch.events.iter().filter(|it| it.kind == ChangeKind::LeaseGone).count();
    assert_eq!((expired, gone), (MANY, MANY));
}
