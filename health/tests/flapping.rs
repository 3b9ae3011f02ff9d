//! A member on the edge, or in bad shape: one verdict per change, and no more.

mod clock;

use clock::{kinds, ms, start, tick_until};
use cluster_health::{Heartbeat, Monitor, VerdictKind};

#[test]
fn a_member_that_beats_just_in_time_is_never_suspect() {
    let mut now = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, now);
    for _ in 0..100 {
        now += ms(999);
        assert_eq!(kinds(&tick_until(&mut monitor, now)), []);
        monitor.handle_beat(1, now);
    }
    assert_eq!(monitor.poll_verdict(), None);
}

#[test]
fn pauses_of_half_a_minimum_raise_one_suspicion_and_one_recovery_each_and_no_death() {
    let mut now = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, now);
    for _ in 0..100 {
        now += ms(5_000);
        assert_eq!(kinds(&tick_until(&mut monitor, now)), [(1, VerdictKind::Suspect)]);
        // It catches up with many beats at once.
        (0..25).for_each(|_| monitor.handle_beat(1, now));
        assert_eq!(monitor.poll_verdict().map(|verdict| verdict.kind()), Some(VerdictKind::Recovered));
        assert_eq!(monitor.poll_verdict(), None);
    }
}

#[test]
fn silence_does_not_add_up_over_recoveries() {
    let mut now = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, now);
    for _ in 0..20 {
        now += ms(9_000);
        let verdicts = tick_until(&mut monitor, now);
        assert_eq!(kinds(&verdicts), [(1, VerdictKind::Suspect)], "9 s is not dead, however often");
        monitor.handle_beat(1, now);
        monitor.poll_verdict().expect("it recovered");
    }
}

#[test]
fn one_member_s_silence_is_nobody_else_s() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    (0..10).for_each(|key| monitor.insert(key, begin));
    let mut verdicts = Vec::new();
    for beat in 1..=60 {
        let now = begin + ms(200) * beat;
        verdicts.extend(tick_until(&mut monitor, now));
        (0..10).filter(|key| *key != 4).for_each(|key| monitor.handle_beat(key, now));
    }
    assert_eq!(kinds(&verdicts), [(4, VerdictKind::Suspect), (4, VerdictKind::Unhealthy)]);
}
