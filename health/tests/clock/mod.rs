//! Simulated time: it starts at some instant, and moves only when told to.

#![allow(dead_code, clippy::panic, reason = "each test uses a part, and may panic")]

use std::time::{Duration, Instant};

use cluster_health::{Cause, Heartbeat, Monitor, Silence, Verdict, VerdictKind};

/// Where all simulated time begins.
pub(crate) fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "there is no other way to get an instant to count from")]
    Instant::now()
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Lets the monitor tick, exactly when it wants to, up to and including `until`. Returns when what happened.
pub(crate) fn tick_until(monitor: &mut Monitor<u8>, until: Instant) -> Vec<(Instant, Verdict<u8>)> {
    let mut verdicts = Vec::new();
    while let Some(now) = monitor.poll_timeout().filter(|deadline| *deadline <= until) {
        monitor.handle_timeout(now);
        assert!(
            monitor.poll_timeout().is_none_or(|next| next > now),
            "a deadline must be cleared by its handler"
        );
        verdicts.extend(std::iter::from_fn(|| monitor.poll_verdict()).map(|verdict| (now, verdict)));
    }
    verdicts
}

/// What happened, without the when and why.
pub(crate) fn kinds(verdicts: &[(Instant, Verdict<u8>)]) -> Vec<(u8, VerdictKind)> {
    verdicts.iter().map(|(_, verdict)| (verdict.key(), verdict.kind())).collect()
}

/// The silence that a verdict is about.
pub(crate) fn silence(verdict: &Verdict<u8>) -> Silence {
    match verdict.cause() {
        Cause::Silence(silence) => *silence,
        other => panic!("not about a silence: {other}"),
    }
}

/// What happened since it was polled last, without the when and why.
pub(crate) fn polled(monitor: &mut Monitor<u8>) -> Vec<(u8, VerdictKind)> {
    std::iter::from_fn(|| monitor.poll_verdict()).map(|verdict| (verdict.key(), verdict.kind())).collect()
}

/// A heartbeat that finds nobody, for tests of everything else: it ticks twice a second.
pub(crate) fn patient() -> Heartbeat {
    Heartbeat::new().interval(ms(1_000)).suspect_missed(1_000_000)
}

/// A heartbeat that finds nobody and hardly ever ticks, for tests that don't either.
pub(crate) fn drowsy() -> Heartbeat {
    Heartbeat::new().interval(ms(1_000_000_000))
}
