//! The way of an item from the queue to the member that takes it.

#![allow(clippy::expect_used, reason = "a test may panic, in its helpers too")]

use cluster_balancer::{Candidates, Dispatcher, LeastLoaded, Limits, Request, RoundRobin, Strategy, Ticket};

fn round_robin(queue_limit: usize) -> Dispatcher<u8, u32> {
    Dispatcher::new(Box::new(RoundRobin::new()), queue_limit)
}

fn offer_all(dispatcher: &mut Dispatcher<u8, u32>, items: impl IntoIterator<Item = u32>) {
    for item in items {
        dispatcher.offer(item).expect("there is room");
    }
}

/// Everything there is to hand out now, as (member, ticket, item).
fn poll_all(dispatcher: &mut Dispatcher<u8, u32>) -> Vec<(u8, Ticket, u32)> {
    let mut all = Vec::new();
    while let Some(batch) = dispatcher.poll_batch() {
        for &ticket in batch.tickets() {
            all.push((batch.key(), ticket, *dispatcher.item(batch.key(), ticket).expect("in flight")));
        }
    }
    all
}

#[test]
fn a_round_gives_each_member_one_batch_in_order_of_arrival() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new());
    dispatcher.admit(2, Limits::new());
    offer_all(&mut dispatcher, 0..5);

    let shown: Vec<_> = poll_all(&mut dispatcher).iter().map(|(key, _, item)| (*key, *item)).collect();
    assert_eq!(shown, [(1, 0), (1, 2), (1, 4), (2, 1), (2, 3)]);
    assert_eq!(dispatcher.poll_batch(), None);
}

#[test]
fn taking_an_item_gives_it_back_once_and_frees_the_window_but_not_the_count() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new().window(1));
    offer_all(&mut dispatcher, [10, 11]);
    let first = poll_all(&mut dispatcher)[0].1;
    assert_eq!(dispatcher.poll_batch(), None, "the window is full");

    assert_eq!(dispatcher.handle_taken(1, first), Some(10));
    assert_eq!(dispatcher.handle_taken(1, first), None, "a settled ticket finds nothing");
    assert!(!dispatcher.handle_recalled(1, first), "what was taken can't be recalled");
    assert_eq!(dispatcher.outstanding(1), Some(1));

    let second = poll_all(&mut dispatcher);
    assert_eq!((second.len(), second[0].2), (1, 11));
    assert_eq!(second[0].1.index(), first.index(), "the place is used again");
    assert!(second[0].1.sequence() > first.sequence(), "the sequence never");
    assert_eq!(dispatcher.item(1, first), None);
    assert_eq!(dispatcher.outstanding(1), Some(2));
}

#[test]
fn a_ticket_of_one_member_finds_nothing_at_another() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new());
    dispatcher.admit(2, Limits::new());
    offer_all(&mut dispatcher, [0]);
    let (_, ticket, _) = poll_all(&mut dispatcher)[0];
    assert_eq!(dispatcher.handle_taken(2, ticket), None);
    assert_eq!(dispatcher.handle_taken(9, ticket), None);
    assert_eq!(dispatcher.handle_taken(1, Ticket::new(u16::MAX, ticket.sequence())), None);
    assert_eq!(dispatcher.handle_taken(1, Ticket::new(ticket.index(), u64::MAX)), None);
    assert_eq!(dispatcher.handle_taken(1, ticket), Some(0));
}

#[test]
fn a_ticket_can_t_be_guessed_before_it_is_handed_out() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new());
    dispatcher.admit(2, Limits::new());
    offer_all(&mut dispatcher, [0, 1]);
    let first = dispatcher.poll_batch().expect("there is work");
    assert_eq!(first.key(), 1);
    // Member 2 has an item of this round already, but the driver has not seen it.
    assert_eq!(dispatcher.untaken(2), 1);
    assert_eq!(dispatcher.in_flight(2).count(), 0);
    assert_eq!(dispatcher.handle_taken(2, Ticket::new(0, 2)), None);
    let second = dispatcher.poll_batch().expect("the rest of the round");
    assert_eq!(dispatcher.handle_taken(2, second.tickets()[0]), Some(1));
}

#[test]
fn an_offer_beyond_room_and_queue_gives_the_item_back() {
    let mut dispatcher = round_robin(2);
    dispatcher.admit(1, Limits::new().window(3));
    offer_all(&mut dispatcher, 0..5);
    let refused = dispatcher.offer(5).expect_err("three places and two may wait");
    assert_eq!(refused.to_string(), "no member has room for it, and 5 items wait already");
    assert_eq!((refused.waiting(), refused.into_inner()), (5, 5));

    assert_eq!(poll_all(&mut dispatcher).len(), 3);
    assert_eq!(dispatcher.waiting(), 2);
    assert!(dispatcher.offer(6).is_err(), "two wait");
}

