//! Credit: how much may be on its way, and who waits for it.

use cluster_ipc::session::{Config, Window};
use cluster_ipc::{Error, Lane, TrySendError};

use super::{assert_same, number, pattern, tracked};
use crate::end::{Driver, End, Setup, pair, pair_with};
use crate::frames::{GENEROUS, message, welcome};

fn window(bytes: u64, messages: u64, descriptors: u64) -> Config {
    Config::new().window(Window { bytes, messages, descriptors })
}

/// Tries until it works, with the other end at rest.
fn until_it_fits<E: End>(one: &mut E, other: &mut E, bytes: &[u8]) {
    while let Err(refused) = one.try_send(bytes) {
        assert!(matches!(refused, TrySendError::Full(_)), "it fits some time: {refused}");
        other.nothing_yet();
        one.nothing_yet();
    }
}

pub(crate) fn a_full_window_refuses_and_opens_again<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), window(1 << 20, 4, 16));
    for round in 0..3u8 {
        until_it_fits(&mut one, &mut other, &[round, 0]);
        assert_eq!(other.message().value[..], [round, 0]);
        // It is in hand and not handled yet.
        let more = (1..10).take_while(|n| one.try_send(&[round, *n]).is_ok()).count();
        assert!(if round == 0 { more == 3 } else { more <= 3 }, "{more} beside the one in hand");
        let Err(TrySendError::Full(returned)) = one.try_send(b"no room") else { panic!("it was full") };
        assert_eq!(returned, b"no room", "it comes back");
        for n in 0..more {
            assert_eq!(other.message().value[..], [round, n as u8 + 1]);
        }
    }
}

pub(crate) fn a_sender_waits_for_a_full_window<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), window(1 << 20, 4, 16));
    let sending: Vec<_> = (0..50u32).map(|n| one.begin_send(Lane::Data, &n.to_le_bytes(), vec![])).collect();
    for n in 0..50 {
        assert_eq!(number(&other.message().value), n);
    }
    sending.into_iter().for_each(|sending| one.sent(sending).unwrap());
}

pub(crate) fn a_window_of_one_message_is_enough<D: Driver>() {
    let (mut one, mut other) = pair::<D>(window(1, 1, 1).outbox(1));
    let there: Vec<_> = (0..20u32).map(|n| one.begin_send(Lane::Data, &n.to_le_bytes(), vec![])).collect();
    let back: Vec<_> = (0..20u32).map(|n| other.begin_send(Lane::Data, &n.to_le_bytes(), vec![])).collect();
    for n in 0..20 {
        assert_eq!(number(&other.message().value), n);
        assert_eq!(number(&one.message().value), n);
    }
    there.into_iter().for_each(|sending| one.sent(sending).unwrap());
    back.into_iter().for_each(|sending| other.sent(sending).unwrap());
    let asked = one.begin_request(&pattern(1000), vec![], super::LONG);
    let (request, responder) = other.request();
    assert_same(&request.value, &pattern(1000));
    other.reply(responder, &pattern(2000), vec![]).unwrap();
    assert_same(&one.answer(asked).unwrap().0, &pattern(2000));
}

pub(crate) fn a_message_larger_than_the_window_goes_alone<D: Driver>() {
    for above in [256 << 10, usize::MAX] {
        let config = window(1000, 100, 16).memory_above(above);
        let (mut one, mut other) = pair::<D>(config);
        let lengths = [5000, 1, 300_000, 999, 1, 1, 1_000_000, 1_000_000, 1];
        let words: Vec<Vec<u8>> = lengths.into_iter().map(pattern).collect();
        let sending: Vec<_> = words.iter().map(|word| one.begin_send(Lane::Data, word, vec![])).collect();
        words.iter().for_each(|word| assert_same(&other.message().value, word));
        sending.into_iter().for_each(|sending| one.sent(sending).unwrap());
        // The last is not handled yet, so this has company.
        assert!(matches!(one.try_send(&pattern(5000)), Err(TrySendError::Full(_))));
        until_it_fits(&mut one, &mut other, &pattern(5000));
        assert!(matches!(one.try_send(b"a"), Err(TrySendError::Full(_))), "it goes alone");
        assert_same(&other.message().value, &pattern(5000));
    }
}

