//! Items that nobody takes: refused ones, those that wait too long, and those that belong to one member.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::time::Duration;

use cluster_balancer::strategy::{Ended, LeastUsed, Maglev, PanicThreshold, PeakEwma, Sticky};
use cluster_balancer::{Classes, Dispatcher, LeastLoaded, Limits, Request, Strategy, Ticket};

const SECOND: Duration = Duration::from_secs(1);

fn dispatcher(strategy: impl Strategy + 'static) -> Dispatcher<u8, u32> {
    Dispatcher::new(Box::new(strategy), 100)
}

/// Who gets the only item that waits.
fn place(dispatcher: &mut Dispatcher<u8, u32>) -> (u8, Ticket) {
    let batch = dispatcher.poll_batch().unwrap();
    assert_eq!(batch.tickets().len(), 1);
    assert_eq!(dispatcher.poll_batch(), None);
    (batch.key(), batch.tickets()[0])
}

#[test]
fn what_one_member_refused_another_gets() {
    let mut dispatcher = dispatcher(LeastLoaded::new());
    dispatcher.admit(1, Limits::new().weight(1_000));
    dispatcher.admit(2, Limits::new());
    dispatcher.offer(7).unwrap();
    let (member, ticket) = place(&mut dispatcher);
    assert_eq!(member, 1, "the heavier");
    assert!(dispatcher.handle_refused(1, ticket));
    assert_eq!(place(&mut dispatcher).0, 2, "though it is the busier by far");
}

#[test]
fn what_everybody_refused_waits_until_one_is_resumed_or_admitted() {
    let mut dispatcher = dispatcher(LeastLoaded::new()).wait_at_most(10 * SECOND);
    (1..=3).for_each(|member| dispatcher.admit(member, Limits::new()));
    // The third has much to do, and is asked for what the others don't want all the same.
    dispatcher.offer(0).unwrap();
    dispatcher.offer(1).unwrap();
    dispatcher.offer(2).unwrap();
    while let Some(batch) = dispatcher.poll_batch() {
        for ticket in batch.tickets() {
            dispatcher.handle_taken(batch.key(), *ticket);
        }
    }
    dispatcher.handle_finished(1, 1);
    dispatcher.handle_finished(2, 1);
    dispatcher.offer(7).unwrap();
    let mut refused_by = Vec::new();
    for _ in 0..3 {
        let (member, ticket) = place(&mut dispatcher);
        assert!(dispatcher.handle_refused(member, ticket));
        refused_by.push(member);
    }
    refused_by.sort_unstable();
    assert_eq!(refused_by, [1, 2, 3]);
    assert_eq!((dispatcher.poll_batch(), dispatcher.poll_expired()), (None, None));
    assert_eq!(dispatcher.status().totals.refused, 3);
    // Others don't wait for it.
    dispatcher.offer(8).unwrap();
    let (member, ticket) = place(&mut dispatcher);
    dispatcher.handle_taken(member, ticket);
    dispatcher.resume(2);
    assert_eq!(place(&mut dispatcher).0, 2);
}

#[test]
fn what_everybody_refused_expires() {
    let mut dispatcher = dispatcher(LeastLoaded::new()).wait_at_most(10 * SECOND);
    dispatcher.admit(1, Limits::new());
    dispatcher.offer(7).unwrap();
    let (_, ticket) = place(&mut dispatcher);
    assert!(dispatcher.handle_refused(1, ticket));
    assert_eq!(dispatcher.poll_timeout(), Some(10 * SECOND));
    dispatcher.handle_timeout(10 * SECOND);
    assert_eq!(dispatcher.poll_expired(), Some(7));
}

