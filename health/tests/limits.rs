//! Values over their limits: one verdict per real change, after the window, and none for noise.

mod clock;

use std::time::Duration;

use clock::{drowsy, kinds, ms, patient, polled, start, tick_until};
use cluster_health::{Cause, Checks, Heartbeat, Limit, Monitor, Quantity, Sample, Standing, VerdictKind};

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> Quantity {
    Quantity::gauge("queue")
}

/// A monitor of member 1 with this limit of its queue.
fn watch(limit: Limit) -> Monitor<u8> {
    let mut monitor = Monitor::new(Checks::new().heartbeat(drowsy()).limit(queue(), limit));
    monitor.insert(1, start());
    monitor
}

#[test]
fn a_breach_is_told_once_after_the_window_and_so_is_its_end() {
    let begin = start();
    let mut monitor = Monitor::new(
        Checks::new().heartbeat(patient()).limit(queue(), Limit::over(100.0).lasting(10 * SECOND).suspect()),
    );
    monitor.insert(1, begin);
    let mut seen = Vec::new();
    for second in 0..120_u32 {
        let now = begin + SECOND * second;
        let value = if (20..60).contains(&second) { 150.0 } else { 50.0 };
        monitor.handle_value(1, &queue(), value, now);
        seen.extend(std::iter::from_fn(|| monitor.poll_verdict()).map(|verdict| (second, verdict)));
        tick_until(&mut monitor, now);
    }
    let short: Vec<_> = seen.iter().map(|(second, verdict)| (*second, verdict.kind())).collect();
    assert_eq!(short, [(30, VerdictKind::Suspect), (70, VerdictKind::Recovered)]);
    assert_eq!(seen[0].1.since(), begin + 20 * SECOND);
    assert_eq!(seen[0].1.to_string(), "queue at 150, over 100 for 10.0 s");
    assert_eq!(seen[1].1.since(), begin + 20 * SECOND, "it names the beginning of what is over");
    assert_eq!(seen[1].1.to_string(), "queue down at 50 again after 50.0 s");
}

#[test]
fn the_time_to_a_breach_is_the_window_and_at_most_one_period() {
    for period in [1, 70, 333, 1_000, 2_999] {
        let begin = start();
        let mut monitor = watch(Limit::over(1.0).lasting(3 * SECOND));
        let mut at = ms(0);
        while polled(&mut monitor).is_empty() {
            tick_until(&mut monitor, begin + at);
            at += ms(period);
            monitor.handle_value(1, &queue(), 2.0, begin + at);
        }
        let first = ms(period);
        assert!(at - first >= 3 * SECOND && at - first < 3 * SECOND + ms(period), "{period}: {at:?}");
    }
}

#[test]
fn noise_that_is_smaller_than_the_distance_is_told_at_most_once() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (begin, level) = (start(), rng.f64() * 200.0);
        let limit = Limit::over(100.0).clear(80.0, ms(0)).again_after(Duration::MAX).recycle();
        let mut monitor = watch(limit);
        let mut told = 0;
        for step in 0..2_000_u32 {
            // 20 between the two; a little less from top to bottom.
            let value = level + 19.9 * (rng.f64() - 0.5);
            let now = begin + ms(100) * step;
            monitor.handle_value(1, &queue(), value, now);
            told += polled(&mut monitor).len();
            tick_until(&mut monitor, now);
        }
        assert!(told <= 1, "seed {seed}, level {level}: {told}");
    }
}

#[test]
fn what_is_no_number_neither_begins_nor_ends_anything() {
    let begin = start();
    let mut monitor = watch(Limit::over(100.0).clear(100.0, ms(0)).lasting(SECOND).suspect());
    let mut give = |at: u64, value: f64| {
        monitor.handle_value(1, &queue(), value, begin + ms(at));
        polled(&mut monitor)
    };
    assert_eq!(give(0, 150.0), []);
    assert_eq!(give(500, f64::NAN), []);
    assert_eq!(give(1_000, f64::INFINITY), [(1, VerdictKind::Suspect)], "over for all that is known");
    for at in 1_001..3_000 {
        assert_eq!(give(at, f64::NAN), []);
    }
    assert_eq!(give(3_000, f64::NEG_INFINITY), [(1, VerdictKind::Recovered)]);
}

