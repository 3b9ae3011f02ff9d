//! What version 1 writes, byte by byte: a change here is a new version of the protocol, not a change of a test.

use std::time::{Duration, Instant};

use cluster_ipc::session::{Config, Event, Failure, Outcome, Payload, Session};
use cluster_ipc::{Error, Lane, PROTOCOL_VERSION};

use crate::frames::{
    CONTROL, DATA, MUST_UNDERSTAND, ONLINE, REJECT, RawFrame, SKIPPABLE, WELCOME, online, settings, welcome,
};

/// The pid stands in a Welcome: 12 bytes before the settings.
const PID: std::ops::Range<usize> = 16 + 8..16 + 12;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Everything a session wants to write.
fn written(session: &mut Session<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(transmit) = session.poll_transmit() {
        bytes.extend(transmit.bytes());
        let len = transmit.bytes().len();
        session.handle_sent(len);
    }
    bytes
}

fn config() -> Config {
    let window = cluster_ipc::session::Window { bytes: 0x1000, messages: 0x100, descriptors: 0x10 };
    Config::new().window(window).max_message(0x2000).max_requests(0x20).schema(7)
}

/// Settings 1 to 9 with the values of [`config`], after their count.
const SETTINGS: &str = "09 \
    01 00 00 20 00 00 00 00 00 00 \
    02 00 00 10 00 00 00 00 00 00 \
    03 00 00 01 00 00 00 00 00 00 \
    04 00 10 00 00 00 00 00 00 00 \
    05 00 00 00 04 00 00 00 00 00 \
    06 00 00 01 00 00 00 00 00 00 \
    07 00 10 00 00 00 00 00 00 00 \
    08 00 20 00 00 00 00 00 00 00 \
    09 00 07 00 00 00 00 00 00 00";

#[test]
fn the_handshake_is_these_bytes() {
    assert_eq!(PROTOCOL_VERSION, 1);
    let now = Instant::now();
    let mut parent = Session::<u32>::parent(config(), b"hi", vec![], now);
    let mut welcome = written(&mut parent);
    assert_eq!(welcome[PID], std::process::id().to_le_bytes());
    welcome[PID].fill(0);
    let head = "69 00 00 00 01 01 00 00 00 00 00 00 00 00 00 00 43 4c 73 74 01 00 01 00 00 00 00 00";
    assert_eq!(hex(&welcome), format!("{head} {SETTINGS} 68 69"));

    let mut child = Session::<u32>::child(config(), b"ho", now);
    child.handle_input(&welcome, [], now);
    let head = "5f 00 00 00 02 01 00 00 00 00 00 00 00 00 00 00 01 00";
    assert_eq!(hex(&written(&mut child)), format!("{head} {SETTINGS} 68 6f"));
}

/// Two sides that have opened.
fn pair() -> (Session<u32>, Session<u32>) {
    let now = Instant::now();
    let mut parent = Session::<u32>::parent(config(), b"", vec![], now);
    let mut child = Session::<u32>::child(config(), b"", now);
    child.handle_input(&written(&mut parent), [], now);
    parent.handle_input(&written(&mut child), [], now);
    for side in [&mut parent, &mut child] {
        assert!(matches!(side.poll_event(), Some(Event::Opened(_))));
    }
    (parent, child)
}

#[test]
fn messages_are_these_bytes() {
    let (mut one, _) = pair();
    let sent = |one: &mut Session<u32>, lane, bytes: &[u8], descriptors| {
        one.send(lane, Payload::Inline(bytes), descriptors).unwrap();
        hex(&written(one))
    };
    assert_eq!(
        sent(&mut one, Lane::Data, b"abc", vec![1, 2]),
        "03 00 00 00 10 01 02 01 00 00 00 00 00 00 00 00 61 62 63"
    );
    assert_eq!(
        sent(&mut one, Lane::Control, b"!", vec![]),
        "01 00 00 00 10 01 00 00 00 00 00 00 00 00 00 00 21"
    );
    one.send(Lane::Data, Payload::Memory { len: 0x0123, descriptor: 9 }, vec![]).unwrap();
    assert_eq!(
        hex(&written(&mut one)),
        "08 00 00 00 10 05 01 01 00 00 00 00 00 00 00 00 23 01 00 00 00 00 00 00"
    );
}

