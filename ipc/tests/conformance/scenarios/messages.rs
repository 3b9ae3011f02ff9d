//! Messages, with descriptors and without.

use std::collections::VecDeque;

use cluster_ipc::session::{Config, Window};
use cluster_ipc::{Arrival, Error, Lane, MAX_DESCRIPTORS};

use super::{assert_same, number, pattern, tracked};
use crate::end::{Driver, End, Setup, describe, pair, pair_with};
use crate::frames::{DATA, GAP, RawFrame, message};

pub(crate) fn they_keep_their_order_in_a_lane<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    for lane in [Lane::Data, Lane::Control] {
        let words: Vec<[u8; 4]> = (0..1000u32).map(u32::to_le_bytes).collect();
        let there: Vec<_> = words.iter().map(|word| one.begin_send(lane, word, vec![])).collect();
        let back: Vec<_> = words.iter().map(|word| other.begin_send(lane, word, vec![])).collect();
        for n in 0..1000 {
            assert_eq!(number(&other.message().value), n);
            assert_eq!(number(&one.message().value), n);
        }
        there.into_iter().for_each(|sending| one.sent(sending).unwrap());
        back.into_iter().for_each(|sending| other.sent(sending).unwrap());
    }
}

pub(crate) fn large_and_small_ones_keep_their_order<D: Driver>() {
    // In one frame, in several, in memory of their own.
    let config = Config::new().memory_above(200_000);
    let (mut one, mut other) = pair::<D>(config);
    let lengths = [4, 300_000, 4, 70_000, 10, 199_999, 65_536, 200_001, 4, 131_072, 5, 1_000_000, 4];
    let words: Vec<Vec<u8>> = lengths.into_iter().cycle().take(60).map(pattern).collect();
    let sending: Vec<_> = words.iter().map(|word| one.begin_send(Lane::Data, word, vec![])).collect();
    words.iter().for_each(|word| assert_same(&other.message().value, word));
    sending.into_iter().for_each(|sending| one.sent(sending).unwrap());
}

pub(crate) fn an_urgent_one_overtakes_what_is_queued<D: Driver>() {
    const LEN: usize = 64 << 10;
    let (mut one, mut other) = pair::<D>(Config::new().outbox(4 << 20));
    // Where another thread has to queue it, that may come too late in a round.
    for round in 0.. {
        let mut queued = 0u32;
        let mut word = vec![0; LEN];
        while {
            word[..4].copy_from_slice(&queued.to_le_bytes());
            queued < 48 && one.try_send(&word).is_ok()
        } {
            queued += 1;
        }
        assert!(queued >= 32, "the window is 4 MiB");
        let urgent = one.begin_send(Lane::Control, b"stop", vec![]);
        let (mut before, mut place) = (0, None);
        while before < queued || place.is_none() {
            match other.message().value {
                word if word.len() == LEN => {
                    assert_eq!(number(&word), before);
                    before += 1;
                }
                word => {
                    assert_eq!((&word[..], place.replace(before)), (&b"stop"[..], None));
                }
            }
        }
        one.sent(urgent).unwrap();
        // What the socket has taken can't be overtaken; the rest can.
        if place < Some(queued - 16) {
            return;
        }
        assert!(round < D::End::ROUNDS, "it came at {place:?} of {queued}");
        // What it reads here opens the window again.
        other.send(b"once more").unwrap();
        one.message();
    }
}

pub(crate) fn those_of_every_size_arrive_whole_with_their_descriptors<D: Driver>() {
    every_size::<D>(Config::new());
}

pub(crate) fn those_of_every_size_arrive_whole_through_the_stream<D: Driver>() {
    every_size::<D>(Config::new().memory_above(usize::MAX));
}

fn every_size<D: Driver>(config: Config) {
    const KIB: usize = 1 << 10;
    let (mut one, mut other) = pair::<D>(config);
    let around = |len: usize| [len - 1, len, len + 1];
    for len in [0, 1].into_iter().chain(around(64 * KIB)).chain(around(256 * KIB)).chain([3 << 20]) {
        for descriptors in [0, 1, 3] {
            let (trackers, attached): (Vec<_>, Vec<_>) = (0..descriptors).map(|_| tracked()).unzip();
            let sent = pattern(len);
            let sending = one.begin_send(Lane::Data, &sent, attached);
            let got = other.message();
            assert_same(&got.value, &sent);
            assert_eq!(got.descriptors.len(), descriptors, "with {len} bytes");
            trackers.into_iter().zip(got.descriptors).for_each(|(tracker, got)| tracker.assert_is(got));
            one.sent(sending).unwrap();
        }
    }
}

pub(crate) fn one_that_is_larger_than_the_peer_takes_costs_only_itself<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), Config::new().max_message(1000));
    let (tracker, descriptor) = tracked();
    for len in [1001, 100_000, 1 << 20] {
        let refused = one.send(&pattern(len)).unwrap_err();
        assert!(matches!(refused, Error::TooLarge { max: 1000, .. }), "{refused:?}");
    }
    let refused = one.send_with(Lane::Data, &pattern(1001), vec![descriptor]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    tracker.assert_closed();
    one.send(&pattern(1000)).unwrap();
    assert_same(&other.message().value, &pattern(1000));
    // The other way the limit is the other one.
    let sending = other.begin_send(Lane::Data, &pattern(1001), vec![]);
    assert_same(&one.message().value, &pattern(1001));
    other.sent(sending).unwrap();
}

