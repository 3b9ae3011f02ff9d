//! Items that not every member takes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use cluster_balancer::{Classes, Dispatcher, LeastLoaded, Limits, Request};

fn only(class: u8) -> Limits {
    Limits::new().window(4).classes(Classes::none().with(class))
}

fn assigned(dispatcher: &mut Dispatcher<&'static str, u32>) -> BTreeMap<&'static str, Vec<u32>> {
    let mut assigned: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    while let Some(batch) = dispatcher.poll_batch() {
        let items = batch.tickets().iter().map(|ticket| *dispatcher.item(batch.key(), *ticket).unwrap());
        assigned.entry(batch.key()).or_default().extend(items);
    }
    assigned
}

#[test]
fn an_item_goes_only_to_a_member_that_takes_its_class() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 10);
    dispatcher.admit("web", only(0));
    dispatcher.admit("metrics", only(1));
    for item in 0..4 {
        dispatcher.offer_for(Request::new().class(0), item).unwrap();
    }
    dispatcher.offer_for(Request::new().class(1), 100).unwrap();
    let assigned = assigned(&mut dispatcher);
    assert_eq!(assigned["web"], [0, 1, 2, 3]);
    assert_eq!(assigned["metrics"], [100]);
}

#[test]
fn an_item_that_nobody_takes_waits_and_holds_up_nobody() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 10);
    dispatcher.admit("web", only(0));
    dispatcher.offer_for(Request::new().class(1), 100).unwrap();
    dispatcher.offer_for(Request::new().class(0), 0).unwrap();
    assert_eq!(assigned(&mut dispatcher)["web"], [0]);
    assert_eq!(dispatcher.waiting(), 1);
    dispatcher.admit("metrics", only(1));
    assert_eq!(assigned(&mut dispatcher)["metrics"], [100]);
}

#[test]
fn room_is_told_by_class() {
    let mut dispatcher = Dispatcher::<_, u32>::new(Box::new(LeastLoaded::new()), 10);
    dispatcher.admit("web", only(0));
    assert_eq!((dispatcher.room_for(0), dispatcher.room_for(1)), (4, 0));
    dispatcher.offer_for(Request::new().class(0), 1).unwrap();
    assert_eq!(dispatcher.room_for(0), 3);
    // What nobody takes is in nobody's way.
    dispatcher.offer_for(Request::new().class(1), 2).unwrap();
    assert_eq!(dispatcher.room_for(0), 3);
}

#[test]
fn changed_classes_hold_for_what_comes_next() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 10);
    dispatcher.admit("web", only(0));
    dispatcher.offer_for(Request::new().class(0), 0).unwrap();
    assert_eq!(assigned(&mut dispatcher)["web"], [0]);
    dispatcher.admit("web", only(1));
    dispatcher.offer_for(Request::new().class(0), 1).unwrap();
    assert!(assigned(&mut dispatcher).is_empty());
    assert_eq!(dispatcher.untaken("web"), 1, "what is on its way stays on its way");
}
