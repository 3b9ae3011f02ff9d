//! What each strategy promises, for any members and weights.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::time::Duration;

use allocation_counter::measure;
use cluster_balancer::strategy::{
    BoundedLoad, Fallback, LeastUsed, Maglev, PanicThreshold, PeakEwma, PowerOfTwoChoices, Random,
    Rendezvous, SlowStart, SmoothWeighted, Sticky, WeightedRandom, by_name_seeded, names,
};
use cluster_balancer::{
    Candidate, Candidates, Classes, Ended, Figures, LeastLoaded, Limits, MemberId, Pool, Request, RoundRobin,
    Strategy, hash_of,
};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn config() -> ProptestConfig {
    let long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if long { 10_000 } else { 200 })
    }
}

fn weighted(weights: &[u32]) -> Vec<Candidate> {
    weights.iter().map(|weight| Candidate::new(0, *weight)).collect()
}

/// Picks so often, without anything ever ending, and counts.
fn counts(strategy: &mut impl Strategy, all: &[Candidate], picks: usize) -> Vec<usize> {
    let mut counts = vec![0; all.len()];
    (0..picks).for_each(|_| counts[strategy.pick(&Candidates::new(all)).unwrap()] += 1);
    counts
}

/// How far counts are from what was expected (Pearson).
fn chi_square(counts: &[usize], expected: impl Fn(usize) -> f64) -> f64 {
    let off = |(index, count): (usize, &usize)| (*count as f64 - expected(index)).powi(2) / expected(index);
    counts.iter().enumerate().map(off).sum()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn smooth_weighted_is_exact_in_each_cycle_and_never_far_off(weights in vec(1u32..20, 1..9)) {
        let all = weighted(&weights);
        let sum: u32 = weights.iter().sum();
        let mut strategy = SmoothWeighted::new();
        let mut counts = vec![0u32; all.len()];
        for pick in 1..=3 * sum {
            counts[strategy.pick(&Candidates::new(&all)).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let due = f64::from(pick) * f64::from(*weight) / f64::from(sum);
                prop_assert!((f64::from(*count) - due).abs() < 1.5, "{counts:?} after {pick} of {weights:?}");
            }
            if pick % sum == 0 {
                let exact: Vec<u32> = weights.iter().map(|weight| weight * pick / sum).collect();
                prop_assert_eq!(&counts, &exact);
            }
        }
    }

    #[test]
    fn a_bound_is_never_exceeded(
        weights in vec(1u32..5, 1..20),
        keys in vec(0u64..30, 1..400),
        factor in prop_oneof![Just(1.0), Just(1.1), Just(1.25), Just(2.0)],
        maglev in any::<bool>(),
    ) {
        let mut all = weighted(&weights);
        let sum: u32 = weights.iter().sum();
        let mut by_table = BoundedLoad::new(Maglev::new().table(997)).factor(factor);
        let mut by_score = BoundedLoad::new(Rendezvous::new()).factor(factor);
        for (total, key) in keys.into_iter().enumerate() {
            let among = Candidates::new(&all).for_request(Request::new().key(key));
            let picked = if maglev { by_table.pick(&among) } else { by_score.pick(&among) }.unwrap();
            let has = all[picked].outstanding() + 1;
            let weight = all[picked].weight();
            let bound = (factor * (total as f64 + 1.0) / f64::from(sum) * f64::from(weight)).ceil();
            prop_assert!(f64::from(has) <= bound, "{has} above {bound}");
            all[picked] = Candidate::new(has, weight);
        }
    }

    /// Whoever is picked may be picked, and somebody is if anybody may.
    #[test]
    fn every_strategy_picks_somebody_eligible(
        members in vec((0u32..4, 1u32..5, any::<bool>()), 0..40),
        picks in vec((0usize..40, any::<u64>()), 1..60),
        seed in any::<u64>(),
    ) {
        for name in names() {
            let mut strategy = by_name_seeded(name, seed).unwrap();
            let mut all: Vec<Candidate> = members
                .iter()
                .map(|(outstanding, weight, eligible)| {
                    let candidate = Candidate::new(*outstanding, *weight);
                    if *eligible { candidate } else { candidate.ineligible() }
                })
                .collect();
            for (time, (change, key)) in (0..).zip(&picks) {
                let request = Request::new().at(Duration::from_millis(time)).key(*key);
                let picked = strategy.pick(&Candidates::new(&all).for_request(request));
                prop_assert_eq!(picked.is_some(), all.iter().any(Candidate::is_eligible), "{}", name);
                prop_assert!(picked.is_none_or(|index| all[index].is_eligible()), "{name} picks who may not be");
                if let Some(index) = picked {
                    let ended = Ended::well(Duration::from_millis(time)).after(Duration::from_millis(*key % 50));
                    strategy.observe(index, ended);
                }
                if let Some(candidate) = all.get_mut(*change) {
                    *candidate = if candidate.is_eligible() { candidate.ineligible() } else { Candidate::new(1, 1) };
                }
            }
        }
    }
}

