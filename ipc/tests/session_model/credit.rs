//! How much may be on its way, and that it always gets there.

use cluster_ipc::session::{Config, Failure, Payload, Session, Window};
use cluster_ipc::{Error, Lane, TrySendError};

use crate::wire::{self, CHUNK_LEN, CREDIT, Lone, MESSAGE, Raw, Told, amount, beginning, carry, pair, raw};

fn window(bytes: u64, messages: u64, descriptors: u64) -> Config {
    Config::new().window(Window { bytes, messages, descriptors })
}

/// A side that can queue more than these tests send.
fn roomy() -> Config {
    Config::new().outbox(64 << 20)
}

fn try_send(from: &mut Lone, len: usize, descriptors: usize) -> bool {
    let bytes = vec![7; len];
    match from.session.send(Lane::Data, Payload::Inline(&bytes), vec![9; descriptors]) {
        Ok(()) => true,
        Err(TrySendError::Full((payload, returned))) => {
            assert_eq!((payload, returned), (Payload::Inline(&bytes[..]), vec![9; descriptors]));
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Moves all bytes; `to` handles what arrives. Returns how many messages that were.
fn deliver(from: &mut Lone, to: &mut Lone) -> usize {
    let mut handled = 0;
    for _ in 0..1000 {
        carry(from, to);
        let messages: Vec<_> = std::iter::from_fn(|| to.session.poll_event()).collect();
        if messages.is_empty() {
            return handled;
        }
        for event in messages {
            if let cluster_ipc::session::Event::Message(message) = event {
                to.session.handled(message.into_parts().2);
                handled += 1;
            }
        }
    }
    panic!("it never ends");
}

#[test]
fn no_more_is_on_its_way_than_the_window_and_handling_makes_room() {
    let (mut one, mut other) = pair(roomy(), window(100, 1000, 10));
    assert!(try_send(&mut one, 60, 0));
    assert!(try_send(&mut one, 40, 0));
    assert!(!try_send(&mut one, 1, 0), "bytes that were not handled are on their way");
    carry(&mut one, &mut other);
    assert!(!try_send(&mut one, 1, 0), "received is not handled");
    assert_eq!(one.told(), []);
    assert_eq!(deliver(&mut one, &mut other), 2);
    assert_eq!(one.told(), [Told::Writable]);
    assert!(try_send(&mut one, 100, 0));
}

#[test]
fn messages_and_descriptors_count_too() {
    let (mut one, mut other) = pair(roomy(), window(1000, 3, 5));
    assert!((0..3).all(|_| try_send(&mut one, 0, 0)) && !try_send(&mut one, 0, 0));
    deliver(&mut one, &mut other);
    assert!(try_send(&mut one, 0, 4) && !try_send(&mut one, 0, 2) && try_send(&mut one, 0, 1));
    deliver(&mut one, &mut other);
    assert!(try_send(&mut one, 0, 5));
    // Memory is a descriptor as well, and its bytes count.
    let (mut one, _) = pair(roomy(), window(1000, 10, 2));
    let memory = |len, descriptor| Payload::<&[u8], u32>::Memory { len, descriptor };
    assert!(one.session.send(Lane::Data, memory(10, 1), vec![2]).is_ok());
    assert!(matches!(one.session.send(Lane::Data, memory(10, 1), vec![]), Err(TrySendError::Full(_))));
    assert!(matches!(
        one.session.send(Lane::Data, memory(10, 1), vec![2, 3]),
        Err(TrySendError::TooLarge(_))
    ));
    let (mut one, _) = pair(roomy(), window(1000, 10, 2));
    assert!(one.session.send(Lane::Data, memory(900, 1), vec![]).is_ok() && !try_send(&mut one, 101, 0));
}

#[test]
fn credit_is_announced_at_half_a_window_or_when_it_is_waited_for() {
    let (mut one, mut other) = pair(roomy(), window(100, 1000, 10));
    assert!(try_send(&mut one, 50, 0));
    deliver(&mut one, &mut other);
    assert_eq!(other.says(), [], "half a window is not worth a frame");
    assert!(!try_send(&mut one, 51, 0));
    carry(&mut one, &mut other);
    assert_eq!(one.told(), [Told::Writable], "but somebody waits for it now");
    assert!(try_send(&mut one, 51, 0));
    deliver(&mut one, &mut other);
    assert!(try_send(&mut one, 100, 0), "more than half was announced by itself");
}

#[test]
fn a_message_larger_than_the_window_goes_alone_and_never_waits_for_ever() {
    for before in [0, 1, 49, 50, 51, 100] {
        let (mut one, mut other) = pair(roomy(), window(100, 1000, 10));
        // Handled, but too little to be announced.
        if before > 0 {
            assert!(try_send(&mut one, before, 0));
            assert!(!try_send(&mut one, 300_000, 0), "it goes alone");
        }
        deliver(&mut one, &mut other);
        assert!(try_send(&mut one, 300_000, 0), "after {before} bytes");
        assert!(!try_send(&mut one, 1, 0) && !try_send(&mut one, 0, 0), "nothing goes with it");
        assert_eq!(deliver(&mut one, &mut other), 1);
        assert!(try_send(&mut one, 1, 0));
        assert!(!try_send(&mut one, 300_000, 0));
        deliver(&mut one, &mut other);
        assert!(try_send(&mut one, 300_000, 0));
    }
}

#[test]
fn large_messages_one_after_the_other_all_arrive() {
    for (bytes, messages) in [(0, 1), (1, 1), (100, 2), (100_000, 3)] {
        let (mut one, mut other) = pair(roomy(), window(bytes, messages, 0));
        let mut arrived = 0;
        for len in [0, 1, 100_001, 99, 50, 300_000, 101, 3, 0, 200_000] {
            for tries in 0.. {
                assert!(tries < 10, "{len} bytes never fit into a window of {bytes}");
                if try_send(&mut one, len, 0) {
                    break;
                }
                arrived += deliver(&mut one, &mut other);
                assert!(one.told().contains(&Told::Writable), "who was refused is told");
            }
        }
        assert_eq!(arrived + deliver(&mut one, &mut other), 10);
    }
}

/// The receiver's word that so many bytes are free must not make the sender ask at once for what is not.
#[test]
fn a_message_that_waits_for_empty_ones_waits_in_silence() {
    let (mut one, mut other) = pair(roomy(), window(100, 1000, 10));
    assert!(try_send(&mut one, 0, 0));
    let mut frames = 0;
    for _ in 0..100 {
        // What any driver does: try again whenever it might fit.
        assert!(!try_send(&mut one, 300_000, 0), "the empty message was not handled");
        let (there, back) = (one.says_bytes(), other.says_bytes());
        frames += wire::frames(&there).len() + wire::frames(&back).len();
        other.hears(&there);
        one.hears(&back);
    }
    assert!(frames < 10, "{frames} frames were exchanged over nothing");
    other.told();
}

#[test]
fn what_a_slow_application_has_not_handled_stays_within_the_window() {
    let (mut one, mut other) = pair(roomy(), window(1000, 10, 10));
    let mut held = Vec::new();
    let mut sent = 0;
    for round in 0..200usize {
        sent += usize::from(try_send(&mut one, round * 7 % 400, round % 3));
        carry(&mut one, &mut other);
        while let Some(event) = other.session.poll_event() {
            let cluster_ipc::session::Event::Message(message) = event else { panic!("{event:?}") };
            let (Payload::Inline(bytes), descriptors, charge) = message.into_parts() else {
                panic!("inline")
            };
            held.push((bytes.len(), descriptors.len(), charge));
        }
        let bytes: usize = held.iter().map(|(bytes, ..)| bytes).sum();
        let descriptors: usize = held.iter().map(|(_, descriptors, _)| descriptors).sum();
        assert!(bytes <= 1000 && held.len() <= 10 && descriptors <= 10);
        if round % 3 == 0 && !held.is_empty() {
            other.session.handled(held.swap_remove(round % held.len()).2);
        }
    }
    assert!(sent > 50, "only {sent}");
}

#[test]
fn charges_together_are_worth_as_much_as_one_by_one() {
    let (mut one, mut other) = pair(roomy(), window(100, 1000, 10));
    assert!(try_send(&mut one, 60, 0) && try_send(&mut one, 40, 0));
    carry(&mut one, &mut other);
    let (first, second) = (other.next_message().into_parts().2, other.next_message().into_parts().2);
    other.session.handled(first.and(second));
    assert!(!try_send(&mut one, 100, 0));
    carry(&mut one, &mut other);
    assert!(try_send(&mut one, 100, 0));
}

#[test]
fn the_control_lane_has_a_window_of_its_own() {
    let (mut one, mut other) = pair(roomy(), window(100, 1, 0));
    assert!(try_send(&mut one, 100, 0) && !try_send(&mut one, 0, 0));
    let urgent = |one: &mut Lone| one.session.send(Lane::Control, Payload::Inline(&[3; 1000]), vec![]);
    let sent = std::iter::from_fn(|| urgent(&mut one).ok()).take(10_000).count();
    assert_eq!(sent, 256, "a window of messages");
    carry(&mut one, &mut other);
    for message in std::iter::from_fn(|| other.session.poll_event()).take(129).collect::<Vec<_>>() {
        let cluster_ipc::session::Event::Message(message) = message else { panic!("{message:?}") };
        other.session.handled(message.into_parts().2);
    }
    carry(&mut one, &mut other);
    assert!(urgent(&mut one).is_ok(), "handled in the control lane, sent in the control lane");
    assert!(!try_send(&mut one, 0, 0), "and not in the other");
}

#[test]
fn what_can_never_go_is_too_large_and_comes_back() {
    let (mut one, _) = pair(roomy(), window(100, 10, 2).max_message(1000));
    assert_eq!(one.session.max_message(), 1000);
    let mut too_large = |lane, len: usize, descriptors: usize| {
        let bytes = vec![1; len];
        let sent = one.session.send(lane, Payload::Inline(&bytes), vec![4; descriptors]);
        let comes_back = TrySendError::TooLarge((Payload::Inline(&bytes[..]), vec![4; descriptors]));
        assert_eq!(sent, Err(comes_back), "{lane:?}, {len} bytes, {descriptors} descriptors");
    };
    too_large(Lane::Data, 1001, 0);
    too_large(Lane::Data, 10, 3);
    too_large(Lane::Control, CHUNK_LEN + 1, 0);
    too_large(Lane::Control, 0, 17);
    let memory = Payload::Memory { len: 1, descriptor: 1 };
    assert!(matches!(one.session.send(Lane::Control, memory, vec![]), Err(TrySendError::TooLarge(_))));
    let memory = Payload::Memory { len: 1001, descriptor: 1 };
    assert!(matches!(one.session.send(Lane::Data, memory, vec![]), Err(TrySendError::TooLarge(_))));
    let (mut one, _) = pair(roomy(), window(100, 10, 1000));
    assert!(one.session.send(Lane::Data, Payload::Inline(b""), vec![0; 253]).is_ok());
    let many = one.session.send(Lane::Data, Payload::Inline(b""), vec![0; 254]);
    assert!(matches!(many, Err(TrySendError::TooLarge(_))), "a frame has room for 253");
    let memory = Payload::Memory { len: 1, descriptor: 1 };
    let many = one.session.send(Lane::Data, memory, vec![0; 253]);
    assert!(matches!(many, Err(TrySendError::TooLarge(_))), "memory is one of them");
}

#[test]
fn a_full_outbox_says_when_there_is_room_again() {
    let config = Config::new().outbox(1000);
    let (mut one, mut other) = pair(config, Config::new());
    assert!(try_send(&mut one, 600, 0) && !try_send(&mut one, 600, 0));
    let len = one.session.poll_transmit().unwrap().bytes().len();
    one.session.handle_sent(len - 501);
    assert_eq!((one.told(), one.session.unsent()), (vec![], 501), "half full is not empty enough");
    one.session.handle_sent(1);
    assert_eq!(one.told(), [Told::Writable]);
    assert!(try_send(&mut one, 484, 0) && !try_send(&mut one, 484, 0));
    carry(&mut one, &mut other);
    assert!(try_send(&mut one, 50_000, 0), "anything fits into an empty one");
    assert!(!try_send(&mut one, 0, 0) || one.session.unsent() <= 50_000 + 1000);
}

#[test]
fn a_peer_that_ignores_credit_is_cut_off() {
    let cut_off = |config: Config, frames: &[Raw], what: &str| {
        let mut victim = Lone::child(config, Config::new());
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            victim.gets_with(frame, 0..u32::from(frame.descriptors));
        }
        assert!(victim.session.is_open(), "{what}: what is within the window is taken");
        victim.gets_with(last, 0..u32::from(last.descriptors));
        let error = victim.ended();
        assert!(matches!(error, Error::CreditExceeded { what: which } if which == what), "{what}: {error}");
    };
    let message = |len: usize| raw(MESSAGE, vec![0; len]);
    cut_off(window(100, 10, 10), &[message(60), message(40), message(1)], "bytes");
    cut_off(window(100, 10, 10), &[message(1), message(101)], "bytes");
    cut_off(window(100, 10, 10), &[message(300), message(0)], "bytes");
    cut_off(window(100, 10, 10), &[message(1), beginning(100_000, &[0; 50])], "bytes");
    cut_off(window(100, 3, 10), &[message(0), message(0), message(0), message(0)], "messages");
    cut_off(window(100, 10, 5), &[message(0).claims(3), message(0).claims(3)], "descriptors");
    cut_off(window(100, 10, 5), &[message(0), message(0).claims(6)], "descriptors");
    let control: Vec<_> = (0..257).map(|_| message(0).lane(0)).collect();
    cut_off(Config::new(), &control, "messages");
    let memory = raw(MESSAGE, 90u64.to_le_bytes()).adding(wire::IN_MEMORY).claims(1);
    cut_off(window(100, 10, 10), &[memory.clone(), memory], "bytes");
    let request = |id| raw(wire::REQUEST, wire::patient(b"")).id(id);
    cut_off(Config::new().max_requests(2), &[request(1), request(2), request(3)], "requests");
    let replies = [raw(wire::REQUEST, wire::patient(&[0; 90])), message(11)];
    cut_off(window(100, 10, 10), &replies, "bytes");
}

#[test]
fn gaps_cost_credit_and_give_it_back_at_once() {
    let (mut one, mut other) = pair(roomy(), window(100, 4, 0));
    let mut sent = 0;
    for missed in 1..=100 {
        while one.session.send_gap(missed).is_err() {
            carry(&mut one, &mut other);
            assert_eq!(one.told(), [Told::Writable]);
        }
        sent += missed;
    }
    carry(&mut one, &mut other);
    assert_eq!(other.told(), [Told::Gap(sent)], "nobody has to handle a gap");
}

#[test]
fn gaps_in_a_row_are_one_and_others_are_not() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    one.session.send_gap(1).unwrap();
    one.session.send_gap(2).unwrap();
    one.send(b"a");
    one.session.send_gap(3).unwrap();
    carry(&mut one, &mut other);
    one.session.send_gap(u64::MAX).unwrap();
    carry(&mut one, &mut other);
    let expected = [Told::Gap(3), Told::Message(b"a".into()), Told::Gap(u64::MAX)];
    assert_eq!(other.told(), expected);
    one.session.send_gap(5).unwrap();
    carry(&mut one, &mut other);
    assert_eq!(other.told(), [Told::Gap(5)], "what was reported stays as it was");
}

#[test]
fn credit_never_shrinks_and_an_old_word_changes_nothing() {
    let mut side = Lone::child(Config::new(), window(100, 10, 10));
    side.send(&[0; 100]);
    side.gets(&raw(CREDIT, amount(150, 15, 10)).id(1));
    side.gets(&raw(CREDIT, amount(120, 12, 10)).id(1));
    assert!(try_send(&mut side, 50, 0) && !try_send(&mut side, 1, 0));
    side.gets(&raw(CREDIT, amount(u64::MAX, u64::MAX, u64::MAX)).id(1));
    assert!(try_send(&mut side, 1000, 0), "a peer may be generous");
    assert!(side.session.is_open());
}

/// Fills what waits for `peer` with small frames until the session gives up on it.
fn flood(victim: &mut Lone, frame: &Raw, mut meanwhile: impl FnMut(&mut Lone)) -> usize {
    let batch = frame.bytes();
    for _ in 0..300_000 {
        victim.hears(&batch);
        meanwhile(victim);
        if victim.session.is_closed() {
            return victim.session.unsent();
        }
    }
    panic!("it is never enough");
}

#[test]
fn a_peer_that_asks_and_never_reads_is_cut_off() {
    // Each answer to a request is small, and the request's place is free as soon as it is given.
    let mut victim = Lone::default();
    let mut next = 0;
    let answer = |victim: &mut Lone| {
        while let Some(event) = victim.session.poll_event() {
            if let cluster_ipc::session::Event::Request { id, message, .. } = event {
                victim.session.handled(message.into_parts().2);
                victim.session.fail(id, &Failure::Refused { reason: "no ".repeat(2000) });
            }
        }
    };
    let most = loop {
        victim.gets(&raw(wire::REQUEST, wire::patient(b"")).id(next));
        next += 1;
        if victim.session.is_closed() {
            break victim.session.unsent();
        }
        answer(&mut victim);
        victim.session.poll_transmit();
        assert!(next < 100_000, "it is never enough");
    };
    assert!(matches!(victim.ended(), Error::NotReading { .. }));
    assert!(most < 8 << 20, "{most} bytes wait for it");
    // A question after credit is answered each time.
    let mut victim = Lone::default();
    let most = flood(&mut victim, &raw(wire::BLOCKED, amount(0, 0, 0)).id(1), |victim| {
        victim.session.poll_transmit();
    });
    assert!(matches!(victim.ended(), Error::NotReading { .. }));
    assert!(most < 8 << 20, "{most} bytes wait for it");
}

#[test]
fn a_peer_that_reads_may_ask_as_often_as_it_likes() {
    let mut victim = Lone::default();
    let batch = raw(wire::BLOCKED, amount(0, 0, 0)).id(1).bytes().repeat(100);
    for _ in 0..2000 {
        victim.hears(&batch);
        assert!(victim.says().len() <= 1, "one answer for all");
    }
    assert!(victim.session.is_open());
}

/// What a peer promises to take is not what this side has room for.
#[test]
fn a_generous_peer_that_does_not_read_cannot_fill_this_side_with_urgent_messages() {
    let mut side = Lone::default();
    side.gets(&raw(CREDIT, amount(u64::MAX, u64::MAX, u64::MAX)).id(0));
    for _ in 0..10_000 {
        if side.session.send(Lane::Control, Payload::Inline(&[0; 1 << 13]), vec![]).is_err() {
            break;
        }
    }
    let unsent = side.session.unsent();
    assert!(unsent < 16 << 20, "{unsent} bytes wait in a lane that is for small and rare messages");
}

#[test]
fn a_session_has_no_credit_left_to_give_before_it_is_open() {
    let now = wire::beginning_of_time();
    let session = Session::<u32>::child(Config::new(), b"", now);
    assert_eq!((session.max_message(), session.unsent(), session.wants_transmit()), (0, 0, false));
}
