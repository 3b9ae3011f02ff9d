//! A primary and replicas: joining, resuming, snapshots while others write, falling behind, misbehaving.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use cluster_shared_state::protocol::{self, Join, ToPrimary, ToReplica};
use cluster_shared_state::{
    Cancelled, ClientId, Command, CommandError, Condition, Cursor, Epoch, Increment, LeaseId, Limits,
    Misbehaviour, Outcome, ProtocolError, Publisher, PublisherConfig, PublisherEvent, ReplicaConfig,
    ReplicaEvent, RequestError, Revision, Transaction,
};
use common::wire::{End, Wire};

fn events(wire: &mut Wire) -> Vec<PublisherEvent> {
    std::iter::from_fn(|| wire.publisher.poll_event()).collect()
}

fn replica_events(wire: &mut Wire, end: usize) -> Vec<ReplicaEvent> {
    std::iter::from_fn(|| wire.replica(end).poll_event()).collect()
}

#[test]
fn a_new_replica_gets_everything_by_a_snapshot() {
    let mut wire = Wire::new(PublisherConfig::new().chunk_bytes(200), 1);
    for number in 0..100 {
        wire.put(&format!("key/{number:03}"), "value");
    }
    wire.connect(0);
    wire.settle();
    wire.assert_equal();
    let snapshot = replica_events(&mut wire, 0);
    assert!(matches!(
        snapshot[..],
        [ReplicaEvent::Welcomed { join: Join::Snapshot, .. }, ReplicaEvent::Live { snapshot: Some(100), .. }]
    ));
    let told = events(&mut wire);
    let [PublisherEvent::Joined { join: Join::Snapshot, .. }, PublisherEvent::Live { sent, .. }] = told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((sent.entries, sent.deltas), (100, 0));
}

