//! Questions and answers: each question ends once.

use std::time::Duration;

use cluster_ipc::session::{CallId, Config, Event, Failure, Incoming, Outcome, Payload, RequestId};
use cluster_ipc::{Error, Lane, TrySendError};

use crate::wire::{self, CANCEL, FAILURE, Lone, REPLY, REQUEST, Told, carry, pair, patient, raw};

fn ask(from: &mut Lone, payload: &[u8], timeout: Option<Duration>) -> CallId {
    let now = from.now;
    from.session.request(Payload::Inline(payload), vec![], timeout, now).expect("there is credit")
}

fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// The next request, which is the next event.
fn request(at: &mut Lone) -> (RequestId, Incoming<u32>) {
    match at.session.poll_event() {
        Some(Event::Request { id, message, .. }) => (id, message),
        other => panic!("{other:?} is no request"),
    }
}

fn reply(from: &mut Lone, id: RequestId, payload: &[u8]) {
    from.session.respond(id, Payload::Inline(payload), vec![]).expect("there is credit");
}

/// The next event, which is the end of a request.
fn completed(at: &mut Lone) -> (CallId, Outcome<Incoming<u32>>) {
    match at.session.poll_event() {
        Some(Event::Completed(id, outcome)) => (id, outcome),
        other => panic!("{other:?} is no completion"),
    }
}

#[test]
fn replies_find_their_requests_in_whatever_order() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    let calls = [b"first", b"secnd", b"third"].map(|text| ask(&mut one, text, None));
    carry(&mut one, &mut other);
    let requests = [(); 3].map(|()| request(&mut other).0);
    reply(&mut other, requests[2], b"to the third");
    other.session.fail(requests[0], &Failure::Refused { reason: "no".into() });
    reply(&mut other, requests[1], b"to the second");
    carry(&mut one, &mut other);
    // An error is small and goes ahead of replies.
    assert_eq!(completed(&mut one), (calls[0], Outcome::Failed(Failure::Refused { reason: "no".into() })));
    for (call, text) in [(calls[2], &b"to the third"[..]), (calls[1], b"to the second")] {
        let (id, Outcome::Reply(message)) = completed(&mut one) else { panic!("it was answered") };
        let (Payload::Inline(bytes), ..) = message.into_parts() else { panic!("inline") };
        assert_eq!((id, &bytes[..]), (call, text));
    }
    assert_eq!(one.told(), []);
}

#[test]
fn a_request_is_answered_once() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    ask(&mut one, b"", None);
    carry(&mut one, &mut other);
    let (id, _) = request(&mut other);
    assert!(other.session.is_wanted(id));
    reply(&mut other, id, b"yes");
    assert!(!other.session.is_wanted(id));
    let again = other.session.respond(id, Payload::Inline(b"no"), vec![8]);
    assert_eq!(again, Err(TrySendError::Closed((Payload::Inline(&b"no"[..]), vec![8]))));
    other.session.fail(id, &Failure::Unanswered);
    carry(&mut one, &mut other);
    assert_eq!(one.told(), [Told::Completed("reply")]);
    assert!(one.session.is_open() && other.session.is_open());
}

#[test]
fn a_request_times_out_when_its_time_has_come_and_not_before() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    let late = ask(&mut one, b"late", millis(20));
    let soon = ask(&mut one, b"soon", millis(10));
    let patient = ask(&mut one, b"patient", None);
    carry(&mut one, &mut other);
    assert_eq!(one.session.poll_timeout(), Some(one.now + Duration::from_millis(10)));
    one.wait(Duration::from_millis(9));
    assert_eq!(one.told(), []);
    one.wait(Duration::from_millis(1));
    assert_eq!(completed(&mut one), (soon, Outcome::TimedOut));
    one.wait(Duration::from_secs(60));
    assert_eq!(completed(&mut one), (late, Outcome::TimedOut));
    assert_eq!(one.session.poll_timeout(), None);
    one.session.handle_peer_gone();
    assert_eq!(completed(&mut one), (patient, Outcome::PeerGone));
    assert_eq!(one.told(), [Told::Closed]);
}

#[test]
fn an_answered_request_times_out_no_more() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    ask(&mut one, b"", millis(10));
    carry(&mut one, &mut other);
    let (id, _) = request(&mut other);
    reply(&mut other, id, b"just in time");
    carry(&mut one, &mut other);
    assert_eq!(one.session.poll_timeout(), None);
    one.wait(Duration::from_secs(1));
    assert_eq!(one.told(), [Told::Completed("reply")]);
}