#[test]
fn chance_is_fair() {
    let all = weighted(&[1; 10]);
    // 9 degrees of freedom: above 27.9 once in a thousand times, and the seeds are fixed.
    for seed in 0..5 {
        let random = counts(&mut Random::seeded(seed), &all, 10_000);
        assert!(chi_square(&random, |_| 1000.0) < 27.9, "{random:?}");
        let two = counts(&mut PowerOfTwoChoices::seeded(seed), &all, 10_000);
        assert!(chi_square(&two, |_| 1000.0) < 27.9, "{two:?}");
    }
    let weights = [1, 2, 3, 4, 10, 20, 5, 5, 25, 25];
    for seed in 0..5 {
        let random = counts(&mut WeightedRandom::seeded(seed), &weighted(&weights), 10_000);
        assert!(chi_square(&random, |index| f64::from(weights[index]) * 100.0) < 27.9, "{random:?}");
    }
}

/// Where each of many keys goes in a pool of these members.
fn homes(strategy: impl Strategy, members: &[u32]) -> Vec<u32> {
    let mut pool = Pool::new(strategy);
    for member in members {
        pool.add(*member, Limits::new());
    }
    (0..20_000u64)
        .map(|key| {
            let picked = pool.pick_for(Request::new().key(hash_of(key))).unwrap();
            pool.release(picked);
            *pool.key(picked).unwrap()
        })
        .collect()
}

#[test]
fn keys_move_only_when_they_must() {
    for count in [4u32, 16, 64] {
        let (all, gone) = ((0..count).collect::<Vec<_>>(), count / 2);
        let less: Vec<u32> = all.iter().copied().filter(|member| *member != gone).collect();
        let moved = |before: &[u32], after: &[u32]| {
            let both = || before.iter().zip(after);
            let needless = both().filter(|(home, now)| **home != gone && home != now).count();
            let needed = both().filter(|(home, _)| **home == gone).count();
            (needless as f64 / before.len() as f64, needed as f64 / before.len() as f64)
        };
        let (needless, needed) = moved(&homes(Rendezvous::new(), &all), &homes(Rendezvous::new(), &less));
        assert!(needless == 0.0, "rendezvous, {count} members: {needless}");
        let share = 1.0 / f64::from(count);
        assert!((needed - share).abs() < 0.15 * share + 0.002, "{needed} of {count}");
        let (needless, needed) = moved(&homes(Maglev::new(), &all), &homes(Maglev::new(), &less));
        assert!(needless < 0.01, "maglev, {count} members: {needless}");
        assert!((needed - share).abs() < 0.15 * share + 0.002, "{needed} of {count}");
    }
}

#[test]
fn who_comes_back_gets_back_its_keys() {
    let mut pool = Pool::new(Maglev::new());
    let mut ids: Vec<_> = (0..8).map(|member| pool.add(member, Limits::new())).collect();
    let homes = |pool: &mut Pool<i32, Maglev>| -> Vec<i32> {
        let keys = (0..1000u64).map(|key| Request::new().key(hash_of(key)));
        keys.map(|request| {
            let picked = pool.pick_for(request).unwrap();
            pool.release(picked);
            *pool.key(picked).unwrap()
        })
        .collect()
    };
    let before = homes(&mut pool);
    // Health that comes and goes moves nobody else's keys.
    pool.set_healthy(ids[3], false);
    let sick = homes(&mut pool);
    assert!(before.iter().zip(&sick).all(|(home, now)| home == now || *home == 3));
    assert!(!sick.contains(&3));
    pool.set_healthy(ids[3], true);
    assert_eq!(homes(&mut pool), before);
    // In another place, too.
    assert_eq!(pool.remove(ids[3]), Some(3));
    assert_eq!(pool.remove(ids[5]), Some(5));
    ids[5] = pool.add(5, Limits::new());
    ids[3] = pool.add(3, Limits::new());
    assert_eq!(homes(&mut pool), before);
}

