//! Probes: so many answers in a row, startup before everything else, and no blame for the monitor's own pause.

mod clock;

use std::time::{Duration, Instant};

use clock::{kinds, ms, patient, polled, start, tick_until};
use cluster_health::{
    Cause, Checks, Detector, Heartbeat, InARow, Limit, Monitor, Outliers, Probe, Quantity, Standing,
    VerdictKind,
};

const SECOND: Duration = Duration::from_secs(1);
const BAD: Result<(), &str> = Err("refused");

fn watch(checks: Checks, begin: Instant) -> Monitor<u8> {
    let mut monitor = Monitor::new(checks.heartbeat(patient()));
    monitor.insert(1, begin);
    monitor
}

/// Answers one after the other, each a second after the other.
fn answer(
    monitor: &mut Monitor<u8>,
    probe: Probe,
    answers: &[Result<(), &str>],
    begin: Instant,
) -> Vec<(u32, VerdictKind)> {
    let mut told = Vec::new();
    for (second, answer) in (0..).zip(answers) {
        let now = begin + SECOND * second;
        tick_until(monitor, now);
        monitor.handle_probe(1, probe, *answer, now, now);
        told.extend(polled(monitor).into_iter().map(|(_, kind)| (second, kind)));
    }
    told
}

#[test]
fn three_bad_answers_in_a_row_are_a_verdict_and_one_good_one_ends_it() {
    for (probe, kind) in [(Probe::Readiness, VerdictKind::Suspect), (Probe::Liveness, VerdictKind::Unhealthy)]
    {
        let begin = start();
        let mut monitor = watch(Checks::new(), begin);
        let answers = [BAD, BAD, Ok(()), BAD, BAD, BAD, BAD, Ok(()), Ok(()), BAD];
        assert_eq!(
            answer(&mut monitor, probe, &answers, begin),
            [(5, kind), (7, VerdictKind::Recovered)],
            "{probe:?}"
        );
    }
}

#[test]
fn a_failure_counts_from_the_first_bad_answer_of_its_row() {
    let begin = start();
    let mut monitor = watch(Checks::new(), begin);
    // An answer is bad now and then for long.
    for turn in 0..100 {
        monitor.handle_probe(1, Probe::Liveness, BAD, begin + SECOND * turn, begin + SECOND * turn);
        monitor.handle_probe(1, Probe::Liveness, Ok(()), begin + SECOND * turn, begin + SECOND * turn);
    }
    tick_until(&mut monitor, begin + 100 * SECOND);
    for turn in 100..103 {
        tick_until(&mut monitor, begin + SECOND * turn);
        monitor.handle_probe(1, Probe::Liveness, BAD, begin + SECOND * turn, begin + SECOND * turn);
    }
    let verdict = monitor.poll_verdict().expect("three in a row");
    assert_eq!(verdict.to_string(), "liveness probe failed 3 times: refused");
    assert_eq!(verdict.since(), begin + 100 * SECOND);
    let Cause::Probe(failure) = verdict.cause() else { panic!("{verdict}") };
    assert_eq!(failure.lasted, 2 * SECOND);
    tick_until(&mut monitor, begin + 104 * SECOND);
    monitor.handle_probe(1, Probe::Liveness, Ok(()), begin + 104 * SECOND, begin + 104 * SECOND);
    let verdict = monitor.poll_verdict().expect("it answers again");
    assert_eq!(
        (verdict.since(), verdict.to_string().as_str()),
        (begin + 100 * SECOND, "liveness probe good again after 4.0 s")
    );
}