#[test]
fn the_peer_learns_how_much_time_is_left() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    ask(&mut one, b"", millis(10));
    ask(&mut one, b"", None);
    let stream = one.says_bytes();
    other.now += Duration::from_secs(5);
    other.hears(&stream);
    let deadlines = [(); 2].map(|()| match other.session.poll_event() {
        Some(Event::Request { deadline, .. }) => deadline,
        event => panic!("{event:?}"),
    });
    assert_eq!(deadlines, [Some(other.now + Duration::from_millis(10)), None], "clocks are not compared");
}

#[test]
fn who_gives_up_completes_at_once_and_the_peer_is_told() {
    for gives_up in [cancel, time_out] {
        let (mut one, mut other) = pair(Config::new(), Config::new());
        let call = ask(&mut one, b"", millis(10));
        carry(&mut one, &mut other);
        let (id, _) = request(&mut other);
        gives_up(&mut one, call);
        assert_eq!(one.told().len(), 1);
        carry(&mut one, &mut other);
        assert_eq!(other.told(), [Told::Cancelled]);
        assert!(!other.session.is_wanted(id));
        // It needs no credit to answer what nobody wants.
        assert!(other.session.respond(id, Payload::Inline(&[0; 1000]), vec![4]).is_ok());
        carry(&mut one, &mut other);
        assert_eq!(one.told(), [], "each completes once");
        assert_eq!(one.session.late_replies(), 0, "nothing was sent but that it is over");
    }
}

fn cancel(side: &mut Lone, call: CallId) {
    side.session.cancel(call);
    side.session.cancel(call);
}

fn time_out(side: &mut Lone, _: CallId) {
    side.wait(Duration::from_millis(10));
}

/// Whatever waits in the data lane, the request among it.
#[test]
fn a_request_that_is_given_up_before_it_has_left_is_cancelled_at_the_peer_too() {
    for gives_up in [cancel, time_out] {
        let (mut one, mut other) = pair(Config::new(), Config::new());
        let call = ask(&mut one, b"never mind", millis(10));
        gives_up(&mut one, call);
        carry(&mut one, &mut other);
        let told = other.told();
        // Not to be told of either would do as well.
        let nothing_to_do = told.is_empty() || told == [Told::Request(b"never mind".into()), Told::Cancelled];
        assert!(nothing_to_do, "somebody works on what nobody waits for: {told:?}");
    }
}

#[test]
fn an_answer_that_comes_too_late_is_counted_and_dropped_with_its_descriptors() {
    let window = cluster_ipc::session::Window { bytes: 100, messages: 10, descriptors: 4 };
    let (mut one, mut other) = pair(Config::new().window(window), Config::new());
    for round in 1..20 {
        let call = ask(&mut one, b"", None);
        carry(&mut one, &mut other);
        let (id, message) = request(&mut other);
        other.session.handled(message.into_parts().2);
        // The answer is on its way when the request is cancelled, and needs all the credit there is.
        other
            .session
            .respond(id, Payload::Inline(&[0; 60]), vec![1, 2, 3])
            .expect("late answers give credit back");
        one.session.cancel(call);
        carry(&mut one, &mut other);
        assert_eq!((one.told(), other.told()), (vec![Told::Completed("cancelled")], vec![]));
        assert_eq!(one.session.late_replies(), round);
    }
}

#[test]
fn a_late_answer_is_not_taken_for_that_to_a_later_request() {
    let (mut one, mut other) = pair(Config::new(), Config::new().max_requests(2));
    for round in 1..10 {
        let old = ask(&mut one, b"old", millis(1));
        carry(&mut one, &mut other);
        let (id, _) = request(&mut other);
        reply(&mut other, id, b"to the old");
        one.wait(Duration::from_millis(1));
        assert_eq!(completed(&mut one), (old, Outcome::TimedOut));
        // One is asked while the old one still has its place, one after it was freed by the late answer.
        let beside = ask(&mut one, b"beside", None);
        carry(&mut one, &mut other);
        let after = ask(&mut one, b"after", None);
        carry(&mut one, &mut other);
        assert_eq!(one.told(), [], "the answer to the old one is nobody's");
        assert_eq!(one.session.late_replies(), round);
        for (call, text) in [(beside, b"beside"), (after, b"after ")] {
            let (id, _) = request(&mut other);
            reply(&mut other, id, text);
            carry(&mut one, &mut other);
            let (answered, Outcome::Reply(message)) = completed(&mut one) else { panic!("it was answered") };
            assert!(matches!(message.into_parts().0, Payload::Inline(bytes) if bytes[..] == text[..]));
            assert_eq!(answered, call);
        }
        assert!(old != beside && old != after && beside != after);
    }
}