fn nulls(count: usize) -> Vec<std::os::fd::OwnedFd> {
    let null = std::fs::File::open("/dev/null").unwrap();
    (0..count).map(|_| null.try_clone().unwrap().into()).collect()
}

pub(crate) fn one_with_too_many_descriptors_costs_only_itself<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let refused = one.send_with(Lane::Data, b"too many", nulls(MAX_DESCRIPTORS + 1)).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused:?}");
    one.send_with(Lane::Data, b"just enough", nulls(MAX_DESCRIPTORS)).unwrap();
    let got = other.message();
    assert_eq!((&got.value[..], got.descriptors.len()), (&b"just enough"[..], MAX_DESCRIPTORS));
}

pub(crate) fn a_large_one_may_carry_as_many_descriptors_as_a_small_one<D: Driver>() {
    for above in [200_000, usize::MAX] {
        let (mut one, mut other) = pair::<D>(Config::new().memory_above(above));
        let sending = one.begin_send(Lane::Data, &pattern(300_000), nulls(MAX_DESCRIPTORS));
        let got = other.message();
        assert_same(&got.value, &pattern(300_000));
        assert_eq!(got.descriptors.len(), MAX_DESCRIPTORS, "promised, however the bytes travel");
        one.sent(sending).unwrap();
    }
}

pub(crate) fn a_large_one_reaches_a_peer_that_takes_no_descriptors<D: Driver>() {
    let window = Window { bytes: 4 << 20, messages: 100, descriptors: 0 };
    let (mut one, mut other) =
        pair_with::<D>(Config::new().memory_above(200_000), Config::new().window(window));
    let sending = one.begin_send(Lane::Data, &pattern(300_000), vec![]);
    let again = one.begin_send(Lane::Data, b"one more", vec![]);
    // Whatever became of the first, the second arrives: so this doesn't wait for ever.
    let got = other.message().value;
    assert_eq!(got.len(), 300_000, "it fits into the stream, and needs no descriptor there");
    assert_same(&got, &pattern(300_000));
    one.sent(sending).unwrap();
    one.sent(again).unwrap();
}

pub(crate) fn a_large_one_may_use_up_the_descriptors_that_the_peer_takes<D: Driver>() {
    let window = Window { bytes: 4 << 20, messages: 100, descriptors: 2 };
    let (mut one, mut other) =
        pair_with::<D>(Config::new().memory_above(200_000), Config::new().window(window));
    let sending = one.begin_send(Lane::Data, &pattern(300_000), nulls(2));
    let again = one.begin_send(Lane::Data, b"one more", vec![]);
    let got = other.message();
    assert_eq!(got.value.len(), 300_000, "two descriptors are allowed, however the bytes travel");
    assert_eq!(got.descriptors.len(), 2);
    one.sent(sending).unwrap();
    one.sent(again).unwrap();
}

pub(crate) fn an_urgent_one_that_is_too_large_costs_only_itself<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let refused = one.send_with(Lane::Control, &pattern((16 << 10) + 1), vec![]).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused:?}");
    one.send_with(Lane::Control, &pattern(16 << 10), vec![]).unwrap();
    assert_same(&other.message().value, &pattern(16 << 10));
}

pub(crate) fn descriptors_that_nobody_takes_are_closed<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let trackers: Vec<_> = (0..3)
        .map(|n: u32| {
            let (tracker, descriptor) = tracked();
            one.send_with(Lane::Data, &n.to_le_bytes(), vec![descriptor]).unwrap();
            tracker
        })
        .collect();
    // One is received and dropped, the others are not even received.
    assert_eq!(other.message().descriptors.len(), 1);
    other.die();
    drop(one);
    trackers.into_iter().for_each(super::Tracked::assert_closed);
}

pub(crate) fn a_gap_is_reported_in_its_place<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.join(&mut parent);
    let gap = |missed| RawFrame::new(GAP, DATA, missed, b"");
    for frame in [message("one"), gap(3), gap(4), message("two"), gap(1), message("three")] {
        stranger.frame(&frame);
    }
    let mut expected = VecDeque::from(["one", "7", "two", "1", "three"]);
    let mut missed_here = 0;
    while let Some(next) = expected.front() {
        match parent.recv() {
            // Gaps in a row may have become one, or not.
            Ok(Some(Arrival::Gap { missed })) => {
                missed_here += missed;
                if missed_here.to_string() == *next {
                    (missed_here, _) = (0, expected.pop_front());
                }
            }
            Ok(Some(Arrival::Message(message))) => {
                assert_eq!(message.value, next.as_bytes());
                expected.pop_front();
            }
            other => panic!("{} instead of {next}", describe(&other)),
        }
    }
}
