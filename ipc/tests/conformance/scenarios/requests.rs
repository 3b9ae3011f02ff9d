//! Requests: each has exactly one end.

use std::time::Duration;

use cluster_ipc::session::{Config, Failure, Window};
use cluster_ipc::{Error, TrySendError};

use super::{LONG, SHORT, assert_same, number, pattern, tracked};
use crate::end::{Cancel, Driver, End, Setup, pair, pair_with};
use crate::frames::{CANCEL, CONTROL, DATA, FAILURE, REPLY, REQUEST, RawFrame, reply, request};
use crate::stranger::lend;

pub(crate) fn one_is_answered_with_a_value_and_descriptors<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let ((there, attached), (back, returned)) = (tracked(), tracked());
    let asked = one.begin_request(b"question", vec![attached], LONG);
    let (mut question, responder) = other.request();
    assert_eq!(&question.value[..], b"question");
    assert_eq!(question.descriptors.len(), 1);
    there.assert_is(question.descriptors.remove(0));
    other.reply(responder, b"answer", vec![returned]).unwrap();
    let (answer, mut descriptors) = one.answer(asked).unwrap();
    assert_eq!(&answer[..], b"answer");
    assert_eq!(descriptors.len(), 1);
    back.assert_is(descriptors.remove(0));
    // Nothing is an answer too.
    let asked = one.begin_request(b"", vec![], None);
    let (question, responder) = other.request();
    assert!(question.value.is_empty());
    other.reply(responder, b"", vec![]).unwrap();
    assert!(one.answer(asked).unwrap().0.is_empty());
}

pub(crate) fn one_is_answered_with_an_error<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    for reason in ["", "no", &"long ".repeat(2000)] {
        let asked = one.begin_request(b"question", vec![], LONG);
        let (_, responder) = other.request();
        other.fail(responder, reason);
        let Err(Error::Failed(Failure::Refused { reason: told })) = one.answer(asked) else {
            panic!("it failed")
        };
        assert!(reason.starts_with(&told), "{told:?} is not what was said");
        assert!(told.len() == reason.len() || told.len() > 4000, "at most the end of it is cut off");
    }
}

pub(crate) fn one_that_nobody_handles_is_answered_so<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let mut asked: Vec<_> = (0..3).map(|_| one.begin_request(b"question", vec![], LONG)).collect();
    let (tracker, descriptor) = tracked();
    asked.push(one.begin_request(b"question", vec![descriptor], LONG));
    one.send(b"message").unwrap();
    one.finish();
    assert_eq!(other.recv_message().unwrap().as_deref(), Some(&b"message"[..]));
    assert_eq!(other.recv_message().unwrap(), None);
    for asked in asked {
        assert!(matches!(one.answer(asked), Err(Error::Failed(Failure::Unhandled))));
    }
    tracker.assert_closed();
}

pub(crate) fn one_that_is_let_go_is_answered_so<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let asked = one.begin_request(b"question", vec![], LONG);
    let (_, responder) = other.request();
    other.let_go(responder);
    assert!(matches!(one.answer(asked), Err(Error::Failed(Failure::Unanswered))));
}

pub(crate) fn large_ones_get_large_answers<D: Driver>() {
    for above in [256 << 10, usize::MAX] {
        let (mut one, mut other) = pair::<D>(Config::new().memory_above(above));
        for len in [64 << 10, (64 << 10) + 1, (256 << 10) + 1, 3 << 20] {
            let ((there, attached), (back, returned)) = (tracked(), tracked());
            let asked = one.begin_request(&pattern(len), vec![attached], LONG);
            let (mut question, responder) = other.request();
            assert_same(&question.value, &pattern(len));
            there.assert_is(question.descriptors.remove(0));
            other.reply(responder, &pattern(len - 1), vec![returned]).unwrap();
            let (answer, mut descriptors) = one.answer(asked).unwrap();
            assert_same(&answer, &pattern(len - 1));
            back.assert_is(descriptors.remove(0));
        }
    }
}

