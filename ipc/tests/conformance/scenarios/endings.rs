//! How it ends: in good order, by death, by an error of the other side.

use std::os::fd::OwnedFd;

use cluster_ipc::session::{Config, Window};
use cluster_ipc::{Error, Lane, Sent, Socket};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{LONG, assert_same, number, pattern};
use crate::end::{Driver, End, Setup, pair, pair_with};
use crate::frames::{
    BLOCKED, CHUNK, CONTROL, CREDIT, DATA, FAILURE, FINISH, GENEROUS, IN_MEMORY, MESSAGE, MORE,
    MUST_UNDERSTAND, REPLY, REQUEST, RawFrame, message, online, request, welcome,
};
use crate::stranger::lend;

pub(crate) fn finish_comes_after_the_last_message_and_answers_after_it<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    for n in 0..3u32 {
        one.send(&n.to_le_bytes()).unwrap();
    }
    let asked = one.begin_request(b"one more thing", vec![], LONG);
    for n in 0..3 {
        assert_eq!(number(&other.message().value), n);
    }
    let (_, responder) = other.request();
    one.finish();
    other.reply(responder, b"yes", vec![]).unwrap();
    assert_eq!(&one.answer(asked).unwrap().0[..], b"yes");
    other.end().expect("it said that this was all");
    other.end().expect("and it stays so");
    other.send(b"and you").unwrap();
    assert_eq!(&one.message().value[..], b"and you");
}

pub(crate) fn one_that_has_finished_still_receives_and_answers<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    one.finish();
    other.end().unwrap();
    for n in 0..20u32 {
        other.send(&n.to_le_bytes()).unwrap();
        assert_eq!(number(&one.message().value), n);
        let asked = other.begin_request(&pattern(100_000), vec![], LONG);
        let (question, responder) = one.request();
        assert_same(&question.value, &pattern(100_000));
        one.reply(responder, &n.to_le_bytes(), vec![]).unwrap();
        assert_eq!(number(&other.answer(asked).unwrap().0), n);
    }
}

pub(crate) fn both_may_finish<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    one.send(b"from one").unwrap();
    other.send(b"from the other").unwrap();
    one.finish();
    other.finish();
    assert_eq!(&one.message().value[..], b"from the other");
    assert_eq!(&other.message().value[..], b"from one");
    one.end().unwrap();
    other.end().unwrap();
    one.leave();
    other.end().unwrap();
}

pub(crate) fn what_was_sent_before_leaving_arrives<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    for n in 0..50u32 {
        one.send(&n.to_le_bytes()).unwrap();
    }
    one.leave();
    for n in 0..50 {
        assert_eq!(number(&other.message().value), n);
    }
    other.end().expect("it left in good order");
    other.end().expect("and it stays so");
    // It may be gone a moment after it said so.
    while other.send(b"is anybody there?").is_ok() {}
}

pub(crate) fn what_was_accepted_before_leaving_arrives_though_the_transport_was_full<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new().outbox(4 << 20));
    let words: Vec<Vec<u8>> = (0..32).map(|n| pattern(60_000 + n)).collect();
    words.iter().for_each(|word| one.try_send(word).expect("there is credit for 4 MiB"));
    one.leave();
    words.iter().for_each(|word| match other.recv() {
        Ok(Some(cluster_ipc::Arrival::Message(got))) => assert_same(&got.value, word),
        got => panic!("{} instead of a message that was accepted", crate::end::describe(&got)),
    });
    other.end().expect("it left in good order");
}

pub(crate) fn leaving_is_told_though_the_transport_was_full<D: Driver>() {
    // So many messages of one byte fill a socket, and nothing that is said after them gets in.
    let (probe, _other) = Socket::pair().unwrap();
    let word = message("x").bytes();
    let many = std::iter::from_fn(|| {
        let sent = probe.send(&[std::io::IoSlice::new(&word)], &[]).unwrap();
        matches!(sent, Sent::Bytes(17)).then_some(())
    });
    let many = many.count();
    let (mut one, mut other) = pair::<D>(Config::new());
    for _ in 0..many {
        one.try_send(b"x").expect("there is credit for 16,384 messages");
    }
    one.leave();
    for n in 0..many {
        assert_eq!(&other.message().value[..], b"x", "{n} of {many}");
    }
    other.end().expect("all was in the socket, and then it left in good order");
}