#[test]
fn a_replica_that_comes_back_soon_gets_deltas_only() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.put("a", "1");
    wire.connect(0);
    wire.settle();
    wire.disconnect(0);
    wire.put("b", "2");
    wire.delete("a");
    wire.connect(0);
    wire.settle();
    wire.assert_equal();
    let told = events(&mut wire);
    let Some(PublisherEvent::Live { sent, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!((sent.entries, sent.deltas), (0, 2));
}

#[test]
fn a_replica_resumes_up_to_the_oldest_commit_that_is_kept_and_not_one_before() {
    for (missed, join) in [(3, Join::Resume), (4, Join::Snapshot)] {
        let mut wire = Wire::new(PublisherConfig::new().history(3, usize::MAX), 1);
        wire.put("a", "0");
        wire.connect(0);
        wire.settle();
        wire.disconnect(0);
        for number in 0..missed {
            wire.put("a", &number.to_string());
        }
        wire.connect(0);
        wire.settle();
        wire.assert_equal();
        let told = replica_events(&mut wire, 0);
        let last = told.iter().rev().find_map(|it| match it {
            ReplicaEvent::Welcomed { join, .. } => Some(*join),
            _ => None,
        });
        assert_eq!(last, Some(join), "{missed} missed, 3 kept");
    }
}

#[test]
fn readers_see_the_old_state_until_a_snapshot_is_whole() {
    let mut wire = Wire::new(PublisherConfig::new().history(0, 0).chunk_bytes(1), 1);
    wire.put("a", "old");
    wire.put("b", "old");
    wire.connect(0);
    wire.settle();
    let old = wire.replica(0).state().clone();
    wire.disconnect(0);
    wire.put("a", "new");
    wire.put("c", "new");
    wire.connect(0);
    wire.say(0, 9);
    wire.hear(0, 9);
    wire.send(0, 99);
    let new = wire.state();
    let mut whole = false;
    wire.read(0, 99, |replica| {
        whole = replica.is_live();
        assert_eq!(*replica.state(), if whole { new.clone() } else { old.clone() });
    })
    .expect("it makes sense");
    assert!(whole);
}

#[test]
fn writes_during_a_snapshot_are_in_it_wherever_they_fall() {
    let mut wire = Wire::new(PublisherConfig::new().chunk_bytes(1), 1);
    for name in ["b", "d", "f", "h"] {
        wire.put(name, "before");
    }
    wire.connect(0);
    wire.say(0, 9);
    wire.hear(0, 9);
    // Welcome, Begin, and b.
    wire.send(0, 3);
    // Behind the cursor, before it, and both at once.
    wire.put("a", "behind");
    wire.delete("b");
    wire.put("c", "before");
    wire.delete("h");
    wire.put("h", "again");
    wire.put("e", "gone soon");
    wire.delete("e");
    let both = Transaction::new().then(Command::put("b", "again")).then(Command::delete("f"));
    wire.publisher.execute(both, wire.now).expect("it is allowed");
    wire.settle();
    wire.assert_equal();
    let told = events(&mut wire);
    assert!(matches!(told.last(), Some(PublisherEvent::Live { sent, .. }) if sent.deltas == 8), "{told:?}");
}

#[test]
fn a_replica_reads_its_write_when_it_is_answered() {
    let mut wire = Wire::new(PublisherConfig::new(), 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    for number in 0..20 {
        wire.put("noise", &number.to_string());
        let id = wire.replica(0).submit(Command::put("mine", number.to_string())).expect("there is room");
        wire.say(0, 9);
        wire.hear(0, 9);
        wire.put("noise", "more");
        wire.send(0, 99);
        let mut answered = false;
        wire.read(0, 99, |replica| {
            if let Some((got, result)) = replica.poll_completion() {
                assert_eq!(got, id);
                let revision = result.expect("it was put").revision;
                let mine = replica.state().get(&b"mine"[..]).expect("it was written");
                assert_eq!((mine.modified, &mine.value[..]), (revision, number.to_string().as_bytes()));
                assert_eq!(replica.cursor().map(|it| it.revision), Some(revision), "not more than that");
                answered = true;
            }
        })
        .expect("it makes sense");
        assert!(answered);
    }
    wire.settle();
    wire.assert_equal();
}

#[test]
fn a_slow_replica_falls_behind_alone_and_comes_back_by_a_snapshot() {
    let config = PublisherConfig::new().history(0, 0).queue_bytes(2000);
    let mut wire = Wire::new(config, 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    events(&mut wire);
    let ids: Vec<_> = (0..3)
        .map(|number| wire.replica(1).submit(Increment::new("mine", number)).expect("there is room"))
        .collect();
    wire.say(1, 9);
    wire.hear(1, 9);
    for number in 0..200 {
        wire.put("key", &format!("{number:0100}"));
        wire.send(0, 99);
        wire.read(0, 99, |_| ()).expect("it makes sense");
    }
    let told = events(&mut wire);
    let slow = wire.ends[1].client;
    assert!(matches!(told[..], [PublisherEvent::FellBehind { client, .. }] if client == slow), "{told:?}");
    assert!(wire.publisher.history().len() <= 1, "nobody needs it");
    let fast = wire.replica(0).cursor();
    assert_eq!(fast, Some(wire.publisher.cursor()), "the other one is not held up");
    wire.settle();
    wire.assert_equal();
    let told = events(&mut wire);
    assert!(
        matches!(told[..], [PublisherEvent::Resynchronised { client, .. }] if client == slow),
        "{told:?}"
    );
    for id in ids {
        assert!(matches!(wire.ends[1].completion(id), Some(Ok(_))), "answers wait for the snapshot");
    }
}

#[test]
fn a_replica_within_its_queue_is_kept_on_deltas_though_history_is_over() {
    let config = PublisherConfig::new().history(0, 0).queue_bytes(100_000);
    let mut wire = Wire::new(config, 1);
    wire.connect(0);
    wire.settle();
    for number in 0..200 {
        wire.put("key", &number.to_string());
    }
    assert_eq!(wire.publisher.history().len(), 200);
    wire.settle();
    wire.put("key", "end");
    wire.settle();
    wire.assert_equal();
    assert!(events(&mut wire).iter().all(|it| !matches!(it, PublisherEvent::FellBehind { .. })));
    assert!(wire.publisher.history().len() <= 1, "it was cut when nobody needed it");
}

#[test]
fn a_request_is_applied_once_over_reconnections() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    let ids: Vec<_> =
        (0..5).map(|_| wire.replica(0).submit(Increment::new("count", 1)).expect("there is room")).collect();
    for heard in 0..5 {
        // It says all, but only so many are heard, and no answer comes back.
        wire.say(0, 9);
        wire.hear(0, heard);
        wire.send(0, 99);
        wire.disconnect(0);
        wire.connect(0);
        wire.say(0, 1);
        wire.hear(0, 1);
        wire.send(0, 9);
        wire.read(0, 9, |_| ()).expect("it makes sense");
    }
    wire.settle();
    for (number, id) in (1..).zip(ids) {
        let answer = wire.ends[0].completion(id).expect("it is answered").as_ref().expect("it was done");
        assert_eq!(answer.outcome, Outcome::Number(number));
    }
    assert_eq!(wire.publisher.store().get("count").and_then(|it| it.number()), Some(5));
}

#[test]
fn requests_are_in_doubt_only_if_they_were_sent_to_another_primary() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.put("old", "state");
    wire.connect(0);
    wire.settle();
    let sent = wire.replica(0).submit(Increment::new("count", 1)).expect("there is room");
    let sync = wire.replica(0).sync().expect("there is room");
    wire.say(0, 9);
    let unsent = wire.replica(0).submit(Increment::new("count", 1)).expect("there is room");
    wire.disconnect(0);
    wire.publisher = Publisher::new(Epoch::new(8), PublisherConfig::new());
    wire.put("new", "state");
    let before = wire.replica(0).cursor().expect("it has a state");
    wire.connect(0);
    wire.settle();
    wire.assert_equal();
    let end = &wire.ends[0];
    assert_eq!(end.completion(sent), Some(&Err(RequestError::InDoubt)));
    assert!(matches!(end.completion(sync), Some(Ok(_))), "a sync may be sent to anyone");
    assert!(matches!(end.completion(unsent), Some(Ok(_))), "what was never sent is not in doubt");
    let told = replica_events(&mut wire, 0);
    assert!(told.iter().any(|it| matches!(it, ReplicaEvent::NewEpoch { from, .. } if *from == before)));
}

#[test]
fn requests_are_in_doubt_if_the_primary_forgot_the_client() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    let id = wire.replica(0).submit(Increment::new("count", 1)).expect("there is room");
    wire.say(0, 9);
    wire.hear(0, 9);
    let client = wire.ends[0].client;
    wire.disconnect(0);
    wire.publisher.handle_gone(client, wire.now);
    wire.connect(0);
    wire.settle();
    assert_eq!(wire.ends[0].completion(id), Some(&Err(RequestError::InDoubt)));
    assert_eq!(wire.publisher.store().get("count").and_then(|it| it.number()), Some(1), "not twice");
}

