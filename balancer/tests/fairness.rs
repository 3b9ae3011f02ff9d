//! Who gets how much.

#![allow(clippy::expect_used, reason = "a test may panic, in its helpers too")]

use std::cmp::Ordering;

use cluster_balancer::{
    Candidate, Candidates, Dispatcher, LeastLoaded, Limits, RoundRobin, Strategy, strategy,
};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

/// Offers items one at a time, all taken at once, and returns who got them.
fn receivers(dispatcher: &mut Dispatcher<u8, usize>, items: usize) -> Vec<u8> {
    let mut receivers = Vec::new();
    for item in 0..items {
        dispatcher.offer(item).expect("taken at once");
        while let Some(batch) = dispatcher.poll_batch() {
            for &ticket in batch.tickets() {
                dispatcher.handle_taken(batch.key(), ticket);
                receivers.push(batch.key());
            }
        }
    }
    receivers
}

fn count(receivers: &[u8], key: u8) -> usize {
    receivers.iter().filter(|receiver| **receiver == key).count()
}

#[test]
fn equal_idle_members_take_turns_unless_chance_decides() {
    let by_chance = ["random", "weighted-random", "power-of-two", "peak-ewma"];
    for name in strategy::names().filter(|name| !by_chance.contains(name)) {
        let mut dispatcher = Dispatcher::new(strategy::by_name(name).expect("listed"), 1);
        (0..3).for_each(|key| dispatcher.admit(key, Limits::new()));
        for finished in 1..=10 {
            assert_eq!(receivers(&mut dispatcher, 3), [0, 1, 2], "{name}");
            // All are idle again: a fixed order of ties would now begin with the same one for ever.
            (0..3).for_each(|key| dispatcher.handle_finished(key, finished));
        }
    }
}

#[test]
fn with_little_load_ties_rotate_instead_of_favouring_the_first() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 1);
    (0..4).for_each(|key| dispatcher.admit(key, Limits::new()));
    let mut finished = [0_u64; 4];
    let mut all = Vec::new();
    for _ in 0..400 {
        let key = receivers(&mut dispatcher, 1)[0];
        finished[usize::from(key)] += 1;
        dispatcher.handle_finished(key, finished[usize::from(key)]);
        all.push(key);
    }
    (0..4).for_each(|key| assert_eq!(count(&all, key), 100));
}

#[test]
fn least_loaded_shares_by_weight_exactly() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 1);
    let weights = [1, 2, 5];
    (0..3).for_each(|key| dispatcher.admit(key, Limits::new().weight(weights[usize::from(key)])));
    let all = receivers(&mut dispatcher, 800);
    assert_eq!([count(&all, 0), count(&all, 1), count(&all, 2)], [100, 200, 500]);
}

#[test]
fn least_loaded_avoids_the_member_that_does_not_finish() {
    let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 1);
    (0..4).for_each(|key| dispatcher.admit(key, Limits::new()));
    let mut finished = [0_u64; 4];
    let mut stuck = 0;
    for _ in 0..1_000 {
        let key = receivers(&mut dispatcher, 1)[0];
        finished[usize::from(key)] += 1;
        match key {
            2 => stuck += 1,
            _ => dispatcher.handle_finished(key, finished[usize::from(key)]),
        }
    }
    assert_eq!(stuck, 1, "one item is enough to know");
}

#[test]
fn round_robin_does_not_lose_its_turn_over_a_member_that_goes_and_comes() {
    let mut dispatcher = Dispatcher::new(Box::new(RoundRobin::new()), 1);
    (0..3).for_each(|key| dispatcher.admit(key, Limits::new()));
    assert_eq!(receivers(&mut dispatcher, 2), [0, 1]);
    drop(dispatcher.remove(0));
    assert_eq!(receivers(&mut dispatcher, 3), [2, 1, 2]);
    dispatcher.admit(7, Limits::new());
    assert_eq!(receivers(&mut dispatcher, 4), [7, 1, 2, 7]);
}

fn candidates() -> impl Generator<Value = Vec<Candidate>> {
    let number = || prop_oneof![0..4_u32, any::<u32>()];
    let candidate = (number(), number(), any::<bool>()).prop_map(|(outstanding, weight, eligible)| {
        let candidate = Candidate::new(outstanding, weight);
        if eligible { candidate } else { candidate.ineligible() }
    });
    prop::collection::vec(candidate, 0..12)
}

proptest! {
    #[test]
    fn least_loaded_picks_a_least_loaded_eligible_candidate(all in candidates(), picks in 1..6_usize) {
        let mut strategy = LeastLoaded::new();
        for _ in 0..picks {
            let eligible = || all.iter().filter(|candidate| candidate.is_eligible());
            let Some(index) = strategy.pick(&Candidates::new(&all)) else {
                prop_assert_eq!(eligible().count(), 0);
                continue;
            };
            let picked = all[index];
            prop_assert!(picked.is_eligible());
            // The definition again, in a way that can't overflow.
            let load = |c: &Candidate| (u128::from(c.outstanding()) + 1, u128::from(c.weight()));
            let (work, weight) = load(&picked);
            prop_assert!(eligible().map(load).all(|(w, v)| work * v <= w * weight));
            prop_assert!(eligible().all(|other| picked.compare_load(other) != Ordering::Greater));
        }
    }
}
