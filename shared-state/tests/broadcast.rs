//! Deltas by a broadcast: tuning in, holding answers back, missing some, and a lane that is behind.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::{
    Command, KeyRange, Misbehaviour, ProtocolError, PublisherConfig, PublisherEvent, ReplicaEvent, Revision,
    Watch,
};
use common::wire::Wire;

/// One replica that listens, live and tuned, at revision 1; what was broadcast so far.
fn tuned(config: PublisherConfig) -> (Wire, Vec<(Revision, bytes::Bytes)>) {
    let mut wire = Wire::new(config, 1);
    wire.put("a", "1");
    assert_eq!(wire.publisher.poll_broadcast(), None, "nobody listens");
    wire.connect(0);
    let client = wire.ends[0].client;
    wire.publisher.handle_listening(client);
    wire.replica(0).handle_listening();
    wire.settle();
    assert_eq!(wire.publisher.poll_broadcast(), None, "it has all by its lane");
    assert!(wire.publisher.is_tuned(client) && wire.publisher.is_live(client) && wire.replica(0).is_live());
    assert_eq!(wire.replica(0).poll_broadcast(), Some(Revision::new(2)));
    (wire, Vec::new())
}

/// All that is to be broadcast is.
fn say(wire: &mut Wire, air: &mut Vec<(Revision, bytes::Bytes)>) {
    air.extend(std::iter::from_fn(|| wire.publisher.poll_broadcast()));
}

/// The replica hears what it wants, if it was said.
fn listen(wire: &mut Wire, air: &[(Revision, bytes::Bytes)]) {
    while let Some(next) = wire.replica(0).poll_broadcast() {
        let Some((_, message)) = air.iter().find(|(revision, _)| *revision == next) else { return };
        wire.replica(0).handle_broadcast(message.clone()).expect("it is what it wants");
    }
}

fn replica_events(wire: &mut Wire) -> Vec<ReplicaEvent> {
    std::iter::from_fn(|| wire.replica(0).poll_event()).collect()
}

#[test]
fn who_is_tuned_is_sent_nothing_of_what_others_write() {
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    wire.put("b", "2");
    wire.delete("a");
    say(&mut wire, &mut air);
    wire.settle();
    let client = wire.ends[0].client;
    assert_eq!(wire.publisher.poll_transmit(client), None);
    assert_eq!(air.iter().map(|(revision, _)| revision.get()).collect::<Vec<_>>(), [2, 3]);
    listen(&mut wire, &air);
    wire.assert_equal();
}

#[test]
fn an_answer_waits_until_what_it_speaks_of_was_heard() {
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    let request = wire.replica(0).submit(Command::put("mine", "2")).expect("it is the first");
    wire.settle();
    assert_eq!(wire.ends[0].completion(request), None, "its answer is here, and its delta is not");
    let told = replica_events(&mut wire);
    assert!(!told.iter().any(|it| matches!(it, ReplicaEvent::Gap { .. })), "nothing is missing: {told:?}");
    say(&mut wire, &mut air);
    listen(&mut wire, &air);
    wire.settle();
    assert!(wire.ends[0].completion(request).is_some_and(Result::is_ok));
    wire.assert_equal();
}

/// A driver that asks late: what nobody heard is forgotten by then.
#[test]
fn what_was_committed_while_nobody_listened_is_not_waited_for() {
    let mut wire = Wire::new(PublisherConfig::new().history(0, 0), 1);
    (0..3).for_each(|number| drop(wire.put("a", &number.to_string())));
    wire.connect(0);
    let client = wire.ends[0].client;
    wire.publisher.handle_listening(client);
    wire.replica(0).handle_listening();
    wire.settle();
    assert!(wire.publisher.is_tuned(client));
    wire.put("b", "heard");
    let mut air = Vec::new();
    say(&mut wire, &mut air);
    listen(&mut wire, &air);
    wire.assert_equal();
}