#[test]
fn a_missing_delta_is_noticed_and_never_applied() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.put("a", "1");
    wire.connect(0);
    wire.settle();
    wire.put("a", "2");
    wire.put("b", "3");
    let id = wire.replica(0).submit(Command::put("c", "4")).expect("there is room");
    wire.say(0, 9);
    wire.hear(0, 9);
    wire.send(0, 9);
    wire.ends[0].down.remove(0);
    let mut kept = None;
    wire.read(0, 9, |replica| {
        let state = replica.state().clone();
        assert_eq!(*kept.get_or_insert_with(|| state.clone()), state, "nothing after a gap is applied");
        assert!(replica.poll_completion().is_none(), "the state has not what was written");
    })
    .expect("it can go on");
    wire.settle();
    wire.assert_equal();
    assert!(wire.ends[0].completion(id).is_some());
    assert!(replica_events(&mut wire, 0).iter().any(|it| matches!(it, ReplicaEvent::Gap { .. })));
    assert!(events(&mut wire).iter().any(|it| matches!(it, PublisherEvent::AskedAgain { .. })));
}

#[test]
fn deltas_twice_or_in_another_order_are_a_gap() {
    for order in [[0, 0], [1, 0]] {
        let mut wire = Wire::new(PublisherConfig::new(), 1);
        wire.connect(0);
        wire.settle();
        wire.put("a", "1");
        wire.put("a", "2");
        wire.send(0, 9);
        let down: Vec<_> = wire.ends[0].down.drain(..).collect();
        wire.ends[0].down.extend(order.map(|place: usize| down[place].clone()));
        wire.read(0, 9, |_| ()).expect("it can go on");
        assert!(!wire.replica(0).is_live());
        wire.settle();
        wire.assert_equal();
    }
}