/// With limits that a message of several frames fits into.
#[test]
fn a_long_message_is_these_bytes() {
    let now = Instant::now();
    let mut one = Session::<u32>::parent(Config::new(), b"", vec![], now);
    let mut other = Session::<u32>::child(Config::new(), b"", now);
    other.handle_input(&written(&mut one), [], now);
    one.handle_input(&written(&mut other), [], now);
    one.send(Lane::Data, Payload::Inline(&[7; 0x8001]), vec![1]).unwrap();
    let bytes = written(&mut one);
    let head = "08 40 00 00 10 03 01 01 00 00 00 00 00 00 00 00 01 80 00 00 00 00 00 00";
    assert_eq!(hex(&bytes[..24]), head);
    let second = 24 + 0x4000;
    assert_eq!(hex(&bytes[second..second + 16]), "00 40 00 00 13 03 00 01 00 00 00 00 00 00 00 00");
    let third = second + 16 + 0x4000;
    assert_eq!(hex(&bytes[third..]), "01 00 00 00 13 01 00 01 00 00 00 00 00 00 00 00 07");
}

#[test]
fn requests_and_their_ends_are_these_bytes() {
    let now = Instant::now();
    let (mut one, mut other) = pair();
    let patience = Some(Duration::from_micros(0x0102));
    let id = one.request(Payload::Inline(b"?"), vec![], patience, now).unwrap();
    let request = written(&mut one);
    assert_eq!(hex(&request), "09 00 00 00 11 01 00 01 00 00 00 00 00 00 00 00 02 01 00 00 00 00 00 00 3f");
    one.request(Payload::Inline(b""), vec![], None, now).unwrap();
    let forever = written(&mut one);
    assert_eq!(hex(&forever), "08 00 00 00 11 01 00 01 01 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff");
    other.handle_input(&[request, forever].concat(), [], now);
    let Some(Event::Request { id: first, .. }) = other.poll_event() else { panic!("a request") };
    let Some(Event::Request { id: second, .. }) = other.poll_event() else { panic!("a request") };
    other.respond(first, Payload::Inline(b"yes"), vec![]).unwrap();
    assert_eq!(hex(&written(&mut other)), "03 00 00 00 12 01 00 01 00 00 00 00 00 00 00 00 79 65 73");
    other.fail(second, &Failure::Refused { reason: "no".to_owned() });
    assert_eq!(hex(&written(&mut other)), "03 00 00 00 20 01 00 00 01 00 00 00 00 00 00 00 00 6e 6f");
    one.cancel(id);
    assert_eq!(hex(&written(&mut one)), "00 00 00 00 23 01 00 00 00 00 00 00 00 00 00 00");
}

#[test]
fn credit_gaps_and_the_end_are_these_bytes() {
    let now = Instant::now();
    let (mut one, mut other) = pair();
    // Each half a window and a bit.
    for _ in 0..2 {
        one.send(Lane::Data, Payload::Inline(&[0; 0x500]), vec![]).unwrap();
    }
    other.handle_input(&written(&mut one), [], now);
    while let Some(Event::Message(message)) = other.poll_event() {
        other.handled(message.into_parts().2);
    }
    let credit = "18 00 00 00 21 01 00 00 01 00 00 00 00 00 00 00 \
        00 1a 00 00 00 00 00 00 02 01 00 00 00 00 00 00 10 00 00 00 00 00 00 00";
    assert_eq!(hex(&written(&mut other)), credit);
    // More than is left.
    one.send(Lane::Data, Payload::Inline(&[0; 0xfff]), vec![]).unwrap_err();
    let blocked = "18 00 00 00 22 01 00 00 01 00 00 00 00 00 00 00 \
        ff 19 00 00 00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    assert_eq!(hex(&written(&mut one)), blocked);
    one.send_gap(0x42).unwrap();
    assert_eq!(hex(&written(&mut one)), "00 00 00 00 14 01 00 01 42 00 00 00 00 00 00 00");
    one.finish();
    assert_eq!(hex(&written(&mut one)), "00 00 00 00 15 01 00 01 00 00 00 00 00 00 00 00");
}

