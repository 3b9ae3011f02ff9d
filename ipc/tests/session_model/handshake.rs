//! How a conversation begins, and how it fails to.

use std::time::Duration;

use cluster_ipc::session::{Config, Event, Payload, Session};
use cluster_ipc::{Error, Frame, Kind, Lane, Online, Outbox, TrySendError, Welcome};

use crate::wire::{self, Lone, Raw, Told, raw};

fn alone(session: impl FnOnce(std::time::Instant) -> Session<u32>) -> Lone {
    let now = wire::beginning_of_time();
    Lone { session: session(now), now }
}

fn parent(config: Config) -> Lone {
    alone(|now| Session::parent(config, b"", vec![], now))
}

fn child(config: Config) -> Lone {
    alone(|now| Session::child(config, b"", now))
}

/// What a frame of this crate looks like in the stream.
fn in_stream(frame: Frame<u32>) -> Vec<u8> {
    let mut outbox = Outbox::new();
    outbox.push(frame).unwrap();
    outbox.poll_transmit().unwrap().bytes().to_vec()
}

#[test]
fn each_side_learns_greeting_schema_and_descriptors_of_the_other() {
    let mut parent = alone(|now| Session::parent(Config::new().schema(7), b"hello", vec![1, 2], now));
    let mut child = alone(|now| Session::child(Config::new().schema(8), b"hello to you", now));
    let transmit = parent.session.poll_transmit().unwrap();
    let (bytes, descriptors) = (transmit.bytes().to_vec(), transmit.descriptors().to_vec());
    child.session.handle_input(&bytes, descriptors, child.now);
    let Some(Event::Opened(mut opened)) = child.session.poll_event() else { panic!("it was welcomed") };
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello"[..], 7));
    assert_eq!(opened.take_descriptors(), [1, 2]);
    parent.hears(&child.says_bytes());
    let Some(Event::Opened(mut opened)) = parent.session.poll_event() else { panic!("it was answered") };
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello to you"[..], 8));
    assert!(opened.take_descriptors().is_empty());
}

#[test]
fn the_handshake_is_over_in_time_or_the_session_is() {
    for mut side in [parent, child].map(|side| side(Config::new().handshake_timeout(Duration::from_secs(2))))
    {
        assert_eq!(side.session.poll_timeout(), Some(side.now + Duration::from_secs(2)));
        side.wait(Duration::from_millis(1999));
        assert_eq!(side.told(), [], "there was time left");
        side.wait(Duration::from_millis(1));
        assert!(matches!(side.ended(), Error::HandshakeTimeout));
        assert_eq!(side.session.poll_timeout(), None);
    }
}

#[test]
fn a_handshake_that_is_done_has_no_time_limit() {
    let config = Config::new().handshake_timeout(Duration::from_secs(2));
    let (mut parent, mut child) = wire::pair(config, config);
    for side in [&mut parent, &mut child] {
        assert_eq!(side.session.poll_timeout(), None);
        side.wait(Duration::from_secs(3));
        assert!(side.session.is_open());
    }
}

/// A Welcome that offers these versions.
fn welcome_of(min: u16, max: u16) -> Raw {
    let payload = [&b"CLst"[..], &min.to_le_bytes(), &max.to_le_bytes(), &1u32.to_le_bytes(), &[0]];
    raw(wire::WELCOME, payload.concat())
}

#[test]
fn a_version_that_is_not_shared_is_rejected_with_a_reason_for_the_other_side() {
    let mut child = child(Config::new());
    child.gets(&welcome_of(7, 9));
    let answer = child.says_bytes();
    assert!(matches!(child.ended(), Error::Version { min: 7, max: 9, ours: 1 }));
    let mut parent = parent(Config::new());
    parent.hears(&answer);
    let Error::Rejected { reason } = parent.ended() else { panic!("it was rejected") };
    assert_eq!(reason, "the peer speaks protocol versions 7 to 9, this side speaks 1");
}

#[test]
fn a_range_of_versions_that_contains_ours_will_do() {
    let mut child = child(Config::new());
    child.gets(&welcome_of(0, 9));
    assert_eq!(child.told(), [Told::Opened(vec![])]);
}

#[test]
fn garbage_instead_of_a_welcome_is_answered_with_a_reason() {
    let mut child = child(Config::new());
    child.gets(&raw(wire::WELCOME, *b"XXXX and so on"));
    assert_eq!(child.says().iter().map(|frame| frame.kind).collect::<Vec<_>>(), [wire::REJECT]);
    assert!(matches!(child.ended(), Error::Malformed { what: "Welcome" }));
}

#[test]
fn nothing_else_is_taken_before_the_handshake() {
    for kind in [wire::MESSAGE, wire::REQUEST, wire::CREDIT, wire::CANCEL, wire::FINISH, wire::ONLINE] {
        let mut child = child(Config::new());
        child.gets(&raw(kind, vec![0; 24]));
        assert!(matches!(child.ended(), Error::OutOfPlace { .. }), "kind {kind}");
    }
    for kind in [wire::MESSAGE, wire::REPLY, wire::BLOCKED, wire::GAP, wire::FINISH, wire::WELCOME] {
        let mut parent = parent(Config::new());
        parent.gets(&raw(kind, vec![0; 24]));
        assert!(matches!(parent.ended(), Error::OutOfPlace { .. }), "kind {kind}");
    }
}