#[test]
fn a_key_sticks_until_it_is_forgotten_or_its_member_leaves() {
    let seconds = Duration::from_secs;
    let mut pool = Pool::new(Sticky::new(LeastLoaded::new(), seconds(60)).max_keys(100));
    let ids: Vec<_> = (0..4).map(|member| pool.add(member, Limits::new())).collect();
    let pick = |pool: &mut Pool<i32, Sticky<LeastLoaded>>, key, now| {
        let picked = pool.pick_for(Request::new().key(key).at(seconds(now))).unwrap();
        pool.release(picked);
        picked
    };
    let home = pick(&mut pool, 7, 0);
    for now in 1..100 {
        assert_eq!(pick(&mut pool, 7, now), home, "used again and again, it is never forgotten");
        pick(&mut pool, 1000 + now, now);
    }
    // A member that drains keeps what sticks to it, and gets nothing new.
    pool.drain(home);
    assert_eq!(pick(&mut pool, 7, 100), home);
    assert!((0..20).all(|key| pick(&mut pool, 5000 + key, 100) != home));
    // One that is not well doesn't.
    pool.set_healthy(home, false);
    let other = pick(&mut pool, 7, 101);
    assert_ne!(other, home);
    pool.set_healthy(home, true);
    assert_eq!(pick(&mut pool, 7, 102), other, "it has moved");
    pool.remove(other);
    assert_ne!(pick(&mut pool, 7, 103), other);
    drop(ids);
}

#[test]
fn a_key_that_was_not_used_for_long_is_a_new_key() {
    let mut strategy = Sticky::new(LeastLoaded::new(), Duration::from_secs(60));
    let mut pick = |loads: [u32; 2], now| {
        let all = loads.map(|load| Candidate::new(load, 1));
        strategy.pick(&Candidates::new(&all).for_request(Request::new().key(7).at(Duration::from_secs(now))))
    };
    assert_eq!(pick([0, 9], 0), Some(0));
    assert_eq!(pick([9, 0], 60), Some(0));
    assert_eq!(pick([9, 0], 121), Some(1));
}

#[test]
fn who_moves_in_owes_nothing_for_who_moved_out() {
    let mut pool = Pool::new(SmoothWeighted::new());
    let first = [0, 1].map(|member| pool.add(member, Limits::new()));
    let first_picked = |pool: &mut Pool<i32, SmoothWeighted>, ids: [MemberId; 2]| {
        let picked = pool.pick().unwrap();
        ids.into_iter().position(|id| id == picked)
    };
    let before = first_picked(&mut pool, first);
    // In this order each newcomer gets the place of one who was there.
    first.into_iter().rev().for_each(|id| assert!(pool.remove(id).is_some()));
    let second = [2, 3].map(|member| pool.add(member, Limits::new()));
    assert_eq!(first_picked(&mut pool, second), before);
}

#[test]
fn what_somebody_used_who_has_left_is_forgotten() {
    let mut pool = Pool::new(LeastUsed::memory());
    let [giant, large, small] = [0, 1, 2].map(|member| pool.add(member, Limits::new()));
    pool.report(giant, 1 << 40);
    pool.remove(giant);
    for _ in 0..20 {
        pool.pick().unwrap();
    }
    assert_eq!((pool.outstanding(large), pool.outstanding(small)), (Some(10), Some(10)));
    pool.report(large, 900 << 20);
    pool.report(small, 100 << 20);
    // An item uses 50 MB, as far as anybody knows.
    assert!((0..8).all(|_| pool.pick() == Some(small)));
}

#[test]
fn a_flood_of_keys_is_forgotten_again() {
    let mut strategy = Sticky::new(RoundRobin::new(), Duration::from_secs(60)).max_keys(1000);
    let all = weighted(&[1; 3]);
    for time in 0..100_000u64 {
        // Most of them a few popular ones.
        let key = if time % 4 == 0 { time } else { time % 10 };
        let request = Request::new().key(key).at(Duration::from_millis(time));
        strategy.pick(&Candidates::new(&all).for_request(request));
        assert!(strategy.keys() <= 1000);
    }
}

#[test]
fn who_fails_fast_does_not_look_fast() {
    let mut strategy = PeakEwma::seeded(1);
    let ms = Duration::from_millis;
    for time in 0..100 {
        strategy.observe(0, Ended::badly(ms(time)).after(ms(1)));
        strategy.observe(1, Ended::well(ms(time)).after(ms(20)));
    }
    let all = weighted(&[1, 1]);
    assert_eq!(counts(&mut strategy, &all, 100), [0, 100]);
}