/// The head of a long one: patience first, then the length of all.
#[test]
fn long_requests_and_replies_are_these_bytes() {
    let now = Instant::now();
    let mut one = Session::<u32>::parent(Config::new(), b"", vec![], now);
    let mut other = Session::<u32>::child(Config::new(), b"", now);
    other.handle_input(&written(&mut one), [], now);
    one.handle_input(&written(&mut other), [], now);
    let patience = Some(Duration::from_micros(0x0102));
    one.request(Payload::Inline(&[7; 0x4001]), vec![], patience, now).unwrap();
    let request = written(&mut one);
    let head = "10 40 00 00 11 03 00 01 00 00 00 00 00 00 00 00 \
        02 01 00 00 00 00 00 00 01 40 00 00 00 00 00 00 07";
    assert_eq!(hex(&request[..33]), head);
    assert_eq!(hex(&request[32 + 0x4000..]), "01 00 00 00 13 01 00 01 00 00 00 00 00 00 00 00 07");
    one.request(Payload::Memory { len: 0x0123, descriptor: 9 }, vec![], None, now).unwrap();
    let in_memory = written(&mut one);
    assert_eq!(
        hex(&in_memory),
        "10 00 00 00 11 05 01 01 01 00 00 00 00 00 00 00 \
        ff ff ff ff ff ff ff ff 23 01 00 00 00 00 00 00"
    );
    other.handle_input(&request, [], now);
    other.handle_input(&in_memory, [9], now);
    assert!(matches!(other.poll_event(), Some(Event::Opened(_))));
    let Some(Event::Request { .. }) = other.poll_event() else { panic!("a request") };
    let Some(Event::Request { id, .. }) = other.poll_event() else { panic!("a request") };
    other.respond(id, Payload::Inline(&[8; 0x4001]), vec![3]).unwrap();
    let reply = written(&mut other);
    let head = "08 40 00 00 12 03 01 01 01 00 00 00 00 00 00 00 01 40 00 00 00 00 00 00 08";
    assert_eq!(hex(&reply[..25]), head);
    // The chunks have the id of their message.
    assert_eq!(hex(&reply[24 + 0x4000..]), "01 00 00 00 13 01 00 01 01 00 00 00 00 00 00 00 08");
}

#[test]
fn each_way_to_fail_has_its_code() {
    let now = Instant::now();
    let (mut one, mut other) = pair();
    let reason = || "no".to_owned();
    let failures = [
        (Failure::Refused { reason: reason() }, "03 00 00 00", "00 6e 6f"),
        (Failure::Unhandled, "01 00 00 00", "01"),
        (Failure::Undecodable { reason: reason() }, "03 00 00 00", "02 6e 6f"),
        (Failure::Unanswered, "01 00 00 00", "03"),
    ];
    for (failure, len, payload) in failures {
        one.request(Payload::Inline(b""), vec![], None, now).unwrap();
        let request = written(&mut one);
        other.handle_input(&request, [], now);
        let Some(Event::Request { id, .. }) = other.poll_event() else { panic!("a request") };
        other.fail(id, &failure);
        let bytes = written(&mut other);
        // The id is the caller's choice, and comes back as it is.
        let id = hex(&request[8..16]);
        assert_eq!(hex(&bytes), format!("{len} 20 01 00 00 {id} {payload}"));
        one.handle_input(&bytes, [], now);
        let Some(Event::Completed(_, outcome)) = one.poll_event() else { panic!("an answer") };
        assert_eq!(outcome, Outcome::Failed(failure));
    }
}

/// A cancellation overtakes data, but not its own request.
#[test]
fn a_cancellation_behind_its_request_is_these_bytes() {
    let (mut one, _) = pair();
    let id = one.request(Payload::Inline(b"?"), vec![], None, Instant::now()).unwrap();
    one.cancel(id);
    let bytes = written(&mut one);
    assert_eq!(hex(&bytes[25..]), "00 00 00 00 23 01 00 01 00 00 00 00 00 00 00 00");
}