#[test]
fn who_has_waited_too_long_is_given_back_and_who_can_be_placed_is_not() {
    let mut dispatcher = dispatcher(LeastLoaded::new()).wait_at_most(10 * SECOND);
    for item in 0..3 {
        dispatcher.offer_for(Request::new().at(u32::from(item as u8) * SECOND), item).unwrap();
    }
    assert_eq!(dispatcher.poll_timeout(), Some(10 * SECOND));
    dispatcher.handle_timeout(11 * SECOND);
    // Two are overdue, and there comes one place.
    dispatcher.admit(1, Limits::new().window(1));
    assert_eq!(place(&mut dispatcher).0, 1);
    assert_eq!(dispatcher.poll_expired(), Some(1));
    assert_eq!(dispatcher.poll_expired(), None, "the youngest has a second left");
    assert_eq!(dispatcher.poll_timeout(), Some(12 * SECOND));
    assert_eq!((dispatcher.waiting(), dispatcher.status().totals.expired), (1, 1));
}

#[test]
fn what_comes_back_late_from_a_hung_member_gets_a_place_before_it_expires() {
    let mut dispatcher = dispatcher(LeastLoaded::new()).wait_at_most(10 * SECOND);
    dispatcher.admit(1, Limits::new());
    dispatcher.offer(7).unwrap();
    place(&mut dispatcher);
    dispatcher.handle_timeout(60 * SECOND);
    for ticket in dispatcher.withdraw(1) {
        assert!(dispatcher.handle_recalled(1, ticket));
    }
    dispatcher.admit(2, Limits::new());
    assert_eq!(place(&mut dispatcher).0, 2);
    assert_eq!(dispatcher.poll_expired(), None);
}

#[test]
fn without_a_limit_items_wait_for_ever() {
    let mut dispatcher = dispatcher(LeastLoaded::new());
    dispatcher.offer(7).unwrap();
    dispatcher.handle_timeout(Duration::MAX);
    assert_eq!((dispatcher.poll_expired(), dispatcher.poll_timeout()), (None, None));
}

#[test]
fn a_draining_member_gets_what_sticks_to_it_even_past_items_that_wait() {
    let mut dispatcher = dispatcher(Sticky::new(LeastLoaded::new(), 60 * SECOND));
    dispatcher.admit(1, Limits::new());
    dispatcher.offer_for(Request::new().key(5), 0).unwrap();
    assert_eq!(place(&mut dispatcher).0, 1);
    dispatcher.drain(1);
    dispatcher.offer(1).unwrap();
    dispatcher.offer_for(Request::new().key(6), 2).unwrap();
    dispatcher.offer_for(Request::new().key(5), 3).unwrap();
    let (_, ticket) = place(&mut dispatcher);
    assert_eq!(dispatcher.item(1, ticket), Some(&3));
    assert_eq!(dispatcher.waiting(), 2);
}

/// Who gets each of a thousand keys.
fn homes(dispatcher: &mut Dispatcher<u8, u32>) -> Vec<u8> {
    let home = |key| {
        dispatcher.offer_for(Request::new().key(key), 0).unwrap();
        let (member, ticket) = place(dispatcher);
        dispatcher.handle_taken(member, ticket);
        member
    };
    (0..1000).map(home).collect()
}

#[test]
fn a_successor_that_is_known_by_the_same_number_gets_the_keys_of_its_predecessor() {
    let mut dispatcher = dispatcher(Maglev::new());
    let slot = |number| Limits::new().identity(number);
    for member in [10, 20, 30] {
        dispatcher.admit(member, slot(u64::from(member / 10)));
    }
    let before = homes(&mut dispatcher);
    drop(dispatcher.remove(20));
    dispatcher.admit(21, slot(2));
    let after = homes(&mut dispatcher);
    let expected: Vec<u8> = before.into_iter().map(|member| if member == 20 { 21 } else { member }).collect();
    assert_eq!(after, expected);
    assert!(after.contains(&21));
}

#[test]
fn the_unwell_are_avoided_and_in_a_panic_they_are_not() {
    let mut plain = dispatcher(LeastLoaded::new());
    let mut panicking = dispatcher(PanicThreshold::new(LeastLoaded::new()));
    for dispatcher in [&mut plain, &mut panicking] {
        for member in 1..=4 {
            dispatcher.admit(member, Limits::new());
        }
        dispatcher.set_healthy(1, false);
        dispatcher.offer(0).unwrap();
        assert_ne!(place(dispatcher).0, 1);
        (2..=4).for_each(|member| dispatcher.set_healthy(member, false));
        dispatcher.offer(1).unwrap();
    }
    assert_eq!(plain.poll_batch(), None, "nobody is well");
    assert!(panicking.poll_batch().is_some(), "that all of them are unwell is not believed");
}

