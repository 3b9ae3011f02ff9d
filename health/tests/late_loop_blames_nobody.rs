//! A monitor that stood still can't tell the silence of others from its own.

mod clock;

use std::time::{Duration, Instant};

use clock::{kinds, ms, start, tick_until};
use cluster_health::{Heartbeat, Monitor, Standing, VerdictKind};

const HOUR: Duration = Duration::from_secs(3_600);

/// A monitor of member 1, last heard `silence` ago, with its ticks up to then.
fn silent_for(begin: Instant, silence: Duration) -> Monitor<u8> {
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    tick_until(&mut monitor, begin + silence);
    monitor
}

#[test]
fn a_stall_of_any_length_raises_no_suspicion() {
    for stall in [ms(201), ms(500), ms(999), ms(1_000), ms(9_999), ms(10_000), HOUR, 24 * 365 * HOUR] {
        for silence in [ms(0), ms(200), ms(900)] {
            let begin = start();
            let mut monitor = silent_for(begin, silence);
            let now = begin + silence + stall;
            monitor.handle_timeout(now);
            assert_eq!(monitor.poll_verdict(), None, "silent {silence:?}, then stopped for {stall:?}");
            // Everyone needs a moment to beat again.
            monitor.handle_beat(1, now + ms(90));
            assert_eq!(kinds(&tick_until(&mut monitor, now + ms(1_000))), []);
        }
    }
}

#[test]
fn it_does_not_matter_whether_beats_or_the_tick_are_handled_first_after_a_stall() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(400));
    let now = begin + HOUR;
    monitor.handle_beat(1, now);
    monitor.handle_timeout(now);
    assert_eq!(monitor.poll_verdict(), None);
    let verdicts = tick_until(&mut monitor, now + ms(5_000));
    assert_eq!(verdicts[0].0, now + ms(1_000), "a beat during the stall is not moved into the future");
}

#[test]
fn after_a_stall_everyone_has_the_full_grace_again() {
    for stall in [ms(201), HOUR] {
        let begin = start();
        let mut monitor = silent_for(begin, ms(900));
        let now = begin + ms(900) + stall;
        monitor.handle_timeout(now);
        let verdicts = tick_until(&mut monitor, now + HOUR);
        assert_eq!(kinds(&verdicts), [(1, VerdictKind::Suspect), (1, VerdictKind::Unhealthy)]);
        assert_eq!((verdicts[0].0, verdicts[1].0), (now + ms(1_000), now + ms(10_000)));
        assert_eq!(verdicts[0].1.to_string(), "no heartbeat for 1.0 s (5 missed at 200 ms)");
        assert_eq!(verdicts[0].1.since(), now);
    }
}

#[test]
fn a_second_stall_in_one_silence_moves_the_deadlines_by_its_length() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(600));
    let anew = begin + ms(1_000);
    monitor.handle_timeout(anew);
    tick_until(&mut monitor, anew + ms(500));
    // The next tick was announced for 600 ms; it comes 300 ms late.
    monitor.handle_timeout(anew + ms(900));
    let verdicts = tick_until(&mut monitor, begin + HOUR);
    assert_eq!((verdicts[0].0, verdicts[1].0), (anew + ms(1_300), anew + ms(10_300)));
    assert_eq!(clock::silence(&verdicts[0].1).lasted, ms(1_000), "the stall does not count");
}

#[test]
fn a_stall_puts_off_death_as_well() {
    let begin = start();
    // Announced for 10,000 ms: without the stall, this tick would have been its last.
    let mut monitor = silent_for(begin, ms(9_900));
    assert_eq!(monitor.standing(1), Some(Standing::Suspect));
    monitor.handle_timeout(begin + HOUR);
    assert_eq!(monitor.standing(1), Some(Standing::Suspect), "nothing was heard: suspect it stays");
    let verdicts = tick_until(&mut monitor, begin + 2 * HOUR);
    assert_eq!(kinds(&verdicts), [(1, VerdictKind::Unhealthy)]);
    assert_eq!(verdicts[0].0, begin + HOUR + ms(1_000), "long enough to prove that it lives");
}

#[test]
fn a_stall_long_before_death_only_moves_it() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(2_000));
    // Announced for 2,100 ms.
    monitor.handle_timeout(begin + ms(2_100) + HOUR);
    let verdicts = tick_until(&mut monitor, begin + 2 * HOUR);
    assert_eq!(verdicts[0].0, begin + ms(10_000) + HOUR);
}

#[test]
fn a_tick_up_to_half_an_interval_late_counts_as_on_time() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(900));
    // Announced for 1,000 ms.
    monitor.handle_timeout(begin + ms(1_100));
    let verdict = monitor.poll_verdict().expect("it is silent for long enough");
    assert_eq!(clock::silence(&verdict).lasted, ms(1_100));
}

#[test]
fn a_monitor_that_is_late_every_time_still_finds_a_hang() {
    for stall in [ms(250), ms(1_500), ms(30_000)] {
        let begin = start();
        let mut monitor = silent_for(begin, ms(0));
        let mut ticks = 0;
        while monitor.standing(1) != Some(Standing::Unhealthy) {
            let due = monitor.poll_timeout().expect("a member is watched");
            monitor.handle_timeout(due + stall);
            ticks += 1;
            assert!(ticks <= 120, "100 ticks, and the grace once per verdict; stalled for {stall:?}");
        }
    }
}

#[test]
fn looking_early_or_often_is_free() {
    let begin = start();
    let mut monitor = Monitor::new(Heartbeat::new());
    monitor.insert(1, begin);
    let mut suspect_at = None;
    for millisecond in 1..=1_200 {
        let now = begin + ms(millisecond);
        for _ in 0..3 {
            monitor.handle_timeout(now);
            assert!(monitor.poll_timeout().is_some_and(|next| next > now && next <= now + ms(100)));
        }
        if let Some(verdict) = monitor.poll_verdict() {
            assert_eq!(suspect_at.replace(now), None);
            assert_eq!(verdict.kind(), VerdictKind::Suspect);
        }
    }
    assert_eq!(suspect_at, Some(begin + ms(1_000)), "who looks more often sees it sooner");
}

#[test]
fn only_lateness_against_the_announced_tick_is_a_stall() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(900));
    // Early, so the announced tick at 1,000 ms stands; 90 ms after it is on time.
    monitor.handle_timeout(begin + ms(950));
    assert_eq!(monitor.poll_timeout(), Some(begin + ms(1_000)));
    monitor.handle_timeout(begin + ms(1_090));
    assert_eq!(monitor.standing(1), Some(Standing::Suspect));
}

#[test]
fn a_member_that_came_during_a_stall_gets_no_more_than_its_grace() {
    let begin = start();
    let mut monitor = silent_for(begin, ms(0));
    let now = begin + HOUR;
    monitor.insert(2, now);
    monitor.handle_timeout(now);
    let verdicts = tick_until(&mut monitor, now + ms(1_000));
    assert_eq!(verdicts.iter().map(|(when, _)| *when).collect::<Vec<_>>(), [now + ms(1_000); 2]);
}