pub(crate) fn one_that_is_too_large_costs_only_itself<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new(), Config::new().max_message(1000));
    let asked = one.begin_request(&pattern(1001), vec![], LONG);
    assert!(matches!(one.answer(asked), Err(Error::TooLarge { max: 1000, .. })));
    let asked = one.begin_request(&pattern(1000), vec![], LONG);
    let (question, responder) = other.request();
    assert_same(&question.value, &pattern(1000));
    other.reply(responder, b"yes", vec![]).unwrap();
    assert_eq!(&one.answer(asked).unwrap().0[..], b"yes");
}

pub(crate) fn an_answer_that_is_too_large_is_a_failure<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new().max_message(1000), Config::new());
    for len in [1001, 300_000] {
        let asked = one.begin_request(b"question", vec![], LONG);
        let (_, responder) = other.request();
        let refused = other.reply(responder, &pattern(len), vec![]).unwrap_err();
        assert!(matches!(refused, Error::TooLarge { max: 1000, .. }), "{refused:?}");
        assert!(matches!(one.answer(asked), Err(Error::Failed(_))), "who asked is told that there is none");
    }
}

pub(crate) fn many_are_answered_in_any_order<D: Driver>() {
    const MANY: u32 = 64;
    let (mut one, mut other) = pair::<D>(Config::new());
    let asked: Vec<_> = (0..MANY).map(|n| (n, one.begin_request(&n.to_le_bytes(), vec![], LONG))).collect();
    let mut open: Vec<_> = (0..MANY).map(|_| other.request()).collect();
    // The last first, and every third not at all.
    while let Some((question, responder)) = open.pop() {
        let n = number(&question.value);
        if n % 3 == 2 {
            other.fail(responder, &n.to_string());
        } else {
            other.reply(responder, &(n * 2).to_le_bytes(), vec![]).unwrap();
        }
    }
    for (n, asked) in asked {
        match one.answer(asked) {
            Ok((answer, _)) => assert_eq!((number(&answer), n % 3 < 2), (n * 2, true)),
            Err(Error::Failed(Failure::Refused { reason })) => assert_eq!(reason, n.to_string()),
            Err(error) => panic!("{n}: {error:?}"),
        }
    }
}

pub(crate) fn both_sides_ask_at_the_same_time<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    for n in 0..50u32 {
        let there = one.begin_request(&n.to_le_bytes(), vec![], LONG);
        let back = other.begin_request(&(n + 1000).to_le_bytes(), vec![], LONG);
        let (question, responder) = other.request();
        other.reply(responder, &question.value, vec![]).unwrap();
        let (question, responder) = one.request();
        one.reply(responder, &question.value, vec![]).unwrap();
        assert_eq!(number(&one.answer(there).unwrap().0), n);
        assert_eq!(number(&other.answer(back).unwrap().0), n + 1000);
    }
}

pub(crate) fn an_answer_needs_nobody_to_take_the_messages_before_it<D: Driver>() {
    // They fill the window. Who asks may be the handler of the first of them.
    let window = Window { bytes: 400, messages: 100, descriptors: 16 };
    let (mut one, mut other) = pair::<D>(Config::new().window(window));
    let asked = one.begin_request(b"question", vec![], LONG);
    let (_, responder) = other.request();
    for n in 0..100u32 {
        other.send(&n.to_le_bytes()).unwrap();
    }
    assert!(matches!(other.try_send(b"more"), Err(TrySendError::Full(_))));
    other.reply(responder, b"answer", vec![]).unwrap();
    assert_eq!(&one.answer(asked).unwrap().0[..], b"answer");
    for n in 0..100 {
        assert_eq!(number(&one.message().value), n, "they are still there");
    }
}