#[test]
fn only_one_for_whom_somebody_waits_is_woken_each_time() {
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    let client = wire.ends[0].client;
    let mut woken = |wire: &mut Wire, writes: u32| {
        let write = |number: u32| {
            wire.put("a", &number.to_string());
            say(wire, &mut air);
            wire.publisher.poll_bell(client) && !wire.publisher.poll_bell(client)
        };
        (0..writes).map(write).filter(|is_woken| *is_woken).count()
    };
    assert_eq!((woken(&mut wire, 15), woken(&mut wire, 1)), (0, 1), "nobody waits: one bell for 16");
    wire.put("long", &"x".repeat(64 << 10));
    assert_eq!(woken(&mut wire, 1), 1, "or for 64 KiB");

    let watch = wire.replica(0).watch(Watch::new(KeyRange::All)).expect("there is room");
    wire.settle();
    assert_eq!(woken(&mut wire, 3), 3, "somebody waits");
    wire.replica(0).unwatch(watch);
    wire.settle();
    assert_eq!(woken(&mut wire, 3), 0, "nobody waits any more");
    // Whoever begins to wait is woken for what was said before the primary knew of it.
    let _watching = wire.replica(0).watch(Watch::new(KeyRange::All)).expect("there is room");
    wire.settle();
    assert!(wire.publisher.poll_bell(client));
}

#[test]
fn who_is_sent_an_answer_need_not_be_woken() {
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    let client = wire.ends[0].client;
    let _watching = wire.replica(0).watch(Watch::new(KeyRange::All)).expect("there is room");
    wire.settle();
    let _request = wire.replica(0).submit(Command::put("mine", "2")).expect("it is the first");
    wire.say(0, 9);
    wire.hear(0, 9);
    say(&mut wire, &mut air);
    wire.send(0, 9);
    assert!(!wire.publisher.poll_bell(client));
}

#[test]
fn nothing_is_broadcast_while_nobody_listens() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    wire.put("a", "1");
    assert_eq!(wire.publisher.poll_broadcast(), None);
    wire.settle();
    wire.assert_equal();
    // Who comes later takes all that was before by his lane.
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    wire.disconnect(0);
    wire.put("b", "2");
    say(&mut wire, &mut air);
    assert!(air.is_empty());
    wire.connect(0);
    let client = wire.ends[0].client;
    wire.publisher.handle_listening(client);
    wire.replica(0).handle_listening();
    wire.settle();
    wire.assert_equal();
    assert!(wire.publisher.is_tuned(client));
}