pub(crate) fn the_last_words_of_a_dead_peer_come_before_its_end<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let asked: Vec<_> = (0..3).map(|_| one.begin_request(b"question", vec![], LONG)).collect();
    let open: Vec<_> = (0..3).map(|_| other.request()).collect();
    let sending: Vec<_> =
        (0..50u32).map(|n| other.begin_send(Lane::Data, &n.to_le_bytes(), vec![])).collect();
    sending.into_iter().for_each(|sending| other.sent(sending).unwrap());
    other.die();
    drop(open);
    for n in 0..50 {
        assert_eq!(number(&one.message().value), n);
    }
    assert!(matches!(one.end(), Err(Error::PeerGone)));
    for asked in asked {
        assert!(matches!(one.answer(asked), Err(Error::PeerGone)));
    }
    assert!(matches!(one.end(), Err(Error::PeerGone)), "and it stays so");
    one.send(b"is anybody there?").expect_err("nobody is");
    let asked = one.begin_request(b"is anybody there?", vec![], LONG);
    one.answer(asked).expect_err("nobody is");
}

pub(crate) fn a_dead_peer_ends_what_waits_for_it<D: Driver>() {
    let window = Window { bytes: 1 << 20, messages: 1, descriptors: 16 };
    let (mut one, mut other) = pair_with::<D>(Config::new(), Config::new().window(window));
    one.send(b"this uses it up").unwrap();
    let sending = one.begin_send(Lane::Data, b"this waits", vec![]);
    let asked = one.begin_request(b"this waits too", vec![], None);
    one.turn();
    assert_eq!(&other.message().value[..], b"this uses it up");
    other.die();
    assert!(matches!(one.sent(sending), Err(Error::PeerGone)));
    assert!(matches!(one.answer(asked), Err(Error::PeerGone)));
    assert!(matches!(one.end(), Err(Error::PeerGone)));
}

pub(crate) fn a_peer_that_died_with_unread_messages_is_gone_all_the_same<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    other.send(b"last words").unwrap();
    for _ in 0..10 {
        one.send(b"never read").unwrap();
    }
    other.die();
    assert_eq!(&one.message().value[..], b"last words");
    assert!(matches!(one.end(), Err(Error::PeerGone)));
}