#[test]
fn whoever_asks_for_room_first_is_never_refused() {
    let mut dispatcher = round_robin(0);
    assert_eq!(dispatcher.room(), 0);
    assert!(dispatcher.offer(0).is_err());
    dispatcher.admit(1, Limits::new().window(4));
    dispatcher.admit(2, Limits::new().capacity(2));
    let room = dispatcher.room();
    assert_eq!(room, 6);
    offer_all(&mut dispatcher, 0..6);
    assert_eq!(dispatcher.room(), 0);
    assert!(dispatcher.offer(6).is_err());
    assert_eq!(poll_all(&mut dispatcher).len(), room, "room is what can be assigned at once");
}

#[test]
fn a_full_member_gets_more_only_as_it_finishes() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new().capacity(2));
    offer_all(&mut dispatcher, 0..6);
    for (key, ticket, _) in poll_all(&mut dispatcher) {
        dispatcher.handle_taken(key, ticket);
    }
    assert_eq!(dispatcher.poll_batch(), None);
    dispatcher.handle_finished(1, 1);
    assert_eq!(poll_all(&mut dispatcher).len(), 1);
    assert_eq!(dispatcher.outstanding(1), Some(2));
}

#[test]
fn a_member_that_lies_about_its_finished_work_can_only_look_idle() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new().window(2));
    offer_all(&mut dispatcher, 0..4);
    let handed = poll_all(&mut dispatcher);
    dispatcher.handle_taken(1, handed[0].1);
    dispatcher.handle_finished(1, u64::MAX);
    assert_eq!(dispatcher.outstanding(1), Some(1), "what is untaken is not finished");
    dispatcher.handle_finished(1, 0);
    assert_eq!(dispatcher.outstanding(1), Some(1), "the counter does not go backwards");
    // Recalling what was claimed finished must not leave it less than nothing to do.
    assert!(dispatcher.handle_recalled(1, handed[1].1));
    assert_eq!(dispatcher.outstanding(1), Some(0));
    assert_eq!(poll_all(&mut dispatcher).len(), 2);
    assert_eq!(dispatcher.outstanding(1), Some(2), "new work counts again");
}

#[test]
fn a_paused_member_is_skipped_and_keeps_what_is_in_flight() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new());
    dispatcher.admit(2, Limits::new().window(8));
    offer_all(&mut dispatcher, [0]);
    let (_, ticket, _) = poll_all(&mut dispatcher)[0];
    dispatcher.pause(1);
    assert_eq!(dispatcher.room(), 8);
    offer_all(&mut dispatcher, 1..4);
    assert!(poll_all(&mut dispatcher).iter().all(|(key, ..)| *key == 2));
    assert_eq!(dispatcher.handle_taken(1, ticket), Some(0));
    dispatcher.resume(1);
    offer_all(&mut dispatcher, [4]);
    assert_eq!(poll_all(&mut dispatcher)[0].0, 1);
}

#[test]
fn what_could_not_be_sent_goes_elsewhere_before_later_arrivals() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new());
    dispatcher.admit(2, Limits::new());
    offer_all(&mut dispatcher, 0..3);
    let batch = dispatcher.poll_batch().expect("there is work");
    assert_eq!(batch.key(), 1);
    dispatcher.pause(1);
    for &ticket in batch.tickets() {
        assert!(dispatcher.handle_recalled(1, ticket));
    }
    offer_all(&mut dispatcher, [3]);
    let shown: Vec<_> = poll_all(&mut dispatcher).iter().map(|(key, _, item)| (*key, *item)).collect();
    assert_eq!(shown, [(2, 1), (2, 0), (2, 2), (2, 3)], "the round ends, then the next is in order");
}

#[test]
fn new_limits_apply_to_a_member_with_work_in_flight() {
    let mut dispatcher = round_robin(100);
    dispatcher.admit(1, Limits::new().window(8));
    offer_all(&mut dispatcher, 0..12);
    let handed = poll_all(&mut dispatcher);
    dispatcher.admit(1, Limits::new().window(2));
    assert_eq!(dispatcher.room(), 0);
    assert_eq!(dispatcher.untaken(1), 8);
    // All but the two in the highest places, which a window of 2 would not give out.
    for (_, ticket, item) in &handed[..6] {
        assert_eq!(dispatcher.handle_taken(1, *ticket), Some(*item));
    }
    assert_eq!(dispatcher.poll_batch(), None, "two are untaken already");
    assert_eq!(dispatcher.handle_taken(1, handed[7].1), Some(7));
    let more = poll_all(&mut dispatcher);
    assert_eq!(more.len(), 1);
    assert!(more[0].1.index() < 2, "the index keeps below the window");
    dispatcher.admit(1, Limits::new().window(0));
    dispatcher.handle_taken(1, more[0].1);
    dispatcher.handle_taken(1, handed[6].1);
    assert_eq!(dispatcher.poll_batch(), None, "a window of 0 is no work");
}

