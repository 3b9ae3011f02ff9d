//! Who fails more than the others gets no more for a while, and some are always left.

mod clock;

use std::time::{Duration, Instant};

use clock::{ms, patient, polled, start, tick_until};
use cluster_health::{Checks, Heartbeat, Limit, Monitor, Outliers, Quantity, Standing, VerdictKind};

const SECOND: Duration = Duration::from_secs(1);

/// Members with their counts of requests and failures so far.
struct Stage {
    monitor: Monitor<u8>,
    now: Instant,
    counts: Vec<(u64, u64)>,
    told: Vec<(u64, u8, VerdictKind)>,
    begin: Instant,
}

impl Stage {
    fn new(members: u8, outliers: Outliers) -> Self {
        Self::with(members, Checks::new().heartbeat(patient()).outliers(outliers))
    }

    fn with(members: u8, checks: Checks) -> Self {
        let begin = start();
        let mut monitor = Monitor::new(checks);
        (0..members).for_each(|key| monitor.insert(key, begin));
        let counts = vec![(0, 0); usize::from(members)];
        Self { monitor, now: begin, counts, told: Vec::new(), begin }
    }

    /// A second of 100 requests to each that is not suspect; those listed fail so many of them.
    fn second(&mut self, failing: &[(u8, u64)]) {
        for (key, (requests, failed)) in (0..).zip(&mut self.counts) {
            if self.monitor.standing(key) == Some(Standing::Well) {
                *requests += 100;
                *failed += failing.iter().find(|(of, _)| *of == key).map_or(0, |(_, failed)| *failed);
            }
            self.monitor.handle_requests(key, *requests, *failed);
        }
        self.now += SECOND;
        let second = (self.now - self.begin).as_secs();
        let told = tick_until(&mut self.monitor, self.now);
        self.told.extend(told.iter().map(|(_, verdict)| (second, verdict.key(), verdict.kind())));
    }

    fn suspects(&self) -> usize {
        (0..self.counts.len() as u8).filter(|key| self.monitor.standing(*key) != Some(Standing::Well)).count()
    }
}

#[test]
fn one_that_fails_is_ejected_and_comes_back_and_goes_for_longer_if_it_still_fails() {
    let mut stage = Stage::new(4, Outliers::new());
    (0..100).for_each(|_| stage.second(&[(2, 90)]));
    let times: Vec<_> = stage
        .told
        .iter()
        .map(|(second, key, kind)| {
            assert_eq!(*key, 2);
            (*second, *kind)
        })
        .collect();
    let [
        (first, VerdictKind::Suspect),
        (back, VerdictKind::Recovered),
        (again, VerdictKind::Suspect),
        rest @ ..,
    ] = &times[..]
    else {
        panic!("{times:?}")
    };
    assert!(*first <= 3 && (30..=31).contains(&(back - first)) && again - back <= 3, "{times:?}");
    let (back, _) = rest.first().expect("it is let in again");
    assert!((60..=61).contains(&(back - again)), "the second time is twice as long: {times:?}");
}

#[test]
fn at_most_a_quarter_is_ejected_and_the_last_one_never() {
    for members in 1..=9_u8 {
        let mut stage = Stage::new(members, Outliers::new().share(0.3));
        let mut most = 0;
        for second in 0..200_u64 {
            // Half of them fail, in turns.
            let failing: Vec<_> = (0..members)
                .filter(|key| (u64::from(*key) + second / 40) % 2 == 0)
                .map(|key| (key, 80))
                .collect();
            stage.second(&failing);
            most = most.max(stage.suspects());
        }
        let allowed = usize::from(members / 4).max(1).min(usize::from(members) - 1);
        assert!(most <= allowed, "{most} of {members}");
    }
}

#[test]
fn when_all_fail_alike_nobody_is_to_blame() {
    let mut stage = Stage::new(4, Outliers::new());
    (0..100).for_each(|_| stage.second(&[(0, 100), (1, 100), (2, 95), (3, 100)]));
    assert_eq!(stage.told, []);
}

