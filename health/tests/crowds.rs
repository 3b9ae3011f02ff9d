//! Many members, and verdicts that nobody polls: both cost what they have to, and no more.

mod clock;

use std::time::Duration;

use clock::{ms, patient, polled, start};
use cluster_health::{Checks, Limit, Monitor, Quantity, Sample, Standing, VerdictKind};

const SECOND: Duration = Duration::from_secs(1);

/// So many that anything quadratic would take minutes in a debug build.
const CROWD: u32 = 50_000;

#[test]
fn a_crowd_is_asked_about_and_removed_one_by_one() {
    let begin = start();
    let checks = Checks::new().limit(Quantity::Memory, Limit::over(100.0).recycle());
    let mut monitor = Monitor::new(checks);
    (0..CROWD).for_each(|key| monitor.insert(key, begin));
    let mut asked = 0;
    for key in 0..CROWD {
        monitor.handle_sample(key, &Sample::new().resident(150), begin);
        asked += u32::from(monitor.poll_confirm().is_some());
    }
    for key in 0..CROWD / 2 {
        monitor.handle_unconfirmed(key, begin);
    }
    // From both ends: none of them is where the last one was.
    for key in 0..CROWD / 2 {
        monitor.remove(CROWD - 1 - key);
        monitor.remove(key);
    }
    assert_eq!(asked, CROWD);
    assert_eq!((monitor.poll_confirm(), monitor.poll_verdict()), (None, None));
}

#[test]
fn those_to_be_looked_at_take_turns_and_leave_with_their_member() {
    let begin = start();
    let checks = Checks::new().limit(Quantity::Memory, Limit::over(100.0).recycle());
    let mut monitor = Monitor::new(checks);
    (1..=4).for_each(|key| monitor.insert(key, begin));
    for key in [3, 1, 4, 2] {
        monitor.handle_sample(key, &Sample::new().resident(150), begin);
    }
    let mut order = Vec::new();
    while let Some(key) = monitor.poll_confirm() {
        order.push(key);
        match key {
            1 => monitor.remove(1),
            4 => monitor.insert(4, begin + ms(1)),
            _ => monitor.handle_unconfirmed(key, begin + ms(1)),
        }
    }
    assert_eq!(order, [3, 1, 4, 2]);
    assert_eq!(polled(&mut monitor), [(3, VerdictKind::Recycle), (2, VerdictKind::Recycle)]);
}

#[test]
fn a_crowd_that_is_suspect_at_once_leaves_one_by_one() {
    let begin = start();
    let mut monitor = Monitor::new(Checks::new());
    (0..CROWD).for_each(|key| monitor.insert(key, begin));
    (1..=10).for_each(|tick| monitor.handle_timeout(begin + ms(100) * tick));
    (0..CROWD).for_each(|key| monitor.remove(key));
    assert_eq!(monitor.poll_verdict(), None);
}

#[test]
fn verdicts_that_nobody_polls_are_bounded_and_still_make_sense() {
    let begin = start();
    let queue = Quantity::gauge("queue");
    for (polled_before, turns) in [(false, 9_999), (false, 10_000), (true, 9_999), (true, 10_000)] {
        let checks = Checks::new()
            .heartbeat(patient())
            .limit(queue.clone(), Limit::over(1.0).suspect())
            .limit(queue.clone(), Limit::over(2.0).again_after(SECOND).recycle());
        let mut monitor = Monitor::new(checks);
        monitor.insert(1, begin);
        monitor.insert(2, begin);
        let mut first = Vec::new();
        for turn in 0..turns {
            let value = if turn % 2 == 0 { 1.5 } else { 0.5 };
            monitor.handle_value(1, &queue, value, begin + SECOND * turn);
            // Told again and again.
            monitor.handle_value(2, &queue, 9.0, begin + SECOND * turn);
            if polled_before && turn == 0 {
                first = polled(&mut monitor);
            }
        }
        let told = polled(&mut monitor);
        assert!(told.len() < 200, "{} were kept", told.len());
        let of = |key| first.iter().chain(&told).filter(move |(of, _)| *of == key).map(|(_, kind)| *kind);
        for (at, kind) in of(1).enumerate() {
            let expected = if at % 2 == 0 { VerdictKind::Suspect } else { VerdictKind::Recovered };
            assert_eq!(kind, expected, "a recovery has its beginning, and a beginning comes once");
        }
        let is_suspect = of(1).next_back() == Some(VerdictKind::Suspect);
        assert_eq!(is_suspect, monitor.standing(1) == Some(Standing::Suspect), "the last one holds");
        assert!(of(2).any(|kind| kind == VerdictKind::Recycle));
    }
}