#[test]
fn a_reply_that_overtakes_its_delta_waits_for_the_state() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    let id = wire.replica(0).submit(Command::put("a", "1")).expect("there is room");
    wire.say(0, 9);
    wire.hear(0, 9);
    wire.send(0, 9);
    wire.ends[0].down.make_contiguous().reverse();
    wire.read(0, 9, |replica| {
        assert!(replica.poll_completion().is_none() || replica.state().contains_key(&b"a"[..]));
    })
    .expect("it can go on");
    wire.settle();
    wire.assert_equal();
    assert!(matches!(wire.ends[0].completion(id), Some(Ok(_))));
}

#[test]
fn whoever_misbehaves_is_cut_off_and_nobody_else() {
    let request = |number, acknowledged| ToPrimary::Request {
        number,
        acknowledged,
        command: Command::put("a", "1").into(),
    };
    let hello = |client, version, cursor| protocol::encode(&ToPrimary::Hello { version, client, cursor });
    let bad = ClientId::new(0, 1);
    let good = protocol::VERSION;
    let future = Cursor::new(Epoch::new(7), Revision::new(99));
    let greeted = hello(bad, good, None);
    let cases: Vec<(Vec<Bytes>, Misbehaviour)> = vec![
        (vec![Bytes::from_static(b"\xff\xff\xff")], Misbehaviour::Garbage),
        (vec![Bytes::new()], Misbehaviour::Garbage),
        (vec![[&greeted[..], b"more"].concat().into()], Misbehaviour::Garbage),
        (vec![greeted.clone(), greeted.clone()], Misbehaviour::HelloTwice),
        (vec![protocol::encode(&request(1, 0))], Misbehaviour::NoHello),
        (vec![hello(bad, 2, None)], Misbehaviour::Version { theirs: 2, ours: 1 }),
        (vec![hello(ClientId::new(1, 1), good, None)], Misbehaviour::WrongName),
        (
            vec![hello(bad, good, Some(future))],
            Misbehaviour::Future { theirs: future.revision, ours: Revision::new(1) },
        ),
        (
            vec![greeted.clone(), protocol::encode(&request(2, 0)), protocol::encode(&request(1, 0))],
            Misbehaviour::OldRequest { number: 1 },
        ),
        (
            std::iter::once(greeted.clone())
                .chain((1..=257).map(|number| protocol::encode(&request(number, 0))))
                .collect(),
            Misbehaviour::TooManyRequests { limit: 256 },
        ),
        (
            // It says that it has read what it was never sent.
            std::iter::once(greeted.clone())
                .chain((1..=257).map(|number| protocol::encode(&request(number, number))))
                .collect(),
            Misbehaviour::TooManyRequests { limit: 256 },
        ),
    ];
    for (messages, expected) in cases {
        let mut wire = Wire::new(PublisherConfig::new(), 2);
        wire.put("a", "0");
        wire.connect(1);
        wire.settle();
        events(&mut wire);
        wire.publisher.handle_connected(bad);
        for message in messages {
            wire.publisher.handle_message(bad, &message, wire.now);
        }
        let told = events(&mut wire);
        assert_eq!(told.last(), Some(&PublisherEvent::CutOff { client: bad, reason: expected.clone() }));
        let last = wire.publisher.poll_transmit(bad).expect("it is told why");
        assert_eq!(protocol::decode(&last), Some(ToReplica::CutOff { reason: expected }));
        assert_eq!(wire.publisher.poll_transmit(bad), None);
        wire.publisher.handle_message(bad, &greeted, wire.now);
        assert_eq!(events(&mut wire), [], "nothing of it is read any more");
        wire.put("b", "1");
        wire.settle();
        let state = wire.state();
        assert_eq!(*wire.replica(1).state(), state, "the other goes on");
    }
}