pub(crate) fn wrong_words_end_it_with_an_error_after_what_was_right<D: Driver>() {
    let raw = RawFrame::new;
    let long = |len: u64, beginning: &[u8]| [&len.to_le_bytes()[..], beginning].concat();
    let first_of_many =
        |lane| raw(MESSAGE, lane, 0, &long(900, b"the beginning")).flags(MUST_UNDERSTAND | MORE);
    let too_long = [&(2u32 << 20).to_le_bytes()[..], &[MESSAGE, 1, 0, DATA, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let both = |one: RawFrame, other: RawFrame| [one.bytes(), other.bytes()].concat();
    let wrong: [(&str, Vec<u8>, IsIt); 21] = [
        ("an unknown kind", raw(99, DATA, 0, b"").bytes(), |e| matches!(e, Error::UnknownKind(99))),
        ("a second Welcome", welcome(&GENEROUS, b"").bytes(), is_out_of_place),
        ("a second answer", online(&GENEROUS, b"").bytes(), is_out_of_place),
        ("a third lane", raw(MESSAGE, 2, 0, b"").bytes(), is_out_of_place),
        ("a request in it", raw(REQUEST, 2, 0, &[0; 8]).bytes(), is_out_of_place),
        ("a chunk of nothing", raw(CHUNK, DATA, 0, b"chunk").bytes(), is_out_of_place),
        ("an answer to nothing", raw(REPLY, DATA, 5, b"yes").bytes(), is_out_of_place),
        ("a failure of nothing", raw(FAILURE, CONTROL, 5, b"\0no").bytes(), is_out_of_place),
        ("unknown flags", message("what").flags(MUST_UNDERSTAND | 8).bytes(), is_out_of_place),
        ("a long frame", too_long, |e| matches!(e, Error::FrameTooLarge { .. })),
        ("a long message", raw(MESSAGE, DATA, 0, &[0; 1001]).bytes(), |e| {
            matches!(e, Error::FrameTooLarge { len: 1001, max: 1000 })
        }),
        (
            "a long message in parts",
            raw(MESSAGE, DATA, 0, &long(1 << 40, b"a part")).flags(MUST_UNDERSTAND | MORE).bytes(),
            |e| matches!(e, Error::FrameTooLarge { max: 1000, .. }),
        ),
        ("descriptors that aren't there", message("here").claims(2).bytes(), |e| {
            matches!(e, Error::DescriptorsMissing { claimed: 2, waiting: 0 })
        }),
        ("a request without a time", raw(REQUEST, DATA, 1, b"short").bytes(), is_malformed),
        (
            "more that is nothing",
            raw(MESSAGE, DATA, 0, &long(3, b"all")).flags(MUST_UNDERSTAND | MORE).bytes(),
            is_malformed,
        ),
        ("parts in the control lane", first_of_many(CONTROL).bytes(), is_out_of_place),
        ("something between parts", both(first_of_many(DATA), message("between")), is_out_of_place),
        ("a part of another", both(first_of_many(DATA), raw(CHUNK, DATA, 1, b"part")), is_out_of_place),
        (
            "memory that isn't there",
            raw(MESSAGE, DATA, 0, &10u64.to_le_bytes()).flags(MUST_UNDERSTAND | IN_MEMORY).bytes(),
            |e| matches!(e, Error::BadMemory { .. }),
        ),
        ("half a credit", raw(CREDIT, CONTROL, 1, &[0; 20]).bytes(), is_malformed),
        ("a quota that isn't there", raw(BLOCKED, CONTROL, 3, &[0; 24]).bytes(), is_malformed),
    ];
    for (what, bytes, is_it) in wrong {
        let (mut parent, mut stranger) = D::parent(Config::new().max_message(1000).into());
        stranger.join(&mut parent);
        stranger.say(&[message("right").bytes(), bytes].concat());
        assert_eq!(&parent.message().value[..], b"right", "before {what}");
        let error = parent.end().expect_err(what);
        assert!(is_it(&error), "{what}: {error:?}");
        stranger.until_end(&mut parent);
    }
    // Said after the end of messages, it doesn't change that this was the end.
    for word in [raw(FINISH, DATA, 0, b""), message("more"), request(1, "more")] {
        let (mut parent, mut stranger) = D::parent(Setup::default());
        stranger.join(&mut parent);
        stranger.say(&[message("right").bytes(), raw(FINISH, DATA, 0, b"").bytes(), word.bytes()].concat());
        assert_eq!(&parent.message().value[..], b"right");
        parent.end().expect("this was the end");
        stranger.until_end(&mut parent);
    }
}

/// Whether an error is the one that was to come.
type IsIt = fn(&Error) -> bool;

fn is_out_of_place(error: &Error) -> bool {
    matches!(error, Error::OutOfPlace { .. })
}

fn is_malformed(error: &Error) -> bool {
    matches!(error, Error::Malformed { .. })
}

pub(crate) fn memory_that_could_change_is_refused<D: Driver>() {
    let memory = |seals: SealFlags, len: usize| -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create(c"a stranger's memory", flags).unwrap();
        rustix::io::write(&memory, &pattern(len)).unwrap();
        fcntl_add_seals(&memory, seals).unwrap();
        memory
    };
    let sealed = SealFlags::SHRINK | SealFlags::WRITE;
    let in_memory = |len: u64| {
        let frame = RawFrame::new(MESSAGE, DATA, 0, &len.to_le_bytes());
        frame.flags(MUST_UNDERSTAND | IN_MEMORY).claims(1).bytes()
    };
    let (pipe, _writer) = std::io::pipe().unwrap();
    for (what, memory) in [
        ("no seals", memory(SealFlags::empty(), 1000)),
        ("it can shrink", memory(SealFlags::WRITE, 1000)),
        ("it can be written", memory(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL, 1000)),
        ("who has it mapped can write", memory(SealFlags::SHRINK | SealFlags::FUTURE_WRITE, 1000)),
        ("it is shorter than announced", memory(sealed, 999)),
        ("it is longer than announced", memory(sealed, 1001)),
        ("it is no memory", pipe.into()),
    ] {
        let (mut parent, mut stranger) = D::parent(Setup::default());
        stranger.join(&mut parent);
        stranger.frame(&message("right"));
        stranger.say_with(&in_memory(1000), &lend(&[memory]));
        assert_eq!(&parent.message().value[..], b"right");
        let error = parent.end().expect_err(what);
        assert!(matches!(error, Error::BadMemory { .. }), "{what}: {error:?}");
        stranger.until_end(&mut parent);
    }
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.join(&mut parent);
    stranger.say_with(&in_memory(1000), &lend(&[memory(sealed, 1000)]));
    stranger.say_with(&in_memory(0), &lend(&[memory(sealed, 0)]));
    assert_same(&parent.message().value, &pattern(1000));
    assert_same(&parent.message().value, b"");
}

pub(crate) fn a_peer_that_does_not_read_its_answers_is_cut_off<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Config::new().max_requests(1).into());
    stranger.join(&mut parent);
    let reason = "x".repeat(4096);
    for id in 0.. {
        assert!(id < 1000, "these are {id} answers of 4 KiB that nobody reads");
        let asked = stranger.try_frame(&request(id, "question"));
        match parent.recv() {
            Ok(Some(_)) if asked.is_err() => panic!("what was not sent arrived"),
            Ok(Some(cluster_ipc::Arrival::Request(_, responder))) => parent.fail(responder, &reason),
            Err(Error::NotReading { .. }) => break,
            other => panic!("{}", crate::end::describe(&other)),
        }
    }
}
