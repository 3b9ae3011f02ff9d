#![expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn every(period: Duration) -> Timing {
    Timing::new().period(period).jitter(0.0)
}

#[test]
fn the_first_ones_are_spread_over_the_period() {
    let now = Instant::now();
    let mut schedule = Schedule::new(1000, 1);
    for key in 0..400 {
        schedule.insert(key, Probe::Liveness, every(ms(1000)), now);
    }
    let due_until =
        |schedule: &mut Schedule<u32>, at| std::iter::from_fn(|| schedule.poll_due(now + at)).count();
    for quarter in 1..=4 {
        let due = due_until(&mut schedule, ms(250) * quarter);
        assert!((60..140).contains(&due), "a quarter of the members in each quarter, not {due}");
    }
    assert_eq!(schedule.under_way(), 400);
}

#[test]
fn periods_are_jittered_around_the_mean() {
    let mut now = Instant::now();
    let mut schedule = Schedule::new(1, 1);
    schedule.insert((), Probe::Liveness, Timing::new().period(ms(1000)).jitter(0.2), now);
    let mut lengths = Vec::new();
    let mut last = None;
    for _ in 0..1000 {
        now = schedule.poll_timeout().unwrap();
        let due = schedule.poll_due(now).unwrap();
        schedule.handle_done(due.ticket, now);
        lengths.extend(last.replace(now).map(|last| now - last));
    }
    assert!(lengths.iter().all(|length| (ms(800)..=ms(1200)).contains(length)));
    assert!(
        lengths.iter().any(|length| *length < ms(850)) && lengths.iter().any(|length| *length > ms(1150))
    );
}

#[test]
fn who_finds_no_place_waits_the_oldest_first() {
    let mut now = Instant::now();
    let mut schedule = Schedule::new(1, 1);
    for key in 0..10 {
        schedule.insert(key, Probe::Readiness, every(ms(1000)), now);
    }
    let mut round = || {
        let mut keys = Vec::new();
        for _ in 0..10 {
            // All are due; each takes longer than all should.
            now += ms(2000);
            let due = schedule.poll_due(now).unwrap();
            assert!(schedule.poll_due(now).is_none(), "the one place is taken");
            assert_eq!(schedule.poll_timeout(), None, "there is nothing to wait for but its end");
            now += ms(2000);
            assert!(schedule.handle_done(due.ticket, now));
            keys.push(due.key);
        }
        keys
    };
    let first = round();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 10, "nobody starves");
    assert_eq!(round(), first);
}

#[test]
fn who_overruns_its_period_waits_behind_those_who_wait() {
    let now = Instant::now();
    let mut schedule = Schedule::new(1, 1);
    schedule.insert("patient", Probe::Liveness, every(ms(1000)), now);
    let patient = schedule.poll_timeout().unwrap();
    schedule.insert("slow", Probe::Liveness, every(ms(10)), patient - ms(100));
    let slow = schedule.poll_due(patient - ms(90)).unwrap();
    assert_eq!(slow.key, "slow");
    schedule.handle_done(slow.ticket, patient + ms(50));
    assert_eq!(schedule.poll_due(patient + ms(50)).unwrap().key, "patient");
}

#[test]
fn after_a_long_pause_everybody_is_asked_once() {
    let now = Instant::now();
    let mut schedule = Schedule::new(10, 1);
    for key in 0..3 {
        schedule.insert(key, Probe::Liveness, every(ms(10)), now);
    }
    let now = now + Duration::from_secs(3600);
    let due: Vec<_> = std::iter::from_fn(|| schedule.poll_due(now)).collect();
    assert_eq!(due.len(), 3);
    for due in due {
        schedule.handle_done(due.ticket, now);
    }
    assert!(schedule.poll_due(now).is_none(), "what was missed is not made up for");
}

#[test]
fn an_answer_to_an_earlier_life_does_not_count() {
    let now = Instant::now();
    let mut schedule = Schedule::new(2, 1);
    schedule.insert("a", Probe::Liveness, every(ms(10)), now);
    let old = schedule.poll_due(now + ms(10)).unwrap();
    schedule.remove("a");
    assert!(!schedule.is_current(old.ticket));
    schedule.insert("a", Probe::Liveness, every(ms(10)), now);
    let new = schedule.poll_due(now + ms(10)).unwrap();
    assert_eq!(schedule.under_way(), 2);
    assert!(!schedule.handle_done(old.ticket, now));
    assert!(!schedule.handle_done(old.ticket, now), "idempotent");
    assert!(schedule.is_current(new.ticket));
    assert!(schedule.handle_done(new.ticket, now));
}

