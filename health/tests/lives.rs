//! A life ends after so many requests or so long, each member's a little apart from the others'.

mod clock;

use std::collections::BTreeSet;
use std::time::Duration;

use clock::{kinds, ms, patient, polled, start, tick_until};
use cluster_health::{Checks, Monitor, Standing, VerdictKind};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_life_that_is_over_is_told_once_a_minute_and_the_member_is_well() {
    let begin = start();
    let checks = Checks::new().heartbeat(patient()).max_lifetime(100 * SECOND).jitter(0.0);
    let mut monitor = Monitor::new(checks);
    monitor.insert(1, begin);
    let verdicts = tick_until(&mut monitor, begin + 221 * SECOND);
    assert_eq!(kinds(&verdicts), [(1, VerdictKind::Recycle); 3]);
    let at: Vec<_> = verdicts.iter().map(|(when, _)| (*when - begin).as_secs()).collect();
    assert_eq!(at, [100, 160, 220]);
    assert_eq!(verdicts[0].1.to_string(), "100.0 s old, over 100.0 s");
    assert_eq!((verdicts[0].1.since(), monitor.standing(1)), (begin, Some(Standing::Well)));
}

#[test]
fn so_many_requests_are_a_life() {
    let begin = start();
    let mut monitor = Monitor::new(Checks::new().heartbeat(patient()).max_requests(1_000).jitter(0.0));
    monitor.insert(1, begin);
    for (second, requests) in [(1, 0), (2, 999), (3, 1_000)] {
        monitor.handle_requests(1, requests, 0);
        let told = kinds(&tick_until(&mut monitor, begin + SECOND * second));
        assert_eq!(told.len(), usize::from(requests == 1_000), "{requests}");
    }
}

#[test]
fn jitter_only_shortens_and_keeps_those_apart_that_began_together() {
    let begin = start();
    let checks = Checks::new().heartbeat(patient()).max_lifetime(1_000 * SECOND).max_requests(1_000_000);
    let mut monitor = Monitor::new(checks.clone());
    (0..100).for_each(|key| monitor.insert(key, begin));
    let verdicts = tick_until(&mut monitor, begin + 959 * SECOND);
    let first = verdicts.first().expect("some end early").0;
    assert!(first >= begin + 900 * SECOND);
    let verdicts = tick_until(&mut monitor, begin + 1_000 * SECOND);
    let later: BTreeSet<_> = verdicts.iter().map(|(when, _)| *when).collect();
    assert!(later.len() > 30, "they are spread: {}", later.len());

    // Equal seeds, equal lives.
    let ends = |seed| {
        let mut monitor = Monitor::new(checks.clone().seed(seed));
        monitor.insert(1, begin);
        tick_until(&mut monitor, begin + 1_000 * SECOND)[0].0
    };
    assert_eq!(ends(7), ends(7));
    assert_ne!(ends(7), ends(8));
}

#[test]
fn time_in_which_the_monitor_stood_still_makes_nobody_older() {
    let begin = start();
    let checks = Checks::new().heartbeat(patient()).max_lifetime(100 * SECOND);
    let mut monitor = Monitor::new(checks);
    (1..=8).for_each(|key| monitor.insert(key, begin));
    assert_eq!(kinds(&tick_until(&mut monitor, begin + 80 * SECOND)), []);
    let now = begin + 3_600 * SECOND;
    monitor.handle_timeout(now);
    assert_eq!(polled(&mut monitor), [], "all at once, else");
    let verdicts = tick_until(&mut monitor, now + 20 * SECOND);
    let when: BTreeSet<_> = verdicts.iter().map(|(when, _)| *when).collect();
    assert!(verdicts.len() == 8 && when.len() > 4, "they are as far apart as ever");
}

#[test]
fn lives_of_ages_panic_nowhere() {
    let begin = start();
    let checks = Checks::new().max_lifetime(Duration::MAX).max_requests(u64::MAX);
    for jitter in [0.0, 1.0, f64::NAN, -3.0, f64::INFINITY] {
        let mut monitor = Monitor::new(checks.clone().jitter(jitter).heartbeat(patient()));
        monitor.insert(1, begin);
        monitor.handle_requests(1, u64::MAX - 1, u64::MAX);
        monitor.handle_timeout(begin + ms(1_000));
    }
}

#[test]
fn a_count_of_requests_that_begins_anew_is_not_over() {
    let begin = start();
    let mut monitor = Monitor::new(Checks::new().heartbeat(patient()).max_requests(10).jitter(0.0));
    monitor.insert(1, begin);
    monitor.handle_requests(1, 10, 0);
    assert_eq!(tick_until(&mut monitor, begin + SECOND).len(), 1);
    monitor.handle_requests(1, 3, 0);
    assert_eq!(kinds(&tick_until(&mut monitor, begin + 200 * SECOND)), []);
}