#[test]
fn a_new_member_starts_slowly_among_many() {
    let seconds = Duration::from_secs;
    let mut pool = Pool::new(SlowStart::seeded(SmoothWeighted::new(), seconds(100), 7));
    for member in 0..9 {
        pool.add(member, Limits::new());
    }
    let young = pool.add_at(9, Limits::new(), seconds(1000));
    let mut share = |now: u64| {
        let picks = (0..1000).filter(|_| {
            let picked = pool.pick_for(Request::new().at(seconds(now))).unwrap();
            pool.release(picked);
            picked == young
        });
        picks.count()
    };
    let (first, middle, last) = (share(1000), share(1050), share(1100));
    assert!((5..20).contains(&first), "a tenth of a share: {first}");
    assert!((45..60).contains(&middle), "half a share: {middle}");
    assert!((98..103).contains(&last), "its share: {last}");
    // Where everybody is new somebody gets it all the same.
    let mut strategy = SlowStart::seeded(LeastLoaded::new(), seconds(100), 7);
    let (all, figures) = ([Candidate::new(0, 1)], [Figures::new(0).admitted(seconds(1000))]);
    let request = Request::new().at(seconds(1001));
    let among = Candidates::new(&all).with_figures(&figures).for_request(request);
    assert!((0..100).all(|_| strategy.pick(&among) == Some(0)));
}