pub(crate) fn one_that_times_out_is_not_wanted_any_more<D: Driver>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let asked = one.begin_request(b"hurry", vec![], SHORT);
    let (_, responder) = other.request();
    assert!(matches!(one.answer(asked), Err(Error::TimedOut)));
    other.until_unwanted(&responder);
    // What it says now doesn't matter, but its place becomes free by it.
    let (tracker, descriptor) = tracked();
    other.reply(responder, b"too late", vec![descriptor]).unwrap();
    tracker.assert_closed();
    let asked = one.begin_request(b"take your time", vec![], LONG);
    let (question, responder) = other.request();
    assert_eq!(&question.value[..], b"take your time");
    other.reply(responder, b"in time", vec![]).unwrap();
    assert_eq!(&one.answer(asked).unwrap().0[..], b"in time");
}

pub(crate) fn a_late_answer_is_dropped_and_the_next_request_works<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.join(&mut parent);
    let mut early = None;
    for (round, late) in [REPLY, FAILURE, REPLY].into_iter().enumerate() {
        let asked = parent.begin_request(b"hurry", vec![], SHORT);
        let heard = stranger.hear_kind(&mut parent, REQUEST);
        assert!(matches!(parent.answer(asked), Err(Error::TimedOut)), "round {round}");
        assert_eq!(stranger.hear_kind(&mut parent, CANCEL).id, heard.id);
        assert_ne!(early.replace(heard.id), Some(heard.id), "an id is not used again at once");
        let (tracker, descriptor) = tracked();
        let answer = RawFrame::new(late, if late == REPLY { DATA } else { CONTROL }, heard.id, b"\0too late");
        if late == REPLY {
            stranger.say_with(&answer.claims(1).bytes(), &lend(&[descriptor]));
        } else {
            stranger.frame(&answer);
        }
        let asked = parent.begin_request(b"again", vec![], LONG);
        let heard = stranger.hear_kind(&mut parent, REQUEST);
        stranger.frame(&reply(heard.id, "in time"));
        assert_eq!(&parent.answer(asked).unwrap().0[..], b"in time");
        if late == REPLY {
            tracker.assert_closed();
        }
    }
}

pub(crate) fn time_runs_while_a_request_waits_for_credit<D: Driver>() {
    let window = Window { bytes: 1 << 20, messages: 1, descriptors: 16 };
    let (mut one, mut other) = pair_with::<D>(Config::new(), Config::new().window(window));
    one.send(b"this uses it up").unwrap();
    let asked = one.begin_request(b"hurry", vec![], SHORT);
    assert!(matches!(one.answer(asked), Err(Error::TimedOut)));
    assert_eq!(&other.message().value[..], b"this uses it up");
    // It was never sent, and doesn't come later.
    let asked = one.begin_request(b"take your time", vec![], LONG);
    let (question, responder) = other.request();
    assert_eq!(&question.value[..], b"take your time");
    other.reply(responder, b"yes", vec![]).unwrap();
    one.answer(asked).unwrap();
}

pub(crate) fn only_so_many_are_open_at_a_time<D: Driver>() {
    let config = Config::new().max_requests(2);
    let (mut one, mut other) = pair_with::<D>(Config::new(), config);
    bounded::<D>(&mut one, &mut other);
}

pub(crate) fn the_lower_limit_of_the_two_sides_counts<D: Driver>() {
    let (mut one, mut other) = pair_with::<D>(Config::new().max_requests(2), Config::new());
    bounded::<D>(&mut one, &mut other);
}

