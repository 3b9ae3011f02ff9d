//! Who beats is well; who does not is suspect, then dead, and the verdict says why.

mod clock;

use clock::{kinds, ms, silence, start, tick_until};
use cluster_health::{Heartbeat, Monitor, Standing, VerdictKind};

const SUSPECT: VerdictKind = VerdictKind::Suspect;
const DEAD: VerdictKind = VerdictKind::Unhealthy;
const RECOVERED: VerdictKind = VerdictKind::Recovered;

#[test]
fn a_member_that_beats_is_never_blamed() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    for beat in 1..500 {
        let now = begin + ms(200) * beat;
        assert_eq!(kinds(&tick_until(&mut monitor, now)), []);
        monitor.handle_beat(1, now);
    }
    assert_eq!(monitor.standing(1), Some(Standing::Well));
}

#[test]
fn a_silent_member_is_suspect_after_5_missed_and_dead_after_10_seconds_each_once() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    let verdicts = tick_until(&mut monitor, begin + ms(60_000));
    assert_eq!(kinds(&verdicts), [(1, SUSPECT), (1, DEAD)]);

    let (when, suspect) = &verdicts[0];
    assert_eq!(*when, begin + ms(1_000));
    assert_eq!((silence(suspect).lasted, suspect.since(), silence(suspect).missed()), (ms(1_000), begin, 5));
    assert_eq!(suspect.to_string(), "no heartbeat for 1.0 s (5 missed at 200 ms)");

    let (when, dead) = &verdicts[1];
    assert_eq!(*when, begin + ms(10_000));
    assert_eq!(dead.to_string(), "no heartbeat for 10.0 s (50 missed at 200 ms)");
    assert_eq!(monitor.standing(1), Some(Standing::Unhealthy));
}

#[test]
fn a_hang_is_seen_within_one_tick_of_its_deadline() {
    let begin = start();
    for offset in 0..100 {
        let mut monitor = Monitor::new(Heartbeat::new());
        monitor.insert(1, begin);
        let last = begin + ms(offset);
        monitor.handle_beat(1, last);
        let (when, _) = tick_until(&mut monitor, begin + ms(5_000))[0];
        assert!((ms(1_000)..=ms(1_100)).contains(&(when - last)), "seen after {:?}", when - last);
    }
}

#[test]
fn a_slow_heartbeat_makes_death_come_later_than_the_minimum() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new().interval(ms(1_000)));
    monitor.insert(1, begin);
    let verdicts = tick_until(&mut monitor, begin + ms(60_000));
    assert_eq!((verdicts[0].0, verdicts[1].0), (begin + ms(5_000), begin + ms(30_000)));
    assert_eq!(verdicts[0].1.to_string(), "no heartbeat for 5.0 s (5 missed at 1.0 s)");
}

#[test]
fn when_both_deadlines_are_one_suspicion_comes_first() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new().dead_missed(0).dead_at_least(ms(0)));
    monitor.insert(1, begin);
    let verdicts = tick_until(&mut monitor, begin + ms(1_000));
    assert_eq!(kinds(&verdicts), [(1, SUSPECT), (1, DEAD)]);
}

#[test]
fn a_beat_after_suspicion_or_death_is_a_recovery_and_starts_anew() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    let mut now = begin;
    for (silent, expected) in [(1_500, &[(1, SUSPECT)][..]), (12_300, &[(1, SUSPECT), (1, DEAD)])] {
        let last = now;
        now += ms(silent);
        assert_eq!(kinds(&tick_until(&mut monitor, now)), expected);
        monitor.handle_beat(1, now);
        let verdict = monitor.poll_verdict().expect("it recovered");
        assert_eq!(
            (verdict.kind(), silence(&verdict).lasted, verdict.since()),
            (RECOVERED, ms(silent), last)
        );
        assert_eq!(monitor.poll_verdict(), None);
        assert_eq!(monitor.standing(1), Some(Standing::Well));
    }
    assert_eq!(kinds(&tick_until(&mut monitor, now + ms(999))), []);
    monitor.handle_beat(1, now + ms(1_000));
    assert_eq!(monitor.poll_verdict(), None, "there is nothing to recover from");
}