#[test]
fn the_largest_window_has_an_index_for_each_item() {
    let mut dispatcher = round_robin(0);
    dispatcher.admit(1, Limits::new().window(u16::MAX));
    offer_all(&mut dispatcher, 0..u32::from(u16::MAX));
    assert!(dispatcher.offer(0).is_err());
    let mut indices: Vec<u16> = poll_all(&mut dispatcher).iter().map(|(_, t, _)| t.index()).collect();
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..u16::MAX));
}

#[test]
fn an_unknown_member_is_nobody() {
    let mut dispatcher = round_robin(1);
    assert!(dispatcher.withdraw(1).is_empty());
    assert!(dispatcher.remove(1).is_empty());
    dispatcher.pause(1);
    dispatcher.resume(1);
    dispatcher.handle_finished(1, 7);
    assert_eq!(dispatcher.outstanding(1), None);
    assert_eq!(dispatcher.untaken(1), 0);
    assert_eq!(dispatcher.members().count(), 0);
}

/// Answers whatever it was told to.
#[derive(Debug)]
struct Stubborn(Option<usize>);

impl Strategy for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    fn pick(&mut self, _: &Candidates<'_>) -> Option<usize> {
        self.0
    }
}

#[test]
fn a_broken_strategy_spoils_the_balance_but_not_the_work() {
    for answer in [None, Some(0), Some(2), Some(usize::MAX)] {
        let mut dispatcher = Dispatcher::new(Box::new(Stubborn(answer)), 100);
        dispatcher.admit(0, Limits::new());
        dispatcher.admit(1, Limits::new());
        dispatcher.withdraw(0);
        offer_all(&mut dispatcher, 0..3);
        let shown: Vec<_> = poll_all(&mut dispatcher).iter().map(|(key, _, item)| (*key, *item)).collect();
        assert_eq!(shown, [(1, 0), (1, 1), (1, 2)], "the first eligible member instead of {answer:?}");
    }
}

#[test]
fn items_need_no_trait_and_the_dispatcher_can_move_between_threads() {
    struct Opaque;
    fn is_send<T: Send>(_: &T) {}
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 1);
    dispatcher.admit('a', Limits::default());
    assert!(dispatcher.offer(Opaque).is_ok());
    is_send(&dispatcher);
    assert_eq!(dispatcher.strategy_name(), "least-loaded");
    let shown = format!("{dispatcher:?}");
    assert!(shown.contains("'a': 0") && shown.contains("waiting: 1"), "{shown}");
}

#[test]
fn what_is_retracted_nobody_gets_whether_it_waited_was_assigned_or_came_back() {
    let mut dispatcher: Dispatcher<u8, u32> = Dispatcher::new(Box::new(LeastLoaded::new()), 10);
    let arrivals: Vec<_> =
        (0..4).map(|item| dispatcher.offer_for(Request::new(), item).expect("there is room")).collect();
    assert_eq!(dispatcher.retract(arrivals[0]), Some(0), "it waited");
    assert_eq!(dispatcher.retract(arrivals[0]), None, "it has left");
    dispatcher.admit(1, Limits::new().window(1));
    dispatcher.admit(2, Limits::new().window(1));
    // Both are assigned; only one is handed out.
    let batch = dispatcher.poll_batch().expect("one to each");
    assert_eq!(dispatcher.retract(arrivals[2]), Some(2), "it was assigned");
    assert_eq!(dispatcher.retract(arrivals[1]), None, "it is in flight");
    assert_eq!(dispatcher.outstanding(2), Some(0));
    assert!(dispatcher.handle_refused(batch.key(), batch.tickets()[0]));
    assert_eq!(dispatcher.retract(arrivals[1]), Some(1), "it came back");
    let batch = dispatcher.poll_batch().expect("the last");
    assert_eq!(dispatcher.item(batch.key(), batch.tickets()[0]), Some(&3));
    assert_eq!((dispatcher.poll_batch(), dispatcher.status().totals.retracted), (None, 3));
}