#[test]
fn a_replica_that_is_cut_off_tells_its_callers() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    let sent = wire.replica(0).submit(Command::put("a", "1")).expect("there is room");
    wire.say(0, 9);
    wire.ends[0].up.push_front(Bytes::from_static(b"\xff"));
    let unsent = wire.replica(0).submit(Command::put("a", "2")).expect("there is room");
    wire.hear(0, 9);
    wire.send(0, 9);
    wire.read(0, 9, |_| ()).expect("it makes sense");
    assert_eq!(wire.ends[0].completion(sent), Some(&Err(RequestError::InDoubt)));
    let cut_off = RequestError::CutOff(Misbehaviour::Garbage);
    assert_eq!(wire.ends[0].completion(unsent), Some(&Err(cut_off)));
    assert_eq!(wire.replica(0).cut_off_for(), Some(&Misbehaviour::Garbage));
}

#[test]
fn garbage_from_the_primary_is_an_error_and_changes_nothing() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.put("a", "1");
    wire.connect(0);
    wire.settle();
    let before = wire.replica(0).state().clone();
    let got = wire.replica(0).handle_message(Bytes::from_static(b"\xff\xff"));
    assert_eq!(got, Err(ProtocolError::Garbage));
    let chunk = protocol::encode(&ToReplica::Chunk { entries: Vec::new() });
    assert!(matches!(wire.replica(0).handle_message(chunk), Err(ProtocolError::Unexpected { .. })));
    assert_eq!(*wire.replica(0).state(), before);
}

#[test]
fn unread_answers_are_bounded_and_the_client_is_told() {
    let config = PublisherConfig::new().reply_bytes(10_000);
    let mut wire = Wire::new(config, 1);
    wire.put("big", &"x".repeat(4000));
    wire.connect(0);
    wire.settle();
    let command = || Command::put("big", "").when(Condition::Absent);
    let ids: Vec<_> = (0..6).map(|_| wire.replica(0).submit(command()).expect("room")).collect();
    wire.settle_slowly(0);
    let refused = |wire: &Wire, id| {
        matches!(wire.ends[0].completion(id), Some(Err(RequestError::Refused(CommandError::Busy { .. }))))
    };
    let count = ids.iter().filter(|id| refused(&wire, **id)).count();
    assert!((1..6).contains(&count), "{count} were refused");
    let id = wire.replica(0).submit(Command::put("big", "")).expect("room");
    wire.settle();
    assert!(matches!(wire.ends[0].completion(id), Some(Ok(_))), "afterwards there is room again");
}

#[test]
fn read_levels_complete_when_the_state_is_there() {
    let mut wire = Wire::new(PublisherConfig::new(), 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    wire.put("a", "1");
    let cursor = wire.publisher.cursor();
    assert!(!wire.replica(0).is_applied(cursor));
    let at_least = wire.replica(0).at_least(cursor).expect("room");
    assert!(wire.replica(0).poll_completion().is_none());
    let sync = wire.replica(1).sync().expect("room");
    wire.settle();
    for (end, id) in [(0, at_least), (1, sync)] {
        let answer = wire.ends[end].completion(id).expect("it is reached").as_ref().expect("it is reached");
        assert_eq!((answer.revision, &answer.outcome), (cursor.revision, &Outcome::Reached));
        assert!(wire.replica(end).is_applied(cursor));
    }
    let now = wire.replica(0).at_least(cursor).expect("room");
    assert_eq!(wire.replica(0).poll_completion().map(|it| it.0), Some(now), "it is there already");
    let other = Cursor::new(Epoch::new(9), Revision::new(1));
    let waits = wire.replica(0).at_least(other).expect("room");
    assert!(wire.replica(0).poll_completion().is_none());
    assert_eq!(wire.replica(0).cancel(waits), Cancelled::NeverSent);
}

#[test]
fn what_was_not_sent_can_be_taken_back() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    let first = wire.replica(0).submit(Command::put("a", "1")).expect("room");
    let second = wire.replica(0).submit(Command::put("b", "1")).expect("room");
    let third = wire.replica(0).submit(Command::put("c", "1")).expect("room");
    assert_eq!(wire.replica(0).cancel(second), Cancelled::NeverSent);
    assert_eq!(wire.replica(0).cancel(second), Cancelled::Unknown);
    wire.connect(0);
    wire.say(0, 1);
    wire.hear(0, 1);
    wire.send(0, 9);
    wire.read(0, 9, |_| ()).expect("it makes sense");
    wire.say(0, 1);
    assert_eq!(wire.replica(0).cancel(first), Cancelled::Sent);
    wire.settle();
    wire.assert_equal();
    let end = &wire.ends[0];
    assert_eq!(end.completion(first), None);
    assert!(matches!(end.completion(third), Some(Ok(_))));
    assert_eq!(wire.state().len(), 2);
}