#[test]
fn a_recovery_says_how_long_the_silence_was() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    tick_until(&mut monitor, begin + ms(2_300));
    monitor.handle_beat(1, begin + ms(2_340));
    let verdict = monitor.poll_verdict().expect("it recovered");
    assert_eq!(verdict.to_string(), "heartbeat again after 2.3 s of silence");
}

#[test]
fn a_counter_that_changes_is_a_beat_whatever_its_value() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    // Up, around the end, and down: only standing still is silence.
    for (turn, value) in (1..).zip([7, 8, u64::MAX, 0, 5, 4, 3, u64::MAX - 1, 1, 2, 3, 4]) {
        let now = begin + ms(200) * turn;
        monitor.handle_counter(1, value, now);
        assert_eq!(kinds(&tick_until(&mut monitor, now)), []);
    }
    let last = begin + ms(2_400);
    for turn in 1..10 {
        monitor.handle_counter(1, 4, last + ms(100) * turn);
        assert_eq!(kinds(&tick_until(&mut monitor, last + ms(100) * turn)), []);
    }
    assert_eq!(kinds(&tick_until(&mut monitor, last + ms(1_000))), [(1, SUSPECT)]);
}

#[test]
fn the_first_reading_of_a_counter_proves_nothing() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    tick_until(&mut monitor, begin + ms(900));
    monitor.handle_counter(1, 99, begin + ms(900));
    assert_eq!(kinds(&tick_until(&mut monitor, begin + ms(1_000))), [(1, SUSPECT)]);
}

#[test]
fn a_monitor_without_members_has_no_deadline() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    assert_eq!(monitor.poll_timeout(), None);
    monitor.handle_timeout(begin);
    monitor.insert(1, begin);
    assert_eq!(monitor.poll_timeout(), Some(begin + ms(100)));
    monitor.insert(2, begin + ms(50));
    assert_eq!(monitor.poll_timeout(), Some(begin + ms(100)), "a newcomer does not put off the tick");
    monitor.remove(1);
    monitor.remove(2);
    monitor.remove(2);
    assert_eq!(monitor.poll_timeout(), None);
}

#[test]
fn a_removed_member_is_not_spoken_of() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    (1..=3).for_each(|key| monitor.insert(key, begin));
    let now = begin + ms(1_050);
    tick_until(&mut monitor, begin + ms(900));
    monitor.handle_timeout(now);
    monitor.remove(1);
    monitor.handle_beat(1, now);
    monitor.handle_counter(1, 1, now);
    monitor.handle_counter(1, 2, now);
    assert_eq!(monitor.standing(1), None);
    let mut spoken: Vec<_> =
        std::iter::from_fn(|| monitor.poll_verdict()).map(|v| (v.key(), v.kind())).collect();
    spoken.sort_unstable();
    assert_eq!(spoken, [(2, SUSPECT), (3, SUSPECT)]);
}

#[test]
fn inserting_a_member_again_starts_it_anew() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    tick_until(&mut monitor, begin + ms(900));
    monitor.handle_timeout(begin + ms(1_000));
    monitor.insert(1, begin + ms(1_000));
    assert_eq!(monitor.poll_verdict(), None);
    assert_eq!(monitor.standing(1), Some(Standing::Well));
    let verdicts = tick_until(&mut monitor, begin + ms(5_000));
    assert_eq!(verdicts[0].0, begin + ms(2_000));
}

#[test]
fn extreme_times_do_not_panic() {
    let begin = start();
    let ages = std::time::Duration::MAX;
    for heartbeat in [Heartbeat::new().interval(ages), Heartbeat::new().interval(ms(0)).dead_at_least(ages)] {
        let mut monitor = Monitor::new(heartbeat);
        monitor.insert(1, begin);
        monitor.handle_timeout(begin + ms(1_000_000_000));
        // Time that goes backwards stands still.
        monitor.handle_beat(1, begin);
        monitor.handle_timeout(begin);
        assert_ne!(monitor.standing(1), None);
        while monitor.poll_verdict().is_some_and(|verdict| !verdict.to_string().is_empty()) {}
    }
}