#[test]
fn a_limit_that_is_no_number_is_never_exceeded() {
    for odd in [f64::NAN, f64::INFINITY] {
        let mut monitor = watch(Limit::over(odd).replace());
        monitor.handle_value(1, &queue(), f64::INFINITY, start());
        monitor.handle_value(1, &queue(), 0.0, start());
        assert_eq!(polled(&mut monitor), []);
    }
}

#[test]
fn limits_of_zero_and_less_have_their_clearing_value_below_them() {
    for (limit, over, between, under) in [(-10.0, -9.0, -10.5, -11.5), (-10.0, -9.0, -10.0, -12.0)] {
        let begin = start();
        let mut monitor = watch(Limit::over(limit).suspect());
        let mut told = Vec::new();
        for (at, value) in [(0, over), (1, between), (2, over), (3, between), (4, under)] {
            monitor.handle_value(1, &queue(), value, begin + ms(at));
            told.extend(polled(&mut monitor).into_iter().map(|(_, kind)| (at, kind)));
        }
        assert_eq!(told, [(0, VerdictKind::Suspect), (4, VerdictKind::Recovered)]);
    }
    let mut monitor = watch(Limit::over(0.0).suspect());
    [1.0, 0.0, 1.0].into_iter().for_each(|value| monitor.handle_value(1, &queue(), value, start()));
    let kinds: Vec<_> = polled(&mut monitor).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [VerdictKind::Suspect, VerdictKind::Recovered, VerdictKind::Suspect]);
}

#[test]
fn the_order_in_which_a_limit_is_described_does_not_matter() {
    let one = Limit::over(9.0).clear(5.0, 60 * SECOND).lasting(SECOND).recycle();
    assert_eq!(one, Limit::over(9.0).recycle().lasting(SECOND).clear(5.0, 60 * SECOND));
}

#[test]
fn a_breach_that_goes_on_is_told_again_to_whom_has_to_act_and_recovers_once() {
    for (limit, kind, times) in [
        (Limit::over(1.0).recycle(), VerdictKind::Recycle, 5),
        (Limit::over(1.0).replace(), VerdictKind::Unhealthy, 5),
        (Limit::over(1.0).suspect(), VerdictKind::Suspect, 1),
        (Limit::over(1.0), VerdictKind::Noticed, 1),
    ] {
        let begin = start();
        let mut monitor = watch(limit);
        for second in 0..=240 {
            monitor.handle_value(1, &queue(), 2.0, begin + SECOND * second);
        }
        monitor.handle_value(1, &queue(), 0.0, begin + 241 * SECOND);
        monitor.handle_value(1, &queue(), 0.0, begin + 242 * SECOND);
        let told = polled(&mut monitor);
        assert_eq!(told[..times], vec![(1, kind); times]);
        assert_eq!(told[times..], [(1, VerdictKind::Recovered)]);
    }
}

#[test]
fn each_limit_of_a_quantity_speaks_for_itself_and_the_worst_is_the_standing() {
    let begin = start();
    let checks = Checks::new()
        .heartbeat(patient())
        .limit(queue(), Limit::over(10.0).suspect())
        .limit(queue(), Limit::over(20.0).replace());
    let mut monitor = Monitor::new(checks);
    monitor.insert(1, begin);
    let expected = [
        (15.0, Standing::Suspect),
        (25.0, Standing::Unhealthy),
        (15.0, Standing::Suspect),
        (0.0, Standing::Well),
    ];
    for (value, standing) in expected {
        monitor.handle_value(1, &queue(), value, begin);
        assert_eq!(monitor.standing(1), Some(standing), "at {value}");
    }
    let mut limits = Vec::new();
    while let Some(verdict) = monitor.poll_verdict() {
        let Cause::Limit(excess) = verdict.cause() else { panic!("{verdict}") };
        limits.push((verdict.kind(), excess.limit));
    }
    let both = [VerdictKind::Suspect, VerdictKind::Unhealthy, VerdictKind::Recovered, VerdictKind::Recovered];
    assert_eq!(limits, both.into_iter().zip([10.0, 20.0, 20.0, 10.0]).collect::<Vec<_>>());
}