#[test]
fn a_replica_that_has_too_much_outstanding_gives_commands_back() {
    let mut end = End::new(ClientId::new(0, 1), ReplicaConfig::new().requests(1));
    end.replica.submit(Command::put("a", "1")).expect("it is the first");
    let full = end.replica.submit(Command::put("b", "2")).expect_err("it is one too many");
    assert_eq!(full.into_command(), Some(Command::put("b", "2").into()));
}

#[test]
fn keys_of_a_worker_vanish_in_one_revision_when_it_is_gone_and_not_before() {
    let mut wire = Wire::new(PublisherConfig::new(), 2);
    wire.connect(0);
    wire.connect(1);
    wire.settle();
    let grant = wire.replica(0).submit(Command::grant(None)).expect("room");
    wire.settle();
    let lease = granted(&wire, 0, grant);
    for key in ["one", "two"] {
        wire.replica(0).submit(Command::put(key, "mine").lease(lease)).expect("room");
    }
    wire.settle();
    let stolen = wire.replica(1).submit(Command::put("three", "theirs").lease(lease)).expect("room");
    wire.settle();
    let refused = RequestError::Refused(CommandError::ForeignLease { lease });
    assert_eq!(wire.ends[1].completion(stolen), Some(&Err(refused)));
    let client = wire.ends[0].client;
    wire.disconnect(0);
    wire.later(Duration::from_secs(3600));
    assert_eq!(wire.state().len(), 2, "a lost connection is no death");
    let before = wire.publisher.cursor().revision;
    wire.publisher.handle_gone(client, wire.now);
    assert_eq!(wire.state().len(), 0);
    assert_eq!(wire.publisher.cursor().revision, before.next(), "in one revision");
    wire.settle();
    assert!(wire.replica(1).state().is_empty());
}

fn granted(wire: &Wire, end: usize, id: cluster_shared_state::RequestId) -> LeaseId {
    match wire.ends[end].completion(id) {
        Some(Ok(answer)) => match answer.outcome {
            Outcome::Granted(lease) => lease,
            _ => panic!("{answer:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn replicas_never_expire_anything_by_themselves() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.replica(0).submit(Command::put("a", "1").ttl(Duration::from_secs(1))).expect("room");
    wire.settle();
    wire.now += Duration::from_secs(60);
    assert_eq!(wire.replica(0).state().len(), 1, "it was not said yet");
    let count = wire.replica(0).submit(Increment::new("a", 1)).expect("room");
    wire.settle();
    wire.assert_equal();
    let answer = wire.ends[0].completion(count).expect("answered").as_ref().expect("it is a new one");
    assert_eq!(answer.outcome, Outcome::Number(1), "it had expired before");
}

#[test]
fn more_requests_than_the_window_are_sent_as_answers_come() {
    let config = PublisherConfig::new().limits(Limits::new().requests(4));
    let mut wire = Wire::new(config, 1);
    wire.connect(0);
    let ids: Vec<_> =
        (0..100).map(|_| wire.replica(0).submit(Increment::new("count", 1)).expect("room")).collect();
    wire.settle();
    assert!(ids.iter().all(|id| matches!(wire.ends[0].completion(*id), Some(Ok(_)))));
    assert_eq!(wire.publisher.store().get("count").and_then(|it| it.number()), Some(100));
}