#[test]
fn with_most_members_ill_health_is_ignored() {
    let mut pool = Pool::new(PanicThreshold::new(LeastLoaded::new()));
    let ids: Vec<_> = (0..4).map(|member| pool.add(member, Limits::new())).collect();
    let picked = |pool: &mut Pool<i32, _>| {
        let picks: Vec<_> = (0..4).map(|_| pool.pick().unwrap()).collect();
        picks.iter().for_each(|id| pool.release(*id));
        let mut keys: Vec<_> = picks.iter().filter_map(|id| pool.key(*id).copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    pool.set_healthy(ids[0], false);
    pool.set_healthy(ids[1], false);
    assert_eq!(picked(&mut pool), [2, 3]);
    pool.set_healthy(ids[2], false);
    assert_eq!(picked(&mut pool), [0, 1, 2, 3]);
    pool.set_paused(ids[0], true);
    assert_eq!(picked(&mut pool), [1, 2, 3], "who has no room is never picked");
}

#[test]
fn who_uses_too_much_is_picked_only_when_all_do() {
    let mut pool = Pool::new(LeastUsed::memory().limit(1000));
    let ids: Vec<_> = (0..3).map(|member| pool.add(member, Limits::new())).collect();
    for (id, used) in ids.iter().zip([100, 2000, 150]) {
        pool.report(*id, used);
    }
    let pick = |pool: &mut Pool<i32, LeastUsed>| {
        let picked = pool.pick().unwrap();
        *pool.key(picked).unwrap()
    };
    let mut picked: Vec<_> = (0..30).map(|_| pick(&mut pool)).collect();
    assert!(!picked.contains(&1));
    picked.sort_unstable();
    picked.dedup();
    assert_eq!(picked, [0, 2], "and not all go to the one that used least when that was measured");
    ids.iter().for_each(|id| pool.report(*id, 3000));
    assert!((0..30).any(|_| pick(&mut pool) == 1));
}

/// Nothing is allocated per pick once a strategy has seen the members.
#[test]
fn picks_allocate_nothing() {
    for name in names() {
        for members in [4, 64, 1024] {
            let mut pool = Pool::new(by_name_seeded(name, 1).unwrap());
            for member in 0..members {
                pool.add(member, Limits::new().weight(1 + member % 3));
            }
            let mut held = Vec::with_capacity(4 * members as usize);
            let mut churn = |picks: u64| {
                for key in 0..picks {
                    let request = Request::new().key(hash_of(key)).at(Duration::from_micros(key));
                    held.push(pool.pick_for(request).unwrap());
                    if held.len() == 3 * members as usize {
                        for id in held.drain(..) {
                            pool.finish(
                                id,
                                Ended::well(Duration::from_micros(key)).after(Duration::from_millis(1)),
                            );
                        }
                    }
                }
            };
            churn(8 * u64::from(members));
            let used = measure(|| churn(10_000.max(4 * u64::from(members))));
            assert_eq!(used.count_total, 0, "{name}, {members} members: {used:?}");
        }
    }
}

#[test]
fn who_failed_once_is_tried_again() {
    let ms = Duration::from_millis;
    let mut pool = Pool::new(PeakEwma::seeded(3));
    let ids: Vec<_> = (0..4).map(|member| pool.add(member, Limits::new())).collect();
    let mut counts = [0; 4];
    for pick in 0..10_000 {
        let now = ms(10 * pick);
        let picked = pool.pick_for(Request::new().at(now)).unwrap();
        counts[ids.iter().position(|id| *id == picked).unwrap()] += 1;
        let ended = if pick < 4 { Ended::badly(now) } else { Ended::well(now) };
        pool.finish(picked, ended.after(ms(2)));
    }
    assert!(counts.iter().all(|count| *count > 500), "in 100 s: {counts:?}");
}

#[test]
fn without_latencies_load_decides() {
    let mut strategy = PeakEwma::seeded(3);
    let all = [Candidate::new(0, 1), Candidate::new(500, 1)];
    assert!((0..100).all(|_| strategy.pick(&Candidates::new(&all)) == Some(0)));
    // Measured with a clock of milliseconds, the one took none.
    let at = Duration::from_secs(1);
    strategy.observe(0, Ended::well(at).after(Duration::ZERO));
    strategy.observe(1, Ended::well(at).after(Duration::ZERO));
    assert!((0..100).all(|_| strategy.pick(&Candidates::new(&all)) == Some(0)));
}

#[test]
fn decorators_leave_each_other_their_say() {
    let unwell = [Candidate::new(0, 1).unhealthy(); 4];
    let picks = |strategy: &mut dyn Strategy, all: &[Candidate]| -> Vec<Option<usize>> {
        (0..4).map(|_| strategy.pick(&Candidates::new(all))).collect()
    };
    let everybody = [Some(0), Some(1), Some(2), Some(3)];
    let panic = || PanicThreshold::new(RoundRobin::new());
    assert_eq!(picks(&mut Fallback::new(panic(), LeastLoaded::new()), &unwell), everybody);
    assert_eq!(picks(&mut BoundedLoad::new(panic()), &unwell), everybody);
    // A key stays where it went, even in a panic.
    let mut sticky = Sticky::new(panic(), Duration::from_secs(60));
    let request = Request::new().key(7).at(Duration::from_secs(1));
    let home = sticky.pick(&Candidates::new(&unwell).for_request(request));
    assert!((0..9).all(|_| sticky.pick(&Candidates::new(&unwell).for_request(request)) == home));
    // Nor does a fallback take a key from who drains.
    let mut sticky =
        Fallback::new(Sticky::new(LeastLoaded::new(), Duration::from_secs(60)), LeastLoaded::new());
    let mut all = [Candidate::new(0, 1); 2];
    assert_eq!(sticky.pick(&Candidates::new(&all).for_request(request)), Some(0));
    all[0] = all[0].draining();
    assert_eq!(sticky.pick(&Candidates::new(&all).for_request(request)), Some(0));
}

#[test]
fn a_member_without_a_figure_gets_its_part_and_no_more() {
    let mut pool = Pool::new(LeastUsed::memory());
    let ids: Vec<_> = (0..5).map(|member| pool.add(member, Limits::new())).collect();
    for round in 0..20u64 {
        ids.iter().take(4).for_each(|id| pool.report(*id, (500 + round) << 20));
        for _ in 0..5 {
            pool.pick();
        }
    }
    let outstanding: Vec<_> = ids.iter().filter_map(|id| pool.outstanding(*id)).collect();
    assert!(outstanding[4] < 40, "{outstanding:?}");
}

#[test]
fn items_of_two_classes_in_turn_reach_everybody() {
    for strategy in [by_name_seeded("round-robin", 1), by_name_seeded("least-loaded", 1)] {
        let mut pool = Pool::new(strategy.unwrap());
        let only = Classes::none().with(0);
        for (member, classes) in [only, only, only.with(1)].into_iter().enumerate() {
            pool.add(member, Limits::new().classes(classes));
        }
        for pick in 0..300u16 {
            let id = pool.pick_for(Request::new().class((pick % 2) as u8)).unwrap();
            pool.release(id);
        }
        let status = pool.status();
        assert!(status.members.iter().all(|member| member.picked > 40), "{status:?}");
    }
}