#[test]
fn the_use_of_processors_is_that_of_the_whole_window() {
    let begin = start();
    let mut monitor = Monitor::new(
        Checks::new().limit(Quantity::Cpu, Limit::over(0.8)).cpu_window(10 * SECOND).heartbeat(drowsy()),
    );
    monitor.insert(1, begin);
    let mut give = |at: u64, used: u64| {
        monitor.handle_sample(1, &Sample::new().processor(ms(used)), begin + ms(at));
        polled(&mut monitor)
    };
    // It is busy for a second as it starts, and that is a tenth of the window.
    assert_eq!(give(0, 0), []);
    assert_eq!(give(1, 1), []);
    for second in 1..=30 {
        assert_eq!(give(second * 1_000, 1_000), [], "after {second} s");
    }
    // Now it spins.
    let told: Vec<_> =
        (31..60).filter(|second| !give(second * 1_000, 1_000 + (second - 30) * 1_000).is_empty()).collect();
    assert_eq!(told, [39], "nine seconds of ten");
    // Somebody else under its name, and a time that goes backwards.
    assert_eq!(give(60_000, 0), []);
    assert_eq!(give(59_000, 900_000), []);
    assert_eq!(give(60_000, 900_000), []);
}

#[test]
fn the_time_in_which_the_monitor_stood_still_is_no_time_over_a_limit_whatever_is_handled_first() {
    for value_first in [true, false] {
        let begin = start();
        let mut monitor = Monitor::new(
            Checks::new()
                .heartbeat(patient())
                .limit(queue(), Limit::over(100.0).lasting(10 * SECOND).replace()),
        );
        monitor.insert(1, begin);
        monitor.handle_value(1, &queue(), 150.0, begin);
        let now = begin + 3_600 * SECOND;
        if value_first {
            monitor.handle_value(1, &queue(), 150.0, now);
            monitor.handle_timeout(now);
        } else {
            monitor.handle_timeout(now);
            monitor.handle_value(1, &queue(), 150.0, now);
        }
        assert_eq!(polled(&mut monitor), [], "value first: {value_first}");
        assert_eq!(kinds(&tick_until(&mut monitor, now + 10 * SECOND)), []);
        monitor.handle_value(1, &queue(), 150.0, now + 10 * SECOND);
        assert_eq!(polled(&mut monitor), [(1, VerdictKind::Unhealthy)]);
    }
}

#[test]
fn lag_in_which_the_monitor_itself_stood_still_is_nobody_s() {
    let begin = start();
    let heartbeat = Heartbeat::new().interval(SECOND).suspect_missed(30).dead_missed(1_000);
    let mut monitor =
        Monitor::new(Checks::new().limit(Quantity::Lag, Limit::over(0.5).replace()).heartbeat(heartbeat));
    monitor.insert(1, begin);
    // Everybody was stopped for 15 s.
    let now = begin + 15 * SECOND;
    monitor.handle_value(1, &Quantity::Lag, 14.9, now);
    assert_eq!(polled(&mut monitor), []);
    monitor.handle_timeout(now);
    tick_until(&mut monitor, now + SECOND);
    monitor.handle_value(1, &Quantity::Lag, 14.9, now + SECOND);
    assert_eq!(polled(&mut monitor), []);
    // This is its own.
    monitor.handle_beat(1, now + 20 * SECOND);
    tick_until(&mut monitor, now + 40 * SECOND);
    monitor.handle_beat(1, now + 40 * SECOND);
    tick_until(&mut monitor, now + 60 * SECOND);
    monitor.handle_value(1, &Quantity::Lag, 2.0, now + 60 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Unhealthy)]);
}