#[test]
fn what_was_missed_comes_by_the_lane_and_it_tunes_in_again() {
    let (mut wire, mut air) = tuned(PublisherConfig::new());
    let request = wire.replica(0).submit(Command::put("mine", "2")).expect("it is the first");
    (0..3).for_each(|number| drop(wire.put("a", &number.to_string())));
    wire.settle();
    say(&mut wire, &mut air);
    wire.replica(0).handle_missed();
    assert!(!wire.replica(0).is_live());
    assert_eq!(wire.replica(0).poll_broadcast(), None, "it waits for its lane");
    wire.settle();
    assert!(wire.ends[0].completion(request).is_some_and(Result::is_ok), "an answer held back is given");
    wire.assert_equal();
    let told: Vec<_> = std::iter::from_fn(|| wire.publisher.poll_event()).collect();
    let missed = |it: &PublisherEvent| matches!(it, PublisherEvent::Missed { next, .. } if next.get() == 2);
    assert!(told.iter().any(missed), "{told:?}");
    assert!(told.iter().all(|it| !matches!(it, PublisherEvent::FellBehind { .. })), "{told:?}");
    let Some(PublisherEvent::Resynchronised { sent, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!((sent.entries, sent.deltas), (0, 4), "the history had it all");

    let next = wire.replica(0).poll_broadcast();
    assert_eq!(next, Some(wire.publisher.cursor().revision.next()), "it is tuned again");
    wire.put("again", "heard");
    say(&mut wire, &mut air);
    listen(&mut wire, &air);
    wire.assert_equal();
}

#[test]
fn what_the_history_has_no_longer_either_comes_as_a_snapshot() {
    let (mut wire, mut air) = tuned(PublisherConfig::new().history(1, usize::MAX));
    for number in 0..5 {
        wire.put("a", &number.to_string());
        say(&mut wire, &mut air);
    }
    wire.replica(0).handle_missed();
    wire.settle();
    wire.assert_equal();
    let told: Vec<_> = std::iter::from_fn(|| wire.publisher.poll_event()).collect();
    assert!(told.iter().any(|it| matches!(it, PublisherEvent::FellBehind { .. })), "{told:?}");
}

#[test]
fn what_is_not_broadcast_in_time_is_kept_as_for_a_slow_replica_and_then_everybody_gets_a_snapshot() {
    let config = PublisherConfig::new().history(0, 0).queue_bytes(500);
    let (mut wire, mut air) = tuned(config);
    wire.put("b", "kept");
    wire.put("c", "kept");
    say(&mut wire, &mut air);
    assert_eq!(air.len(), 2, "they are kept until they were said");
    listen(&mut wire, &air);
    wire.assert_equal();
    for number in 0..20 {
        wire.put("d", &number.to_string());
    }
    say(&mut wire, &mut air);
    assert_eq!(air.len(), 2, "they were too many to be kept");
    wire.settle();
    wire.assert_equal();
}

/// The lane is slow: a snapshot of before what was heard meanwhile.
#[test]
fn a_snapshot_that_is_older_than_what_was_heard_is_passed_over() {
    let (mut wire, mut air) = tuned(PublisherConfig::new().history(0, 0).queue_bytes(500));
    for number in 0..20 {
        wire.put("d", &number.to_string());
    }
    say(&mut wire, &mut air);
    // It was too much to be kept until it was broadcast, so a snapshot begins.
    wire.send(0, usize::MAX);
    assert!(air.is_empty());
    let from = wire.publisher.cursor().revision.get();
    assert!(wire.ends[0].down.iter().any(|it| matches!(protocol::decode(it), Some(ToReplica::Begin { .. }))));
    wire.settle();
    wire.assert_equal();
    assert_eq!(wire.publisher.cursor().revision.get(), from);

    // By hand: heard up to the next, then a snapshot of before.
    wire.put("e", "heard");
    say(&mut wire, &mut air);
    listen(&mut wire, &air);
    let heard = wire.replica(0).cursor().expect("it has a state");
    let before = Revision::new(heard.revision.get() - 1);
    let state = wire.replica(0).state().clone();
    for message in [
        ToReplica::Begin { revision: before },
        ToReplica::Chunk { entries: Vec::new() },
        ToReplica::Live { revision: before },
    ] {
        wire.replica(0).handle_message(protocol::encode(&message)).expect("it is only late");
    }
    assert_eq!((wire.replica(0).cursor(), wire.replica(0).state()), (Some(heard), &state));
    // The same delta by the lane is passed over, the one after it is not.
    let (_, again) = air.last().expect("it was said").clone();
    wire.replica(0).handle_message(again).expect("it was heard before");
    let tune = protocol::encode(&ToReplica::Tune { from: heard.revision });
    wire.replica(0).handle_message(tune).expect("it goes on from where it is");
    assert_eq!(wire.replica(0).poll_broadcast(), Some(heard.revision.next()));
    let told = replica_events(&mut wire);
    assert!(!told.iter().any(|it| matches!(it, ReplicaEvent::Gap { .. })), "{told:?}");
}

#[test]
fn who_cannot_hear_is_not_told_to_tune_in() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    let client = wire.ends[0].client;
    wire.publisher.handle_listening(client);
    wire.say(0, 9);
    wire.hear(0, 9);
    wire.send(0, 9);
    let told = wire.read(0, 9, |_| ());
    assert_eq!(told, Err(ProtocolError::Unexpected { message: "Tune, to one that can't hear" }));
}

#[test]
fn what_is_not_the_next_delta_is_no_broadcast() {
    let (mut wire, _) = tuned(PublisherConfig::new());
    let state = wire.replica(0).state().clone();
    let garbage = wire.replica(0).handle_broadcast(bytes::Bytes::from_static(b"\xff\xff"));
    assert_eq!(garbage, Err(ProtocolError::Garbage));
    let live = protocol::encode(&ToReplica::Live { revision: Revision::new(2) });
    assert!(matches!(wire.replica(0).handle_broadcast(live), Err(ProtocolError::Unexpected { .. })));
    assert_eq!(*wire.replica(0).state(), state);
}

#[test]
fn one_that_misses_what_was_never_written_is_cut_off() {
    let (mut wire, _) = tuned(PublisherConfig::new());
    let missed = protocol::encode(&ToPrimary::Missed { after: Revision::new(9) });
    let (client, now) = (wire.ends[0].client, wire.now);
    wire.publisher.handle_message(client, &missed, now);
    let reason = Misbehaviour::Future { theirs: Revision::new(9), ours: Revision::new(1) };
    let told: Vec<_> = std::iter::from_fn(|| wire.publisher.poll_event()).collect();
    assert_eq!(told.last(), Some(&PublisherEvent::CutOff { client, reason }));
}

/// What a reader's thread finds missing it may say before its driver reads the snapshot that is on its way.
#[test]
fn one_that_missed_what_was_never_broadcast_gets_one_snapshot_and_not_two() {
    let (mut wire, mut air) = tuned(PublisherConfig::new().history(0, 0).queue_bytes(500));
    while wire.publisher.poll_event().is_some() {}
    // In one go, before any of it could be broadcast: too many to be kept.
    for number in 0..20 {
        wire.put("d", &number.to_string());
    }
    say(&mut wire, &mut air);
    assert!(air.is_empty());
    // The snapshot is on its way, Tune behind it, and nothing of it was read yet.
    wire.send(0, usize::MAX);
    assert!(wire.publisher.is_tuned(wire.ends[0].client));
    // So what is next is broadcast, and a ring says of all before it that it can't be had.
    wire.put("e", "heard");
    say(&mut wire, &mut air);
    assert_eq!(wire.replica(0).poll_broadcast(), Some(Revision::new(2)));
    wire.replica(0).handle_missed();
    wire.settle();
    listen(&mut wire, &air);
    wire.assert_equal();
    let told: Vec<_> = std::iter::from_fn(|| wire.publisher.poll_event()).collect();
    let snapshots = told.iter().filter(|it| matches!(it, PublisherEvent::Resynchronised { .. })).count();
    assert_eq!(snapshots, 1, "{told:?}");
}

#[test]
fn what_it_took_to_catch_up_counts_from_what_was_missed() {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    let client = wire.ends[0].client;
    for number in 0..5 {
        wire.put("a", &number.to_string());
        assert_eq!(wire.publisher.poll_broadcast(), None, "nobody listens");
    }
    wire.connect(0);
    wire.publisher.handle_listening(client);
    wire.replica(0).handle_listening();
    wire.say(0, 9);
    wire.hear(0, 9);
    // Welcome, Begin, and the whole state; then others write, and only its lane has that.
    wire.send(0, 3);
    for number in 0..5 {
        wire.put("b", &number.to_string());
        assert_eq!(wire.publisher.poll_broadcast(), None, "nobody is live");
    }
    wire.settle();
    assert!(wire.publisher.is_tuned(client));
    while wire.publisher.poll_event().is_some() {}
    let mut air = Vec::new();
    wire.put("c", "missed");
    say(&mut wire, &mut air);
    wire.replica(0).handle_missed();
    wire.settle();
    wire.assert_equal();
    let told: Vec<_> = std::iter::from_fn(|| wire.publisher.poll_event()).collect();
    let Some(PublisherEvent::Resynchronised { sent, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(sent.deltas, 1, "one was missed, and sent: {told:?}");
}