/// What credit is for stands in the place of an id.
#[test]
fn credit_for_the_control_lane_and_for_replies_is_these_bytes() {
    let now = Instant::now();
    let (mut one, mut other) = pair();
    for _ in 0..129 {
        one.send(Lane::Control, Payload::Inline(b"!"), vec![]).unwrap();
    }
    other.handle_input(&written(&mut one), [], now);
    while let Some(Event::Message(message)) = other.poll_event() {
        other.handled(message.into_parts().2);
    }
    let control = "18 00 00 00 21 01 00 00 00 00 00 00 00 00 00 00 \
        81 00 04 00 00 00 00 00 81 01 00 00 00 00 00 00 10 00 00 00 00 00 00 00";
    assert_eq!(hex(&written(&mut other)), control);

    one.request(Payload::Inline(b""), vec![], None, now).unwrap();
    other.handle_input(&written(&mut one), [], now);
    let Some(Event::Request { id, .. }) = other.poll_event() else { panic!("a request") };
    other.respond(id, Payload::Inline(&[0; 0x801]), vec![]).unwrap();
    one.handle_input(&written(&mut other), [], now);
    let Some(Event::Completed(_, Outcome::Reply(reply))) = one.poll_event() else { panic!("a reply") };
    one.handled(reply.into_parts().2);
    let replies = "18 00 00 00 21 01 00 00 02 00 00 00 00 00 00 00 \
        01 18 00 00 00 00 00 00 01 01 00 00 00 00 00 00 10 00 00 00 00 00 00 00";
    assert_eq!(hex(&written(&mut one)), replies);
}

/// A Welcome that offers these versions.
fn welcome_of(lowest: u16, highest: u16) -> Vec<u8> {
    let mut frame = welcome(&crate::frames::GENEROUS, b"");
    frame.payload[4..6].copy_from_slice(&lowest.to_le_bytes());
    frame.payload[6..8].copy_from_slice(&highest.to_le_bytes());
    assert_eq!(frame.kind, WELCOME);
    frame.bytes()
}

#[test]
fn a_version_that_is_among_those_offered_is_taken_and_others_are_refused_readably() {
    let now = Instant::now();
    for (lowest, highest, taken) in [(0, 1, true), (1, 1, true), (1, 9, true), (2, 3, false), (0, 0, false)] {
        let mut child = Session::<u32>::child(config(), b"", now);
        child.handle_input(&welcome_of(lowest, highest), [], now);
        let answer = RawFrame::all(written(&mut child)).remove(0);
        assert_eq!(answer.kind, if taken { ONLINE } else { REJECT }, "{lowest} to {highest}");
        if taken {
            assert_eq!(answer.payload[..2], 1u16.to_le_bytes(), "the answer says which");
            continue;
        }
        let why = String::from_utf8(answer.payload.clone()).unwrap();
        assert_eq!(
            why,
            format!("the peer speaks protocol versions {lowest} to {highest}, this side speaks 1")
        );
        // What the parent makes of it.
        let mut parent = Session::<u32>::parent(config(), b"", vec![], now);
        parent.handle_input(&answer.bytes(), [], now);
        let Some(Event::Closed(Error::Rejected { reason })) = parent.poll_event() else { panic!("rejected") };
        assert_eq!(reason, why);
    }
}

#[test]
fn an_answer_in_a_version_that_was_not_offered_is_refused() {
    let now = Instant::now();
    let mut answer = online(&crate::frames::GENEROUS, b"");
    answer.payload[0] = 2;
    let mut parent = Session::<u32>::parent(config(), b"", vec![], now);
    parent.handle_input(&answer.bytes(), [], now);
    let closed = parent.poll_event();
    assert!(matches!(closed, Some(Event::Closed(Error::Version { .. }))), "{closed:?}");
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let now = Instant::now();
    let mut later = crate::frames::GENEROUS.to_vec();
    later.insert(2, (4711, u64::MAX));
    let mut payload = 1u16.to_le_bytes().to_vec();
    payload.extend(settings(&later, b"and a greeting"));
    let answer = RawFrame::new(ONLINE, CONTROL, 0, &payload);
    let mut parent = Session::<u32>::parent(config(), b"", vec![], now);
    let news = RawFrame::new(200, DATA, 5, b"of a later version").flags(SKIPPABLE).claims(1);
    let message = RawFrame::new(16, DATA, 0, b"of this").flags(MUST_UNDERSTAND);
    parent.handle_input(&[answer.bytes(), news.bytes(), message.bytes()].concat(), [1], now);
    let Some(Event::Opened(opened)) = parent.poll_event() else { panic!("it opens") };
    assert_eq!(&opened.payload()[..], b"and a greeting");
    let Some(Event::Message(message)) = parent.poll_event() else { panic!("a message") };
    assert!(matches!(message.into_parts().0, Payload::Inline(bytes) if bytes == "of this"));
}