pub(crate) fn bytes_count<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), window(1000, 100, 16));
    one.try_send(&pattern(600)).unwrap();
    assert!(matches!(one.try_send(&pattern(401)), Err(TrySendError::Full(_))));
    one.try_send(&pattern(400)).expect("it fits exactly");
    one.try_send(b"").expect("nothing fits always");
    assert!(matches!(one.try_send(b"a"), Err(TrySendError::Full(_))));
    for len in [600, 400, 0] {
        assert_same(&other.message().value, &pattern(len));
    }
    until_it_fits(&mut one, &mut other, &pattern(1000));
    assert_same(&other.message().value, &pattern(1000));
}

pub(crate) fn descriptors_count<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), window(1 << 20, 100, 2));
    let (trackers, descriptors): (Vec<_>, Vec<_>) = (0..20).map(|_| tracked()).unzip();
    let sending: Vec<_> = descriptors
        .into_iter()
        .map(|descriptor| one.begin_send(Lane::Data, b"take it", vec![descriptor]))
        .collect();
    for tracker in trackers {
        let mut got = other.message();
        assert_eq!(got.descriptors.len(), 1);
        tracker.assert_is(got.descriptors.remove(0));
    }
    sending.into_iter().for_each(|sending| one.sent(sending).unwrap());
    let three = (0..3).map(|_| tracked().1).collect();
    let refused = one.send_with(Lane::Data, b"three", three).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "it will never fit: {refused:?}");
}

pub(crate) fn a_small_outbox_is_enough<D: Driver>() {
    let config = Config::new().outbox(10_000).memory_above(usize::MAX);
    let (mut one, mut other) = pair::<D>(config);
    let lengths = [1000, 9_000, 10_001, 300_000, 0, 70_000];
    let words: Vec<Vec<u8>> = lengths.into_iter().cycle().take(120).map(pattern).collect();
    let there: Vec<_> = words.iter().map(|word| one.begin_send(Lane::Data, word, vec![])).collect();
    words.iter().for_each(|word| assert_same(&other.message().value, word));
    there.into_iter().for_each(|sending| one.sent(sending).unwrap());
}

pub(crate) fn two_that_flood_each_other_go_on<D: Driver>() {
    // Each more than window, outbox and sockets hold together.
    let config = Config::new().memory_above(usize::MAX);
    let (mut one, mut other) = pair::<D>(config);
    let words: Vec<Vec<u8>> = (0..300).map(|n| pattern(30_000 + n)).collect();
    let there: Vec<_> = words.iter().map(|word| one.begin_send(Lane::Data, word, vec![])).collect();
    let back: Vec<_> = words.iter().map(|word| other.begin_send(Lane::Data, word, vec![])).collect();
    for word in &words {
        assert_same(&other.message().value, word);
        assert_same(&one.message().value, word);
    }
    there.into_iter().for_each(|sending| one.sent(sending).unwrap());
    back.into_iter().for_each(|sending| other.sent(sending).unwrap());
}

pub(crate) fn one_that_only_tries_gets_its_turn<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), window(1 << 20, 4, 16));
    // It never waits: not for a message, nor for an answer, nor to send.
    for n in 0..100u32 {
        while one.try_send(&n.to_le_bytes()).is_err() {
            other.nothing_yet();
            one.turn();
        }
        assert_eq!(number(&other.message().value), n);
    }
}

pub(crate) fn a_peer_that_exceeds_its_credit_is_cut_off<D: Driver>() {
    for (config, what) in [
        (window(1 << 20, 2, 16), "messages"),
        (window(6, 100, 16), "bytes"),
        // Nor may more be on its way after a large one that went alone.
        (window(1, 100, 16), "bytes"),
    ] {
        let (mut parent, mut stranger) = D::parent(config.into());
        stranger.join(&mut parent);
        let words = [message("one"), message("two"), message("three")];
        stranger.say(&words.map(|word| word.bytes()).concat());
        let error = loop {
            match parent.recv() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("this was not the end"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::CreditExceeded { what: w } if w == what), "{error:?} is not {what}");
        stranger.until_end(&mut parent);
    }
}

pub(crate) fn each_side_keeps_to_the_limits_of_the_other<D: Driver>() {
    // Whoever promises little gets little.
    let (mut child, mut stranger) = D::child(Setup::default());
    let mut little = GENEROUS;
    (little[0].1, little[1].1, little[2].1) = (100, 10, 2);
    stranger.frame(&welcome(&little, b""));
    child.opened().unwrap();
    assert!(matches!(child.try_send(&pattern(101)), Err(TrySendError::TooLarge(_))));
    child.try_send(b"one").unwrap();
    child.try_send(b"two").unwrap();
    assert!(matches!(child.try_send(b""), Err(TrySendError::Full(_))));
}