/// Two are open, and no more, until one of them is answered.
fn bounded<D: Driver>(one: &mut D::End, other: &mut D::End) {
    let mut asked: Vec<_> =
        (0..6u32).map(|n| (n, one.begin_request(&n.to_le_bytes(), vec![], LONG))).collect();
    let mut open = vec![other.request(), other.request()];
    for round in 0..4 {
        // What is sent now would come after a third request.
        one.send(b"nothing before this").unwrap();
        assert_eq!(&other.message().value[..], b"nothing before this", "in round {round}");
        let (question, responder) = open.remove(round % 2);
        match round {
            0 => other.fail(responder, "no"),
            _ => other.reply(responder, &question.value, vec![]).unwrap(),
        }
        let n = number(&question.value);
        let place = asked.iter().position(|(asked, _)| *asked == n).expect("it was asked");
        let answer = one.answer(asked.remove(place).1);
        assert_eq!(answer.is_err(), round == 0);
        open.push(other.request());
    }
    for (question, responder) in open {
        other.reply(responder, &question.value, vec![]).unwrap();
    }
    for (n, asked) in asked {
        assert_eq!(number(&one.answer(asked).unwrap().0), n);
    }
}

pub(crate) fn a_peer_that_asks_too_much_is_cut_off<D: Driver>() {
    let (mut parent, mut stranger) = D::parent(Config::new().max_requests(2).into());
    stranger.join(&mut parent);
    stranger.say(&[1, 2, 3].map(|id| request(id, "question").bytes()).concat());
    let open = [parent.request(), parent.request()];
    assert!(matches!(parent.end(), Err(Error::CreditExceeded { what: "requests" })));
    for (_, responder) in open {
        parent.reply(responder, b"too late", vec![]).expect_err("the connection has ended");
    }
    stranger.until_end(&mut parent);
    let (mut parent, mut stranger) = D::parent(Setup::default());
    stranger.join(&mut parent);
    stranger.say(&[7, 7].map(|id| request(id, "question").bytes()).concat());
    let _open = parent.request();
    assert!(matches!(parent.end(), Err(Error::OutOfPlace { .. })), "an id is taken until it is answered");
}

pub(crate) fn a_cancelled_request_is_not_wanted_any_more<D: Driver<End: Cancel>>() {
    let (mut one, mut other) = pair::<D>(Config::new());
    let asked = one.begin_request(b"question", vec![], None);
    let (_, responder) = other.request();
    one.cancel(asked);
    other.until_unwanted(&responder);
    let (tracker, descriptor) = tracked();
    other.reply(responder, b"nobody wants it", vec![descriptor]).unwrap();
    tracker.assert_closed();
    let asked = one.begin_request(b"another", vec![], None);
    let (question, responder) = other.request();
    assert_eq!(&question.value[..], b"another");
    other.reply(responder, b"yes", vec![]).unwrap();
    assert_eq!(&one.answer(asked).unwrap().0[..], b"yes");
}

pub(crate) fn a_request_cancelled_before_it_was_sent_leaves_the_others_alone<D: Driver<End: Cancel>>() {
    let (mut one, mut other) = pair::<D>(Config::new().max_requests(1));
    let first = one.begin_request(b"first", vec![], None);
    let (_, responder) = other.request();
    let (tracker, descriptor) = tracked();
    let second = one.begin_request(b"second", vec![descriptor], None);
    let third = one.begin_request(b"third", vec![], Some(Duration::from_secs(600)));
    one.turn();
    one.cancel(second);
    tracker.assert_closed();
    other.reply(responder, b"1", vec![]).unwrap();
    assert_eq!(&one.answer(first).unwrap().0[..], b"1");
    let (question, responder) = other.request();
    assert_eq!(&question.value[..], b"third");
    other.reply(responder, b"3", vec![]).unwrap();
    assert_eq!(&one.answer(third).unwrap().0[..], b"3");
    // And the place of one that was cancelled after it was sent is free once it has been answered.
    let fourth = one.begin_request(b"fourth", vec![], None);
    let (_, responder) = other.request();
    one.cancel(fourth);
    other.let_go(responder);
    let fifth = one.begin_request(b"fifth", vec![], None);
    let (_, responder) = other.request();
    other.reply(responder, b"5", vec![]).unwrap();
    assert_eq!(&one.answer(fifth).unwrap().0[..], b"5");
}