#[test]
fn no_more_requests_are_open_than_either_side_allows() {
    for (ours, theirs) in [(3, 5), (5, 3)] {
        let limits = |requests| Config::new().max_requests(requests);
        let (mut one, mut other) = pair(limits(ours), limits(theirs));
        let calls = [(); 3].map(|()| ask(&mut one, b"", None));
        let now = one.now;
        let fourth = one.session.request(Payload::Inline(b"x"), vec![2], None, now);
        assert_eq!(fourth, Err(TrySendError::Full((Payload::Inline(&b"x"[..]), vec![2]))));
        // A cancelled request still has its place at the peer.
        one.session.cancel(calls[0]);
        carry(&mut one, &mut other);
        assert!(one.session.request(Payload::Inline(b"x"), vec![], None, now).is_err());
        assert_eq!(one.told(), [Told::Completed("cancelled")]);
        let (id, _) = request(&mut other);
        other.session.fail(id, &Failure::Unanswered);
        carry(&mut one, &mut other);
        assert_eq!(one.told(), [Told::Writable]);
        assert!(one.session.request(Payload::Inline(b"x"), vec![], None, now).is_ok());
    }
}

#[test]
fn a_request_that_did_not_go_takes_no_place() {
    let (mut one, _) = pair(Config::new(), Config::new().max_requests(1).max_message(10));
    let now = one.now;
    for _ in 0..10 {
        let large = one.session.request(Payload::Inline(&[0; 11]), vec![], millis(1), now);
        assert!(matches!(large, Err(TrySendError::TooLarge(_))));
    }
    assert_eq!(one.session.poll_timeout(), None);
    ask(&mut one, b"fits", None);
}

#[test]
fn requests_fail_oldest_first_and_after_what_arrived_before() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    let first: Vec<CallId> = (0..5).map(|_| ask(&mut one, b"", None)).collect();
    carry(&mut one, &mut other);
    let ids: Vec<RequestId> = (0..5).map(|_| request(&mut other).0).collect();
    // Their places are taken again in another order.
    for at in [3, 0, 4] {
        reply(&mut other, ids[at], b"");
    }
    carry(&mut one, &mut other);
    assert_eq!(one.told(), vec![Told::Completed("reply"); 3]);
    let more: Vec<CallId> = (0..4).map(|n| ask(&mut one, b"", millis(1000 - n))).collect();
    other.send(b"last words");
    other.session.fail(ids[1], &Failure::Unhandled);
    one.hears(&other.says_bytes());
    one.session.handle_peer_gone();
    assert_eq!(completed(&mut one), (first[1], Outcome::Failed(Failure::Unhandled)));
    assert_eq!(one.session.poll_event().map(wire::told), Some(Told::Message(b"last words".into())));
    for call in [first[2], more[0], more[1], more[2], more[3]] {
        assert_eq!(completed(&mut one), (call, Outcome::PeerGone), "in the order in which they were asked");
    }
    assert_eq!(one.told(), [Told::Closed]);
    assert_eq!(one.session.poll_timeout(), None);
}

#[test]
fn after_the_end_nothing_is_asked_answered_or_reported() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    let call = ask(&mut other, b"", millis(10));
    carry(&mut one, &mut other);
    let (id, message) = request(&mut one);
    other.session.close(Error::Closed);
    one.session.handle_peer_gone();
    assert_eq!(
        (one.told(), other.told()),
        (vec![Told::Closed], vec![Told::Completed("peer gone"), Told::Closed])
    );
    let now = one.now;
    let Err(TrySendError::Closed(_)) = one.session.request(Payload::Inline(b""), vec![], None, now) else {
        panic!()
    };
    let Err(TrySendError::Closed(_)) = one.session.respond(id, Payload::Inline(b""), vec![]) else {
        panic!()
    };
    let Err(TrySendError::Closed(_)) = one.session.send(Lane::Control, Payload::Inline(b""), vec![]) else {
        panic!()
    };
    assert_eq!(one.session.send_gap(1), Err(TrySendError::Closed(())));
    assert!(!one.session.is_wanted(id));
    one.session.fail(id, &Failure::Unanswered);
    one.session.finish();
    one.session.handled(message.into_parts().2);
    one.session.close(Error::Closed);
    other.session.cancel(call);
    other.wait(Duration::from_secs(1));
    assert_eq!((one.told(), other.told()), (vec![], vec![]));
    assert!(one.session.is_closed() && !one.session.is_open());
}

#[test]
fn the_last_writes_of_a_session_that_has_ended_report_nothing() {
    let (mut one, _) = pair(Config::new().outbox(1000), Config::new());
    one.send(&[0; 900]);
    let full = one.session.send(Lane::Data, Payload::Inline(&[0; 900]), vec![]);
    assert!(matches!(full, Err(TrySendError::Full(_))));
    one.session.close(Error::Closed);
    assert_eq!(one.told(), [Told::Closed]);
    // A driver writes what is queued: that may be the reason why it ended.
    assert!(!one.says_bytes().is_empty());
    assert_eq!(one.told(), [], "nothing comes after the end");
}

