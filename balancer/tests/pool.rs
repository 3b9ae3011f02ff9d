//! Pools: counts that are exact, whoever comes and goes meanwhile.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "a test starts threads")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_balancer::strategy::{PowerOfTwoChoices, from_fn};
use cluster_balancer::{Candidates, Ended, LeastLoaded, Limits, Pool, SharedPool};

#[test]
fn a_late_release_never_touches_a_successor() {
    let mut pool = Pool::new(LeastLoaded::new());
    let first = pool.add("anna", Limits::new());
    let held: Vec<_> = (0..3).map(|_| pool.pick().unwrap()).collect();
    assert_eq!(pool.remove(first), Some("anna"));
    assert_eq!((pool.remove(first), pool.pick(), pool.len()), (None, None, 0));
    let second = pool.add("anna", Limits::new());
    assert_ne!(first, second, "the same key in the same place is another life");
    let own = pool.pick().unwrap();
    for late in held {
        pool.release(late);
        pool.finish(late, Ended::badly(Duration::ZERO));
    }
    assert_eq!((pool.outstanding(own), pool.outstanding(first)), (Some(1), None));
    assert_eq!(pool.status().members[0].failed, 0);
    pool.release(own);
    assert_eq!(pool.outstanding(second), Some(0));
}

#[test]
fn who_is_full_is_not_picked_and_who_is_changed_keeps_its_counts() {
    let mut pool = Pool::new(LeastLoaded::new());
    let small = pool.add("small", Limits::new().capacity(1));
    let large = pool.add("large", Limits::new().capacity(2));
    let picks: Vec<_> = std::iter::from_fn(|| pool.pick()).collect();
    assert_eq!(picks, [small, large, large]);
    assert_eq!(pool.add("small", Limits::new().capacity(3).weight(5)), small);
    assert_eq!((pool.outstanding(small), pool.pick()), (Some(1), Some(small)));
    let status = pool.status();
    assert_eq!((status.strategy, status.members[0].weight, status.members[0].picked), ("least-loaded", 5, 2));
    assert_eq!((status.members[1].capacity, status.members[1].eligible), (Some(2), false));
}

/// Whatever a strategy answers, somebody who has room gets the item.
#[test]
fn a_broken_strategy_spoils_the_balance_and_not_the_work() {
    for answer in [None, Some(7), Some(1)] {
        let mut pool = Pool::new(from_fn("broken", move |_: &Candidates<'_>| answer));
        let one = pool.add(1, Limits::new());
        let two = pool.add(2, Limits::new());
        pool.set_paused(two, true);
        assert_eq!(pool.pick(), Some(one));
        pool.set_paused(one, true);
        assert_eq!(pool.pick(), None);
    }
}

/// Threads pick and end items while members come and go. In the end nobody has anything, and nothing was counted twice.
#[test]
fn a_guard_gives_back_one_item_however_it_ends() {
    let pool = SharedPool::new(LeastLoaded::new());
    pool.add(0, Limits::new());
    let outstanding = || pool.status().members[0].outstanding;
    let mut guards: Vec<_> = (0..4).map(|_| pool.pick().unwrap()).collect();
    guards.pop().unwrap().succeed(Duration::ZERO, Duration::ZERO);
    assert_eq!(outstanding(), 3);
    guards.pop().unwrap().fail(Duration::ZERO, Duration::ZERO);
    assert_eq!((outstanding(), pool.status().members[0].failed), (2, 1));
    drop(guards.pop());
    assert_eq!(outstanding(), 1);
}

#[test]
fn who_is_added_again_no_longer_drains() {
    let mut pool = Pool::new(LeastLoaded::new());
    let id = pool.add(0, Limits::new());
    pool.drain(id);
    assert_eq!(pool.pick(), None);
    assert_eq!(pool.add(0, Limits::new()), id);
    assert_eq!(pool.pick(), Some(id));
}

#[test]
fn threads_lose_no_counts() {
    const THREADS: u64 = 4;
    let rounds = if std::env::var_os("CLUSTER_TEST_LONG").is_some() { 200_000 } else { 20_000u64 };
    let pool = SharedPool::new(PowerOfTwoChoices::seeded(3));
    let stays: Vec<_> = (0..3).map(|member| pool.add(member, Limits::new())).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pickers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..rounds {
                        held.push(pool.pick().expect("three stay"));
                        if held.len() > 10 {
                            let guard = held.swap_remove((round * (thread + 3) % 10) as usize);
                            match round % 3 {
                                0 => guard.succeed(Duration::from_millis(1), Duration::ZERO),
                                1 => guard.fail(Duration::from_millis(1), Duration::ZERO),
                                _ => drop(guard),
                            }
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut member = 3;
            while !over.load(Ordering::Relaxed) {
                let id = pool.add(member, Limits::new());
                pool.with(|pool| pool.set_healthy(id, member % 2 == 0));
                assert_eq!(pool.remove(id), Some(member));
                member += 1;
            }
        });
        pickers.into_iter().for_each(|picker| picker.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    let status = pool.status();
    assert!(status.members.iter().all(|member| member.outstanding == 0), "{status:?}");
    assert_eq!(status.members.len(), stays.len());
    let picked: u64 = status.members.iter().map(|member| member.picked).sum();
    assert!(picked <= THREADS * rounds && picked > THREADS * rounds / 2);
}