#[test]
fn a_handshake_happens_once() {
    for kind in [wire::WELCOME, wire::ONLINE, wire::REJECT] {
        let mut side = Lone::default();
        side.gets(&raw(kind, vec![0; 24]));
        assert!(matches!(side.ended(), Error::OutOfPlace { .. }), "kind {kind}");
    }
}

#[test]
fn what_is_sent_too_early_comes_back_and_fits_after_the_handshake() {
    let mut parent = parent(Config::new());
    let early = parent.session.send(Lane::Data, Payload::Inline(b"early"), vec![5]);
    assert_eq!(early, Err(TrySendError::Full((Payload::Inline(&b"early"[..]), vec![5]))));
    let mut child = child(Config::new());
    wire::carry(&mut parent, &mut child);
    assert_eq!(parent.told(), [Told::Opened(vec![]), Told::Writable]);
    let again = parent.session.send(Lane::Data, Payload::Inline(b"early"), vec![5]);
    again.expect("there is credit");
}

#[test]
fn an_end_of_messages_that_is_said_too_early_goes_out_after_the_handshake() {
    let (mut parent, mut child) = (parent(Config::new()), child(Config::new()));
    parent.session.finish();
    child.session.finish();
    wire::carry(&mut parent, &mut child);
    assert_eq!(parent.told(), [Told::Opened(vec![]), Told::Finished]);
    assert_eq!(child.told(), [Told::Opened(vec![]), Told::Finished]);
}

#[test]
fn a_peer_that_promises_to_take_nothing_is_sent_nothing() {
    let mut child = child(Config::new());
    child.hears(&in_stream(Welcome::frame(1, b"", vec![])));
    assert_eq!(child.told(), [Told::Opened(vec![])]);
    for lane in [Lane::Data, Lane::Control] {
        for payload in [&b""[..], b"something"] {
            let sent = child.session.send(lane, Payload::Inline(payload), vec![]);
            assert!(matches!(sent, Err(TrySendError::TooLarge(_))), "{lane:?} {payload:?}: {sent:?}");
        }
    }
    assert!(matches!(child.session.send_gap(1), Err(TrySendError::TooLarge(()))));
    let mut parent = parent(Config::new());
    parent.hears(&in_stream(Online::frame(b"")));
    let sent = parent.session.send(Lane::Data, Payload::Inline(b""), vec![]);
    assert!(matches!(sent, Err(TrySendError::TooLarge(_))));
}

/// `Full` would be a promise that it fits some time, with a `Writable` to tell when.
#[test]
fn a_request_to_a_peer_that_takes_no_requests_is_not_put_off_for_ever() {
    let now = wire::beginning_of_time();
    let mut child = child(Config::new());
    child.hears(&in_stream(Welcome::frame(1, b"", vec![])));
    let asked = child.session.request(Payload::Inline(b""), vec![], None, now);
    assert!(matches!(asked, Err(TrySendError::TooLarge(_))), "{asked:?}");
    let (mut one, _) = wire::pair(Config::new(), Config::new().max_requests(0));
    let asked = one.session.request(Payload::Inline(b""), vec![], None, now);
    assert!(matches!(asked, Err(TrySendError::TooLarge(_))), "{asked:?}");
}

#[test]
fn a_peer_that_goes_before_it_answered_is_gone() {
    for mut side in [parent, child].map(|side| side(Config::new())) {
        side.session.handle_peer_gone();
        assert!(matches!(side.ended(), Error::PeerGone));
        assert_eq!(side.session.poll_timeout(), None);
        side.session.handle_peer_gone();
        side.gets(&raw(wire::MESSAGE, *b"a ghost"));
        assert_eq!(side.told(), [], "the end is reported once");
    }
}

#[test]
fn a_frame_of_a_later_version_is_skipped_unless_it_must_be_understood() {
    let mut side = Lone::default();
    side.gets_with(&Raw { flags: 0, ..raw(99, *b"later").claims(1) }, [3]);
    side.gets(&raw(wire::MESSAGE, *b"known"));
    assert_eq!(side.told(), [Told::Message(b"known".into())]);
    side.gets(&raw(99, *b"later"));
    assert!(matches!(side.ended(), Error::UnknownKind(99)));
}

#[test]
fn a_frame_is_these_bytes() {
    let (mut one, _) = wire::pair(Config::new(), Config::new());
    one.send(b"abc");
    assert_eq!(one.says_bytes(), *b"\x03\0\0\0\x10\x01\0\x01\0\0\0\0\0\0\0\0abc");
    assert_eq!(raw(wire::MESSAGE, *b"abc").bytes(), in_stream_in_data_lane(b"abc"));
}

/// The outbox alone knows no lanes: it writes 0 there.
fn in_stream_in_data_lane(payload: &'static [u8]) -> Vec<u8> {
    let mut bytes = in_stream(Frame::new(Kind::Message, 0, payload));
    bytes[7] = 1;
    bytes
}