#[test]
fn until_it_has_begun_nothing_is_held_against_a_member() {
    let begin = start();
    let checks = Checks::new()
        .starts()
        .limit(Quantity::Lag, Limit::over(0.1).replace())
        .outliers(Outliers::new().min_requests(1))
        .max_requests(10)
        .max_lifetime(SECOND);
    for detector in [Detector::Fixed, Detector::PhiExponential { threshold: 2.0 }] {
        let heartbeat = Heartbeat::new().detect_by(detector);
        let mut monitor = Monitor::new(checks.clone().heartbeat(heartbeat));
        (1..=4).for_each(|key| monitor.insert(key, begin));
        (2..=4).for_each(|key| monitor.handle_probe(key, Probe::Startup, Ok(()), begin, begin));
        for key in 1..=4 {
            monitor.handle_requests(key, 0, 0);
        }
        let (mut now, mut told) = (begin, Vec::new());
        while now < begin + 60 * SECOND {
            now = monitor.poll_timeout().expect("members");
            (2..=4).for_each(|key| monitor.handle_beat(key, now));
            monitor.handle_value(1, &Quantity::Lag, 9.0, now);
            monitor.handle_probe(1, Probe::Liveness, BAD, now, now);
            monitor.handle_probe(1, Probe::Readiness, BAD, now, now);
            let requests = (now - begin).as_millis() as u64;
            monitor.handle_requests(1, requests, requests);
            (2..=4).for_each(|key| monitor.handle_requests(key, 5, 0));
            monitor.handle_timeout(now);
            told.extend(polled(&mut monitor).into_iter().filter(|(key, _)| *key == 1));
        }
        assert_eq!((told, monitor.standing(1)), (vec![], Some(Standing::Starting)));

        // And its silence begins as it has begun: the gaps before are no gaps of its beats.
        let began = now + ms(10);
        monitor.handle_probe(1, Probe::Startup, Ok(()), began, began);
        assert_eq!(monitor.standing(1), Some(Standing::Well));
        let silent = |cause: &Cause| matches!(cause, Cause::Silence(_));
        let verdicts = tick_until(&mut monitor, now + 20 * SECOND);
        let first = verdicts.iter().find(|(_, verdict)| verdict.key() == 1 && silent(verdict.cause()));
        let (when, verdict) = first.expect("it never beats");
        assert_eq!((verdict.kind(), verdict.since()), (VerdictKind::Suspect, began));
        assert!(*when >= began + SECOND, "{detector:?}: {:?}", *when - began);
    }
}

#[test]
fn a_start_takes_as_many_good_answers_in_a_row_as_it_should() {
    let begin = start();
    let mut monitor = watch(Checks::new().starts().probe(Probe::Startup, InARow::new(3, 30)), begin);
    for answer in [Ok(()), Ok(()), BAD, Ok(()), Ok(())] {
        monitor.handle_probe(1, Probe::Startup, answer, begin, begin);
        assert_eq!(monitor.standing(1), Some(Standing::Starting));
    }
    monitor.handle_probe(1, Probe::Startup, Ok(()), begin, begin);
    assert_eq!(monitor.standing(1), Some(Standing::Well));
}

#[test]
fn a_start_that_fails_for_long_is_unhealthy_and_one_that_is_over_fails_no_more() {
    let begin = start();
    let mut monitor = watch(Checks::new().starts(), begin);
    let told = answer(&mut monitor, Probe::Startup, &[BAD; 40], begin);
    assert_eq!((told, monitor.standing(1)), (vec![(29, VerdictKind::Unhealthy)], Some(Standing::Unhealthy)));
    let told = answer(&mut monitor, Probe::Startup, &[Ok(())], begin + 40 * SECOND);
    assert_eq!((told, monitor.standing(1)), (vec![(0, VerdictKind::Recovered)], Some(Standing::Well)));
    let told = answer(&mut monitor, Probe::Startup, &[BAD; 90], begin + 41 * SECOND);
    assert_eq!((told, monitor.standing(1)), (vec![], Some(Standing::Well)));
}

#[test]
fn bad_answers_to_questions_that_were_open_in_a_stall_do_not_count_whatever_is_handled_first() {
    for answer_first in [true, false] {
        let begin = start();
        let mut monitor = watch(Checks::new().probe(Probe::Liveness, InARow::new(1, 1)), begin);
        let now = begin + 60 * SECOND;
        if !answer_first {
            monitor.handle_timeout(now);
        }
        monitor.handle_probe(1, Probe::Liveness, Err("timed out"), begin + ms(100), now);
        monitor.handle_timeout(now);
        assert_eq!(polled(&mut monitor), [], "answer first: {answer_first}");
        let later = now + ms(200);
        monitor.handle_probe(1, Probe::Liveness, Err("timed out"), now + ms(1), later);
        assert_eq!(polled(&mut monitor), [(1, VerdictKind::Unhealthy)], "that one was asked afterwards");
    }
}

#[test]
fn an_answer_to_a_question_of_a_former_life_is_nobody_s() {
    let begin = start();
    let checks = Checks::new().starts().probe(Probe::Startup, InARow::new(1, 1));
    let mut monitor = watch(checks, begin);
    monitor.insert(1, begin + SECOND);
    for answer in [BAD, Ok(())] {
        monitor.handle_probe(1, Probe::Startup, answer, begin, begin + SECOND);
        assert_eq!((polled(&mut monitor), monitor.standing(1)), (vec![], Some(Standing::Starting)));
    }
    assert_eq!(kinds(&tick_until(&mut monitor, begin + 2 * SECOND)), []);
}
