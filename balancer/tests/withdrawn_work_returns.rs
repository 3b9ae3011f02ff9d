//! Work that a withdrawn member had not taken goes to the others, in its old order.

#![allow(clippy::expect_used, reason = "a test may panic, in its helpers too")]

use cluster_balancer::{Dispatcher, Limits, RoundRobin};

fn with_members(keys: &[u8]) -> Dispatcher<u8, u32> {
    let mut dispatcher = Dispatcher::new(Box::new(RoundRobin::new()), 8);
    for key in keys {
        dispatcher.admit(*key, Limits::new().window(4));
    }
    dispatcher
}

/// Everything there is to hand out now, as (member, item).
fn poll_all(dispatcher: &mut Dispatcher<u8, u32>) -> Vec<(u8, u32)> {
    let mut all = Vec::new();
    while let Some(batch) = dispatcher.poll_batch() {
        let items = batch.tickets().iter().filter_map(|ticket| dispatcher.item(batch.key(), *ticket));
        all.extend(items.map(|item| (batch.key(), *item)));
    }
    all
}

#[test]
fn what_a_dead_member_had_not_taken_goes_to_its_successor_before_anything_newer() {
    let mut dispatcher = with_members(&[1]);
    (0..6).for_each(|item| dispatcher.offer(item).expect("fits"));
    assert_eq!(poll_all(&mut dispatcher).len(), 4);

    let tickets = dispatcher.withdraw(1);
    assert_eq!(tickets.len(), 4);
    assert!(tickets.is_sorted_by_key(|ticket| ticket.sequence()), "oldest first");
    // It had taken the second; the others were claimed back. The order of settling does not matter.
    assert_eq!(dispatcher.handle_taken(1, tickets[1]), Some(1));
    for ticket in [tickets[2], tickets[0], tickets[3]] {
        assert!(dispatcher.handle_recalled(1, ticket));
    }
    assert!(dispatcher.remove(1).is_empty());

    dispatcher.admit(2, Limits::new());
    assert_eq!(poll_all(&mut dispatcher), [(2, 0), (2, 2), (2, 3), (2, 4), (2, 5)]);
}

#[test]
fn recalled_work_is_kept_even_beyond_the_queue_limit() {
    let mut dispatcher = with_members(&[1, 2]);
    (0..16).for_each(|item| dispatcher.offer(item).expect("fits"));
    assert_eq!(poll_all(&mut dispatcher).len(), 8);
    assert_eq!(dispatcher.waiting(), 8, "the queue is full");
    for key in [1, 2] {
        for ticket in dispatcher.withdraw(key) {
            assert!(dispatcher.handle_recalled(key, ticket));
        }
    }
    assert_eq!(dispatcher.waiting(), 16);
    assert!(dispatcher.offer(16).is_err());

    dispatcher.admit(3, Limits::new());
    let items: Vec<u32> = poll_all(&mut dispatcher).into_iter().map(|(_, item)| item).collect();
    assert!(items.into_iter().eq(0..16), "in order of arrival");
}

#[test]
fn withdrawing_twice_changes_nothing() {
    let mut dispatcher = with_members(&[1]);
    dispatcher.offer(0).expect("fits");
    poll_all(&mut dispatcher);
    let tickets = dispatcher.withdraw(1);
    assert_eq!(dispatcher.withdraw(1), tickets);
    assert_eq!(dispatcher.untaken(1), 1);
    assert!(dispatcher.handle_recalled(1, tickets[0]));
    assert!(dispatcher.withdraw(1).is_empty());
    assert_eq!(dispatcher.poll_batch(), None, "there is nobody else");
}

#[test]
fn a_readmitted_member_keeps_its_counts_and_its_tickets() {
    let mut dispatcher = with_members(&[1]);
    (0..4).for_each(|item| dispatcher.offer(item).expect("fits"));
    poll_all(&mut dispatcher);
    let tickets = dispatcher.withdraw(1);
    dispatcher.handle_taken(1, tickets[0]);
    dispatcher.admit(1, Limits::new().window(5));
    assert_eq!(dispatcher.outstanding(1), Some(4));
    assert_eq!(dispatcher.room(), 2);
    assert_eq!(dispatcher.handle_taken(1, tickets[3]), Some(3));
}

#[test]
fn removing_without_settling_returns_what_was_in_flight() {
    let mut dispatcher = with_members(&[1]);
    (0..3).for_each(|item| dispatcher.offer(item).expect("fits"));
    poll_all(&mut dispatcher);
    let tickets = dispatcher.withdraw(1);
    dispatcher.handle_taken(1, tickets[0]);
    assert_eq!(dispatcher.remove(1), [1, 2]);
    assert!(dispatcher.remove(1).is_empty());
    assert!(!dispatcher.handle_recalled(1, tickets[1]), "a late event finds nothing");
}

#[test]
fn work_not_yet_polled_returns_without_asking() {
    type End = fn(&mut Dispatcher<u8, u32>, u8);
    let ends: [End; 3] = [
        |dispatcher, key| dispatcher.pause(key),
        |dispatcher, key| assert!(dispatcher.withdraw(key).is_empty()),
        |dispatcher, key| assert!(dispatcher.remove(key).is_empty()),
    ];
    for end in ends {
        let mut dispatcher = with_members(&[1, 2]);
        (0..4).for_each(|item| dispatcher.offer(item).expect("fits"));
        let first = dispatcher.poll_batch().expect("there is work");
        assert_eq!((first.key(), dispatcher.untaken(2)), (1, 2));
        end(&mut dispatcher, 2);
        assert_eq!((dispatcher.waiting(), dispatcher.untaken(2)), (2, 0));
        assert_eq!(poll_all(&mut dispatcher), [(1, 1), (1, 3)]);
    }
}

#[test]
fn a_newcomer_in_the_place_of_a_removed_member_inherits_nothing() {
    let mut dispatcher = with_members(&[1, 2]);
    (0..4).for_each(|item| dispatcher.offer(item).expect("fits"));
    assert_eq!(dispatcher.poll_batch().expect("there is work").key(), 1);
    drop(dispatcher.remove(2));
    dispatcher.admit(3, Limits::new());
    assert_eq!(dispatcher.outstanding(3), Some(0));
    assert_eq!(dispatcher.members().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(poll_all(&mut dispatcher).len(), 2);
}
