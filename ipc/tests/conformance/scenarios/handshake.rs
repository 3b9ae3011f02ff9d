//! How two ends get to know each other, or don't.

use std::time::Duration;

use cluster_ipc::session::Config;
use cluster_ipc::{Error, Lane};

use super::{LONG, assert_same, pattern, tracked};
use crate::end::{Driver, End, Setup};
use crate::frames::{
    CONTROL, DATA, GENEROUS, MESSAGE, ONLINE, REJECT, RawFrame, WELCOME, message, online, settings, welcome,
};

pub(crate) fn it_tells_greetings_descriptors_and_schemas<D: Driver>() {
    let ((first, one), (second, other)) = (tracked(), tracked());
    let parent = Setup {
        config: Config::new().schema(3),
        greeting: b"hello child".to_vec(),
        descriptors: vec![one, other],
    };
    let child =
        Setup { config: Config::new().schema(7), greeting: b"hello parent".to_vec(), descriptors: vec![] };
    let (mut parent, mut child) = D::pair(parent, child);
    let (told, asked) = End::both_opened(&mut parent, &mut child);

    let mut opened = asked.unwrap();
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello child"[..], 3));
    let descriptors = opened.take_descriptors();
    let [one, other] = <[_; 2]>::try_from(descriptors).expect("two descriptors came with the Welcome");
    first.assert_is(one);
    second.assert_is(other);

    let mut opened = told.unwrap();
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello parent"[..], 7));
    assert!(opened.take_descriptors().is_empty(), "a child sends none");
}

pub(crate) fn a_long_greeting_arrives_whole<D: Driver>() {
    // More than a socket takes at once.
    let (one, other) = (pattern(600_000), pattern(700_001));
    let setup = |greeting: &Vec<u8>| Setup { greeting: greeting.clone(), ..Setup::default() };
    let (mut parent, mut child) = D::pair(setup(&one), setup(&other));
    let (told, asked) = End::both_opened(&mut parent, &mut child);
    assert_same(asked.unwrap().payload(), &one);
    assert_same(told.unwrap().payload(), &other);
    parent.send(b"and a message").unwrap();
    assert_eq!(&child.message().value[..], b"and a message");
}

pub(crate) fn garbage_instead_of_an_answer_is_an_error<D: Driver>() {
    for garbage in garbage() {
        let (mut parent, mut stranger) = D::parent(Setup::default());
        stranger.say(&garbage);
        let error = parent.opened().expect_err("this is no answer to a Welcome");
        assert!(is_the_peers_fault(&error), "{error:?} is not what garbage is");
        stranger.until_end(&mut parent);
    }
}

pub(crate) fn garbage_instead_of_a_welcome_is_an_error<D: Driver>() {
    for garbage in garbage() {
        let (mut child, mut stranger) = D::child(Setup::default());
        stranger.say(&garbage);
        let error = child.opened().expect_err("this is no Welcome");
        assert!(is_the_peers_fault(&error), "{error:?} is not what garbage is");
        stranger.until_end(&mut child);
    }
}

fn garbage() -> Vec<Vec<u8>> {
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 64],
        // A frame of no kind.
        vec![0, 0, 0, 0, 99, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        // The right kinds, and nothing in them, or not enough.
        RawFrame::new(ONLINE, CONTROL, 0, b"").bytes(),
        RawFrame::new(WELCOME, CONTROL, 0, b"CLst").bytes(),
        RawFrame::new(ONLINE, CONTROL, 0, b"\x01\0\xff\x01").bytes(),
        RawFrame::new(WELCOME, CONTROL, 0, b"CLst\x01\0\x01\0\0\0\0\0\x09\x01").bytes(),
        RawFrame::new(
            WELCOME,
            CONTROL,
            0,
            &[b"XXst\x01\0\x01\0\0\0\0\0", &settings(&GENEROUS, b"")[..]].concat(),
        )
        .bytes(),
    ]
}

fn is_the_peers_fault(error: &Error) -> bool {
    matches!(
        error,
        Error::FrameTooLarge { .. }
            | Error::Malformed { .. }
            | Error::OutOfPlace { .. }
            | Error::UnknownKind(_)
            | Error::DescriptorsMissing { .. }
    )
}