#[test]
fn what_members_use_and_how_long_they_take_reaches_the_strategy() {
    let mut by_memory = dispatcher(LeastUsed::memory());
    let mut by_latency = dispatcher(PeakEwma::seeded(1));
    for dispatcher in [&mut by_memory, &mut by_latency] {
        dispatcher.admit(1, Limits::new());
        dispatcher.admit(2, Limits::new());
        dispatcher.offer(0).unwrap();
    }
    by_memory.handle_gauge(1, 900 << 20);
    by_memory.handle_gauge(2, 100 << 20);
    by_latency.handle_ended(1, Ended::badly(SECOND).after(9 * SECOND));
    by_latency.handle_ended(2, Ended::well(SECOND).after(SECOND));
    for mut dispatcher in [by_memory, by_latency] {
        assert_eq!(place(&mut dispatcher).0, 2);
    }
}

#[test]
fn items_that_nobody_takes_fill_the_queue_and_are_in_nobodys_way() {
    let mut dispatcher = Dispatcher::<u8, u32>::new(Box::new(LeastLoaded::new()), 4);
    dispatcher.admit(1, Limits::new().window(2).classes(Classes::none().with(0)));
    let class = |class| Request::new().class(class);
    assert!(dispatcher.offer_for(class(64), 203).is_err(), "there is no such class");
    let accepted = (0..100).filter(|item| dispatcher.offer_for(class(5), *item).is_ok()).count();
    assert_eq!(accepted, 4);
    assert_eq!((dispatcher.room(), dispatcher.room_for(0)), (2, 2));
    dispatcher.offer_for(class(0), 200).unwrap();
    dispatcher.offer_for(class(0), 201).unwrap();
    assert_eq!(dispatcher.poll_batch().unwrap().tickets().len(), 2);
    assert!(dispatcher.offer_for(class(0), 202).is_err());
}

#[test]
fn with_nobody_well_nothing_is_accepted_beyond_the_queue() {
    let mut plain = Dispatcher::<u8, u32>::new(Box::new(LeastLoaded::new()), 2);
    let panicking = PanicThreshold::new(LeastLoaded::new());
    let mut panicking = Dispatcher::<u8, u32>::new(Box::new(panicking), 2);
    for dispatcher in [&mut plain, &mut panicking] {
        for member in 1..=10 {
            dispatcher.admit(member, Limits::new());
            dispatcher.set_healthy(member, false);
        }
    }
    assert_eq!((plain.room(), panicking.room()), (0, 320));
    assert_eq!((0..100).filter(|item| plain.offer(*item).is_ok()).count(), 2);
}

#[test]
fn panic_is_about_those_that_take_the_item() {
    let mut dispatcher = dispatcher(PanicThreshold::new(LeastLoaded::new()));
    for member in 1..=6 {
        let class = u8::from(member > 2);
        dispatcher.admit(member, Limits::new().classes(Classes::none().with(class)));
    }
    dispatcher.set_healthy(1, false);
    dispatcher.set_healthy(2, false);
    dispatcher.offer_for(Request::new().class(0), 7).unwrap();
    assert!(place(&mut dispatcher).0 <= 2);
}

#[test]
fn a_successor_beside_its_predecessor_moves_nobody_elses_keys() {
    let mut dispatcher = dispatcher(Maglev::new());
    let slot = |number| Limits::new().identity(number);
    (0..10).for_each(|member| dispatcher.admit(member, slot(u64::from(member))));
    let before = homes(&mut dispatcher);
    dispatcher.admit(13, slot(3));
    assert_eq!(homes(&mut dispatcher), before, "the predecessor goes on");
    dispatcher.drain(3);
    let expected: Vec<u8> = before.iter().map(|member| if *member == 3 { 13 } else { *member }).collect();
    assert_eq!(homes(&mut dispatcher), expected);
    drop(dispatcher.remove(3));
    assert_eq!(homes(&mut dispatcher), expected);
}
