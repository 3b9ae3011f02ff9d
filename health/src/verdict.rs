//! What the monitor concludes, and why.

use std::fmt;
use std::time::{Duration, Instant};

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Liveness {
    /// It beats, or has not been silent for long enough.
    Well,
    /// Silent for some intervals: give it nothing new.
    Suspect,
    /// Silent for so long that it is not expected to come back: replace it.
    Dead,
}

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum VerdictKind {
    /// Silent for [`suspect_after`](crate::Heartbeat::suspect_after). Once per silence.
    Suspect,
    /// A heartbeat after all, of one that was suspect or dead. All deadlines start anew.
    Recovered,
    /// Silent for [`dead_after`](crate::Heartbeat::dead_after). Once per silence, always after `Suspect`.
    Dead,
}

/// A change in how a member stands. Displayed, it says why: `no heartbeat for 1.2 s (6 missed at 200 ms)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<K> {
    pub(crate) key: K,
    pub(crate) kind: VerdictKind,
    pub(crate) silent_for: Duration,
    pub(crate) since: Instant,
    pub(crate) interval: Duration,
}

impl<K: Copy> Verdict<K> {
    /// The member.
    pub fn key(&self) -> K {
        self.key
    }

    /// What happened to it.
    pub fn kind(&self) -> VerdictKind {
        self.kind
    }

    /// How long it has been silent, or was until it recovered. Time in which the monitor itself stood
    /// still is not counted.
    pub fn silent_for(&self) -> Duration {
        self.silent_for
    }

    /// When the silence began: at the last heartbeat, moved on by the time in which the monitor itself
    /// stood still.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// How many heartbeats should have come in the silence.
    pub fn missed(&self) -> u64 {
        let missed = self.silent_for.as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
        u64::try_from(missed).unwrap_or(u64::MAX)
    }
}

impl<K: Copy> fmt::Display for Verdict<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (silence, interval) = (Short(self.silent_for), Short(self.interval));
        match self.kind {
            VerdictKind::Suspect | VerdictKind::Dead => {
                write!(f, "no heartbeat for {silence} ({} missed at {interval})", self.missed())
            }
            VerdictKind::Recovered => write!(f, "heartbeat again after {silence} of silence"),
        }
    }
}

/// A duration as people read it: `200 ms`, `1.2 s`.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}