pub(crate) fn a_frame_that_has_no_place_before_it_is_an_error<D: Driver>() {
    let words =
        [message("too early"), RawFrame::new(MESSAGE, DATA, 0, b""), welcome(&GENEROUS, b"to a parent")];
    for word in words {
        let (mut parent, mut stranger) = D::parent(Setup::default());
        stranger.frame(&word);
        assert!(matches!(parent.opened(), Err(Error::OutOfPlace { .. })));
    }
    for word in
        [message("too early"), online(&GENEROUS, b"to a child"), RawFrame::new(REJECT, CONTROL, 0, b"")]
    {
        let (mut child, mut stranger) = D::child(Setup::default());
        stranger.frame(&word);
        assert!(matches!(child.opened(), Err(Error::OutOfPlace { .. })));
    }
}

pub(crate) fn a_parent_is_told_why_its_child_rejects_it<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.frame(&RawFrame::new(REJECT, CONTROL, 0, b"no such role"));
    let Err(Error::Rejected { reason }) = parent.opened() else { panic!("it was rejected") };
    assert_eq!(reason, "no such role");
}

pub(crate) fn a_child_rejects_a_welcome_of_another_version_readably<D: Driver>() {
    let (mut child, mut stranger) = D::child(Setup::default());
    let mut later = welcome(&GENEROUS, b"");
    later.payload[4..8].copy_from_slice(&[2, 0, 3, 0]);
    stranger.frame(&later);
    let error = child.opened().expect_err("no version is shared");
    assert!(matches!(error, Error::Version { min: 2, max: 3, ours: 1 }), "{error:?}");
    let said = stranger.hear(&mut child);
    let reason = String::from_utf8(said.payload).unwrap();
    assert_eq!((said.kind, reason), (REJECT, error.to_string()), "the parent can't read the child's log");
    stranger.until_end(&mut child);
}

pub(crate) fn a_peer_that_closes_instead_is_gone<D: Driver>() {
    let (mut parent, stranger) = D::parent(Setup::default());
    drop(stranger);
    assert!(matches!(parent.opened(), Err(Error::PeerGone)));
    let (mut child, mut stranger) = D::child(Setup::default());
    // In the middle of it.
    stranger.say(&welcome(&GENEROUS, b"").bytes()[..20]);
    drop(stranger);
    assert!(matches!(child.opened(), Err(Error::PeerGone)));
}

pub(crate) fn its_time_is_limited<D: Driver>() {
    let config = Config::new().handshake_timeout(Duration::from_millis(50));
    let (mut parent, _silent) = D::parent(config.into());
    assert!(matches!(parent.opened(), Err(Error::HandshakeTimeout)));
    let (mut child, mut slow) = D::child(config.into());
    slow.say(&welcome(&GENEROUS, b"").bytes()[..20]);
    assert!(matches!(child.opened(), Err(Error::HandshakeTimeout)));
}

pub(crate) fn what_waits_for_it_learns_how_it_failed<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Setup::default());
    let sending = parent.begin_send(Lane::Data, b"too early", vec![]);
    let urgent = parent.begin_send(Lane::Control, b"too early too", vec![]);
    let asked = parent.begin_request(b"and this", vec![], LONG);
    stranger.frame(&RawFrame::new(REJECT, CONTROL, 0, b"no such role"));
    let is_rejected = |error: &Error| matches!(error, Error::Rejected { .. });
    assert!(is_rejected(&parent.end().unwrap_err()), "as the receiver sees it");
    assert!(is_rejected(&parent.sent(sending).unwrap_err()), "as a sender sees it");
    assert!(is_rejected(&parent.sent(urgent).unwrap_err()), "as a sender of urgent messages sees it");
    assert!(is_rejected(&parent.answer(asked).unwrap_err()), "as a client sees it");
    assert!(is_rejected(&parent.end().unwrap_err()), "still");
    assert!(is_rejected(&parent.send(b"too late").unwrap_err()), "who comes later too");
}

pub(crate) fn settings_of_a_later_version_are_passed_over<D: Driver>() {
    let mut later = GENEROUS.to_vec();
    later.insert(0, (77, 1));
    later.push((u16::MAX, u64::MAX));
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.frame(&online(&later, b"from the future"));
    assert_eq!(&parent.opened().unwrap().payload()[..], b"from the future");
    let (mut child, mut stranger) = D::child(Setup::default());
    let mut both = welcome(&later, b"from the future");
    // It speaks this version and later ones.
    both.payload[6] = 9;
    stranger.frame(&both);
    assert_eq!(&child.opened().unwrap().payload()[..], b"from the future");
    child.send(b"hello").unwrap();
    assert_eq!(stranger.hear_kind(&mut child, MESSAGE).payload, b"hello");
}