#[test]
fn replies_still_come_after_the_end_of_messages() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    ask(&mut one, b"", None);
    let asked_back = ask(&mut other, b"", None);
    carry(&mut one, &mut other);
    let (to_one, _) = request(&mut one);
    let (to_other, _) = request(&mut other);
    one.send(b"last");
    one.session.finish();
    one.session.finish();
    assert!(matches!(
        one.session.send(Lane::Data, Payload::Inline(b""), vec![]),
        Err(TrySendError::Closed(_))
    ));
    let now = one.now;
    assert!(matches!(
        one.session.request(Payload::Inline(b""), vec![], None, now),
        Err(TrySendError::Closed(_))
    ));
    assert_eq!(one.session.send_gap(1), Err(TrySendError::Closed(())));
    reply(&mut one, to_one, b"after the end");
    reply(&mut other, to_other, b"");
    carry(&mut one, &mut other);
    assert_eq!(one.told(), [Told::Completed("reply")]);
    assert_eq!(
        other.told(),
        [Told::Message(b"last".into()), Told::Finished, Told::Completed("reply")],
        "in the order in which they were sent"
    );
    let _ = asked_back;
}

#[test]
fn failures_keep_their_words_as_far_as_they_are_kept_at_all() {
    let long = "ü".repeat(5000);
    let failures = [
        (Failure::Unhandled, Failure::Unhandled),
        (Failure::Unanswered, Failure::Unanswered),
        (Failure::Undecodable { reason: "?".into() }, Failure::Undecodable { reason: "?".into() }),
        (Failure::Refused { reason: String::new() }, Failure::Refused { reason: String::new() }),
        (Failure::Refused { reason: long.clone() }, Failure::Refused { reason: long[..4096].into() }),
        (
            Failure::Refused { reason: format!("x{long}") },
            Failure::Refused { reason: format!("x{}", &long[..4094]) },
        ),
    ];
    let (mut one, mut other) = pair(Config::new(), Config::new());
    for (said, heard) in failures {
        ask(&mut one, b"", None);
        carry(&mut one, &mut other);
        let (id, _) = request(&mut other);
        other.session.fail(id, &said);
        carry(&mut one, &mut other);
        assert_eq!(completed(&mut one).1, Outcome::Failed(heard));
    }
}

#[test]
fn a_failure_of_a_later_version_is_a_refusal() {
    let mut side = Lone::default();
    ask(&mut side, b"", None);
    let asked = side.says().remove(0);
    side.gets(&raw(FAILURE, *b"\xc8because").id(asked.id));
    let refused = Outcome::Failed(Failure::Refused { reason: "because".into() });
    assert_eq!(completed(&mut side).1, refused);
}

#[test]
fn an_answer_to_no_request_ends_the_conversation() {
    for answer in [raw(REPLY, *b"unasked"), raw(FAILURE, *b"\x03"), raw(REPLY, *b"").id(u64::MAX)] {
        let mut side = Lone::default();
        side.gets(&answer);
        assert!(matches!(side.ended(), Error::OutOfPlace { what: "an answer to no request" }));
    }
    // A second answer is one too.
    let mut side = Lone::default();
    ask(&mut side, b"", None);
    let id = side.says().remove(0).id;
    side.gets(&raw(REPLY, *b"yes").id(id));
    assert_eq!(side.told(), [Told::Completed("reply")]);
    side.gets(&raw(FAILURE, *b"\x03").id(id));
    assert!(matches!(side.ended(), Error::OutOfPlace { .. }));
}

#[test]
fn a_second_request_of_the_same_id_ends_the_conversation() {
    let mut side = Lone::default();
    let asked = raw(REQUEST, patient(b"")).id(5);
    side.gets(&asked);
    let (id, _) = request(&mut side);
    side.session.fail(id, &Failure::Unanswered);
    side.gets(&asked);
    assert_eq!(side.told(), [Told::Request(vec![])], "an id may be used again when it is free");
    side.gets(&asked);
    assert!(matches!(side.ended(), Error::OutOfPlace { what: "a request with the id of an open one" }));
}

#[test]
fn who_cancels_what_it_never_asked_changes_nothing() {
    let mut side = Lone::default();
    side.gets(&raw(REQUEST, patient(b"")).id(5));
    let (id, _) = request(&mut side);
    side.gets(&raw(CANCEL, *b"").id(6));
    assert!(side.session.is_wanted(id));
    side.gets(&raw(CANCEL, *b"").id(5));
    side.gets(&raw(CANCEL, *b"").id(5));
    assert_eq!(side.told(), [Told::Cancelled], "once");
    assert!(side.session.is_open());
}