#[test]
fn extreme_instants_and_periods_panic_nobody() {
    let mut now = Instant::now();
    while let Some(later) = now.checked_add(Duration::from_secs(1 << 40)) {
        now = later;
        if now.checked_add(Duration::from_secs(1 << 41)).is_none() {
            break;
        }
    }
    let mut schedule = Schedule::new(1, 1);
    schedule.insert((), Probe::Liveness, every(Duration::MAX).timeout(Duration::MAX), now);
    let at = schedule.poll_timeout().unwrap();
    let due = schedule.poll_due(at).unwrap();
    assert!(schedule.handle_done(due.ticket, at));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(u8, Probe),
    Remove(u8),
    RemoveProbe(u8, Probe),
    Pass(u64),
    Done(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let probe = || prop::sample::select(Probe::ALL.to_vec());
    prop_oneof![
        2 => (0..4_u8, probe()).prop_map(|(key, probe)| Op::Insert(key, probe)),
        1 => (0..4_u8).prop_map(Op::Remove),
        1 => (0..4_u8, probe()).prop_map(|(key, probe)| Op::RemoveProbe(key, probe)),
        5 => (0..80_u64).prop_map(Op::Pass),
        5 => any::<usize>().prop_map(Op::Done),
    ]
}

/// What is known of one (member, probe) without knowing the schedule's dice.
#[derive(Default)]
struct Known {
    ticket: Option<Ticket>,
    /// It is not begun before then, and it is due after then.
    between: Option<(Instant, Instant)>,
}

proptest! {
    /// Periods are 100 ms, by 20 % more or less.
    #[test]
    fn random_operations_agree_with_a_naive_model(
        most in 1..6_usize, seed: u64, ops in prop::collection::vec(op(), 1..200),
    ) {
        let timing = Timing::new().period(ms(100)).jitter(0.2).timeout(ms(30));
        let mut now = Instant::now();
        let mut schedule = Schedule::new(most, seed);
        let mut model: HashMap<(u8, Probe), Known> = HashMap::new();
        let mut under_way: Vec<(Ticket, Instant, (u8, Probe))> = Vec::new();
        for op in ops {
            match op {
                Op::Insert(key, probe) => {
                    schedule.insert(key, probe, timing, now);
                    let known = Known { ticket: None, between: Some((now, now + ms(100))) };
                    model.insert((key, probe), known);
                }
                Op::Remove(key) => {
                    schedule.remove(key);
                    model.retain(|(of, _), _| *of != key);
                }
                Op::RemoveProbe(key, probe) => {
                    schedule.remove_probe(key, probe);
                    model.remove(&(key, probe));
                }
                Op::Pass(time) => now += ms(time),
                Op::Done(at) if !under_way.is_empty() => {
                    let (ticket, began, of) = under_way.swap_remove(at % under_way.len());
                    let known = model.get_mut(&of).filter(|known| known.ticket == Some(ticket));
                    prop_assert_eq!(schedule.is_current(ticket), known.is_some());
                    prop_assert_eq!(schedule.handle_done(ticket, now), known.is_some(), "a removed one does not count");
                    prop_assert!(!schedule.handle_done(ticket, now), "idempotent");
                    if let Some(known) = known {
                        let due = |after| (began + after).max(now);
                        *known = Known { ticket: None, between: Some((due(ms(80)), due(ms(120)))) };
                    }
                }
                Op::Done(_) => {}
            }
            while let Some(due) = schedule.poll_due(now) {
                prop_assert_eq!(due.timeout, ms(30));
                let known = model.get_mut(&(due.key, due.probe)).expect("only who is asked is due");
                prop_assert_eq!(known.ticket.replace(due.ticket), None, "one at a time");
                let (earliest, _) = known.between.take().expect("it waited");
                prop_assert!(earliest <= now, "not before its time");
                under_way.push((due.ticket, now, (due.key, due.probe)));
            }
            prop_assert!(under_way.len() <= most, "not more at a time than allowed");
            prop_assert_eq!(under_way.len(), schedule.under_way());
            let timeout = schedule.poll_timeout();
            prop_assert!(timeout.is_none_or(|at| at > now), "what was handled is not announced again");
            let latest = model.values().filter_map(|known| known.between).map(|(_, latest)| latest).min();
            if under_way.len() < most {
                prop_assert_eq!(timeout.is_some(), latest.is_some());
                prop_assert!(timeout <= latest, "nobody is forgotten");
            } else {
                prop_assert_eq!(timeout, None);
            }
        }
    }
}