#[test]
fn one_that_is_well_is_not_ejected_when_the_others_are_out_for_other_reasons() {
    let checks = Checks::new()
        .heartbeat(patient())
        .limit(Quantity::Lag, Limit::over(1.0).suspect())
        .outliers(Outliers::new());
    let mut stage = Stage::with(4, checks);
    (0..20).for_each(|_| stage.second(&[]));
    (0..3).for_each(|key| stage.monitor.handle_value(key, &Quantity::Lag, 9.0, stage.now));
    assert_eq!(polled(&mut stage.monitor).len(), 3);
    (0..20).for_each(|_| stage.second(&[(3, 100)]));
    assert_eq!(stage.told, [], "it would be the last one");
    (0..1).for_each(|key| stage.monitor.handle_value(key, &Quantity::Lag, 0.0, stage.now));
    polled(&mut stage.monitor);
    (0..20).for_each(|_| stage.second(&[(3, 100)]));
    assert_eq!(stage.told[0].1, 3, "now there is another");
}

#[test]
fn who_alone_gets_requests_is_compared_with_nobody() {
    let mut stage = Stage::new(2, Outliers::new());
    for second in 1..60 {
        stage.monitor.handle_requests(0, 100 * second, 100 * second);
        stage.monitor.handle_requests(1, 0, 0);
        stage.now += SECOND;
        assert!(tick_until(&mut stage.monitor, stage.now).is_empty());
    }
}

#[test]
fn what_it_did_before_it_was_watched_is_not_held_against_a_member() {
    let mut stage = Stage::new(4, Outliers::new());
    stage.counts[1] = (1_000_000, 900_000);
    // Some ticks before its first counts are known.
    stage.now += SECOND;
    tick_until(&mut stage.monitor, stage.now);
    (0..30).for_each(|_| stage.second(&[]));
    assert_eq!(stage.told, []);
}

#[test]
fn counts_that_go_backwards_begin_anew() {
    let mut stage = Stage::new(4, Outliers::new());
    for turn in 0..30 {
        stage.second(&[]);
        stage.counts[1] = if turn % 3 == 0 { (0, 0) } else { (60, 60) };
        stage.counts[2] = (u64::MAX - 1_000_000, turn);
    }
    assert!(stage.told.iter().all(|(_, key, _)| *key == 1), "{:?}", stage.told);
    // Neither do figures that cannot be.
    stage.counts[3] = (7, u64::MAX);
    stage.second(&[]);
}

#[test]
fn failures_while_the_monitor_stood_still_do_not_count_whatever_is_handled_first() {
    for counts_first in [true, false] {
        let mut stage = Stage::new(4, Outliers::new());
        (0..20).for_each(|_| stage.second(&[]));
        // Stopped for 15 s; what was under way failed, more of it in one.
        stage.now += 15 * SECOND;
        stage.counts[1] = (3_000, 900);
        if !counts_first {
            stage.monitor.handle_timeout(stage.now);
        }
        stage.monitor.handle_requests(1, 3_000, 900);
        stage.monitor.handle_timeout(stage.now);
        (0..30).for_each(|_| stage.second(&[]));
        assert_eq!(stage.told, [], "counts first: {counts_first}");
        (0..30).for_each(|_| stage.second(&[(1, 90)]));
        assert_eq!(stage.told.first().map(|told| (told.1, told.2)), Some((1, VerdictKind::Suspect)));
    }
}

#[test]
fn times_of_ages_eject_once_and_panic_nowhere() {
    let mut stage = Stage::new(4, Outliers::new().for_at_least(Duration::MAX).window(ms(0)).share(-1.0));
    (0..100).for_each(|_| stage.second(&[(1, 90)]));
    assert_eq!(stage.told.len(), 1, "{:?}", stage.told);
    assert_eq!(stage.suspects(), 1);

    let mut stage = Stage::new(4, Outliers::new().window(Duration::MAX).share(f64::NAN).at_most(f64::NAN));
    (0..100).for_each(|_| stage.second(&[(1, 90)]));
    assert_eq!(stage.told, []);
}

#[test]
fn who_fails_nothing_is_not_ejected_whatever_the_share() {
    let mut stage = Stage::new(4, Outliers::new().share(0.0));
    (0..100).for_each(|_| stage.second(&[]));
    assert_eq!(stage.told, []);
}

#[test]
fn a_monitor_that_ticks_seldom_compares_as_seldom() {
    let heartbeat = Heartbeat::new().interval(60 * SECOND);
    let mut stage = Stage::with(4, Checks::new().heartbeat(heartbeat).outliers(Outliers::new()));
    (0..300).for_each(|_| stage.second(&[(1, 90)]));
    assert_eq!(stage.told.first().map(|told| told.1), Some(1));
}
