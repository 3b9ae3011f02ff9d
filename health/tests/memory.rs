//! Resident memory over a limit that leads away is confirmed before anybody is blamed.

mod clock;

use std::time::{Duration, Instant};

use clock::{drowsy, polled, start};
use cluster_health::{Cause, Checks, Limit, Monitor, Quantity, Sample, Standing, VerdictKind};

const SECOND: Duration = Duration::from_secs(1);

fn watch(begin: Instant, limits: &[Limit]) -> Monitor<u8> {
    let checks = limits
        .iter()
        .fold(Checks::new().heartbeat(drowsy()), |checks, limit| checks.limit(Quantity::Memory, *limit));
    let mut monitor = Monitor::new(checks);
    monitor.insert(1, begin);
    monitor
}

fn resident(monitor: &mut Monitor<u8>, bytes: u64, now: Instant) {
    monitor.handle_sample(1, &Sample::new().resident(bytes), now);
}

fn share(monitor: &mut Monitor<u8>, bytes: u64, now: Instant) {
    monitor.handle_sample(1, &Sample::new().proportional(bytes), now);
}

#[test]
fn what_is_not_confirmed_is_held_against_nobody() {
    for limit in [Limit::over(100.0).recycle(), Limit::over(100.0).replace()] {
        let begin = start();
        let mut monitor = watch(begin, &[limit]);
        resident(&mut monitor, 150, begin);
        assert_eq!(monitor.poll_confirm(), Some(1));
        assert_eq!(monitor.poll_confirm(), Some(1), "the same until it is answered");
        assert_eq!((polled(&mut monitor), monitor.standing(1)), (vec![], Some(Standing::Well)));
        share(&mut monitor, 60, begin + SECOND);
        assert_eq!(monitor.poll_confirm(), None);
        // It is not looked at again for a minute, and it has not recovered from anything.
        for second in 2..60 {
            resident(&mut monitor, 150, begin + SECOND * second);
            assert_eq!(monitor.poll_confirm(), None);
        }
        resident(&mut monitor, 10, begin + 60 * SECOND);
        assert_eq!((polled(&mut monitor), monitor.standing(1)), (vec![], Some(Standing::Well)));
    }
}

#[test]
fn what_is_confirmed_is_told_with_the_share_and_recovers() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0 * 1048576.0).replace()]);
    resident(&mut monitor, 150 << 20, begin);
    share(&mut monitor, 120 << 20, begin + SECOND);
    let verdict = monitor.poll_verdict().expect("it was confirmed");
    assert_eq!((verdict.kind(), verdict.since()), (VerdictKind::Unhealthy, begin));
    assert_eq!(verdict.to_string(), "memory at 120 MiB, over 100 MiB for 1.0 s");
    assert_eq!(monitor.standing(1), Some(Standing::Unhealthy));
    resident(&mut monitor, 10 << 20, begin + 2 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recovered)]);
}

#[test]
fn what_cannot_be_confirmed_goes_by_the_first_look() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).recycle()]);
    monitor.handle_unconfirmed(1, begin);
    resident(&mut monitor, 150, begin);
    monitor.handle_unconfirmed(1, begin + SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recycle)]);
    monitor.handle_unconfirmed(1, begin + SECOND);
    assert_eq!(polled(&mut monitor), []);
}

#[test]
fn a_soft_and_a_hard_limit_that_are_exceeded_at_once_are_confirmed_by_one_look() {
    let begin = start();
    let soft = Limit::over(100.0).lasting(5 * SECOND).recycle();
    let hard = Limit::over(200.0).lasting(5 * SECOND).replace();
    let mut monitor = watch(begin, &[soft, hard]);
    (0..=5).for_each(|second| resident(&mut monitor, 300, begin + SECOND * second));
    share(&mut monitor, 250, begin + 6 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recycle), (1, VerdictKind::Unhealthy)]);
    assert_eq!(monitor.poll_confirm(), None);
}

#[test]
fn a_look_that_takes_long_puts_off_the_verdict_and_forgets_nothing() {
    let begin = start();
    let soft = Limit::over(100.0).lasting(30 * SECOND).recycle();
    let mut monitor = watch(begin, &[soft]);
    (0..=200).for_each(|second| resident(&mut monitor, 150, begin + SECOND * second));
    assert_eq!(monitor.poll_confirm(), Some(1));
    share(&mut monitor, 120, begin + 201 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recycle)]);
}

#[test]
fn who_recovers_before_the_look_was_never_blamed() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).recycle()]);
    resident(&mut monitor, 150, begin);
    resident(&mut monitor, 50, begin + SECOND);
    assert_eq!(monitor.poll_confirm(), None);
    share(&mut monitor, 500, begin + 2 * SECOND);
    assert_eq!(polled(&mut monitor), []);
}

#[test]
fn a_blame_that_a_later_look_does_not_confirm_is_taken_back() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).replace()]);
    resident(&mut monitor, 150, begin);
    share(&mut monitor, 120, begin);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Unhealthy)]);
    // A minute later it is looked at again.
    resident(&mut monitor, 150, begin + 60 * SECOND);
    assert_eq!((monitor.poll_confirm(), polled(&mut monitor)), (Some(1), vec![]));
    share(&mut monitor, 80, begin + 61 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recovered)]);
    assert_eq!(monitor.standing(1), Some(Standing::Well));
}

#[test]
fn a_blame_ends_also_while_it_is_looked_at_again() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).recycle()]);
    resident(&mut monitor, 150, begin);
    share(&mut monitor, 120, begin);
    resident(&mut monitor, 150, begin + 60 * SECOND);
    assert_eq!(polled(&mut monitor), [(1, VerdictKind::Recycle)]);
    resident(&mut monitor, 50, begin + 61 * SECOND);
    assert_eq!((monitor.poll_confirm(), polled(&mut monitor)), (None, vec![(1, VerdictKind::Recovered)]));
}

#[test]
fn growth_is_looked_at_before_the_minute_is_over() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).recycle()]);
    resident(&mut monitor, 150, begin);
    share(&mut monitor, 60, begin);
    resident(&mut monitor, 160, begin + SECOND);
    assert_eq!(monitor.poll_confirm(), None);
    resident(&mut monitor, 166, begin + 2 * SECOND);
    assert_eq!(monitor.poll_confirm(), Some(1));
}

#[test]
fn a_limit_that_only_reports_is_not_confirmed_and_neither_is_one_of_a_monitor_that_does_not() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0)]);
    resident(&mut monitor, 150, begin);
    assert_eq!((monitor.poll_confirm(), polled(&mut monitor)), (None, vec![(1, VerdictKind::Noticed)]));

    let limit = Limit::over(100.0).replace();
    let checks = Checks::new().limit(Quantity::Memory, limit).confirm_memory(false);
    let mut monitor = Monitor::new(checks);
    monitor.insert(1, begin);
    resident(&mut monitor, 150, begin);
    assert_eq!((monitor.poll_confirm(), polled(&mut monitor)), (None, vec![(1, VerdictKind::Unhealthy)]));
}

#[test]
fn the_figures_of_a_refusal_to_answer_are_those_of_the_last_value() {
    let begin = start();
    let mut monitor = watch(begin, &[Limit::over(100.0).recycle()]);
    resident(&mut monitor, 150, begin);
    resident(&mut monitor, 180, begin + SECOND);
    monitor.handle_unconfirmed(1, begin + SECOND);
    let verdict = monitor.poll_verdict().expect("it goes by the first look");
    let Cause::Limit(excess) = verdict.cause() else { panic!("{verdict}") };
    assert_eq!(excess.value, 180.0);
}
