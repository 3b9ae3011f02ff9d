//! What the monitor concludes, and why.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use crate::{Excess, Failures, ProbeFailure};

/// How a member stands, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It is starting: nothing is held against it.
    Starting,
    /// Nothing speaks against it.
    Well,
    /// Something does: give it nothing new.
    Suspect,
    /// It is not expected to come back by itself: replace it.
    Unhealthy,
}

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum VerdictKind {
    /// It is worth knowing, no more.
    Noticed,
    /// Something speaks against it. Once for each [cause](Cause), until that has recovered.
    Suspect,
    /// What spoke against it does no more, or what was noticed is over. Others may go on: see [`Monitor::standing`](crate::Monitor::standing).
    Recovered,
    /// It is to be replaced when convenient, its successor first. Told again while the cause goes on.
    Recycle,
    /// It is to be replaced now.
    Unhealthy,
}

/// Why, with the figures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// It does not beat.
    Silence(Silence),
    /// Something is more than it should be.
    Limit(Excess),
    /// It fails more of its requests than the others.
    Failures(Failures),
    /// A probe.
    Probe(ProbeFailure),
    /// It has answered as many requests as one life should.
    Requests {
        /// How many.
        served: u64,
        /// Its share of the limit.
        limit: u64,
    },
    /// It has lived for as long as one life should.
    Lifetime {
        /// How long.
        age: Duration,
        /// Its share of the limit.
        limit: Duration,
    },
}

/// A silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Silence {
    /// How long it is, or was until the member recovered. Time in which the monitor itself stood still is not counted.
    pub lasted: Duration,
    /// How often it should beat.
    pub interval: Duration,
}

impl Silence {
    /// How many heartbeats should have come.
    pub fn missed(&self) -> u64 {
        let missed = self.lasted.as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
        u64::try_from(missed).unwrap_or(u64::MAX)
    }
}

/// A change in how a member stands. Displayed, it says why: `no heartbeat for 1.2 s (6 missed at 200 ms)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<K> {
    pub(crate) key: K,
    pub(crate) kind: VerdictKind,
    pub(crate) cause: Cause,
    pub(crate) since: Instant,
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

    /// Why, with the figures.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// When what is told of began: the silence at the last heartbeat, the excess at the first value that was one; moved on by the
    /// time in which the monitor itself stood still.
    pub fn since(&self) -> Instant {
        self.since
    }
}

impl<K> fmt::Display for Verdict<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == VerdictKind::Recovered {
            self.cause.recovery(f)
        } else {
            fmt::Display::fmt(&self.cause, f)
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(silence) => {
                let (lasted, interval) = (Short(silence.lasted), Short(silence.interval));
                write!(f, "no heartbeat for {lasted} ({} missed at {interval})", silence.missed())
            }
            Self::Limit(Excess { quantity, value, limit, lasted }) => {
                let (value, limit) = (quantity.show(*value), quantity.show(*limit));
                write!(f, "{quantity} at {value}, over {limit}")?;
                if lasted.is_zero() { Ok(()) } else { write!(f, " for {}", Short(*lasted)) }
            }
            Self::Failures(Failures { requests, failed, others_requests, others_failed, lasting }) => write!(
                f,
                "{failed} of {requests} requests failed, of the others {others_failed} of {others_requests}: no more for {}",
                Short(*lasting)
            ),
            Self::Probe(failure) => {
                let (probe, failures) = (failure.probe.as_str(), failure.failures);
                write!(f, "{probe} probe failed {failures} times: ")?;
                // On one line, whoever wrote it.
                failure.reason.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
            }
            Self::Requests { served, limit } => write!(f, "{served} requests served, over {limit}"),
            Self::Lifetime { age, limit } => write!(f, "{} old, over {}", Short(*age), Short(*limit)),
        }
    }
}

impl Cause {
    /// The same as people read it once it is over: `heartbeat again after 2.3 s of silence`.
    pub fn recovered(&self) -> impl fmt::Display + '_ {
        Over(self)
    }

    fn recovery(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(silence) => write!(f, "heartbeat again after {} of silence", Short(silence.lasted)),
            Self::Limit(Excess { quantity, value, lasted, .. }) => {
                write!(f, "{quantity} down at {} again after {}", quantity.show(*value), Short(*lasted))
            }
            Self::Failures(failures) => {
                write!(f, "gets requests again after {}", Short(failures.lasting))
            }
            Self::Probe(failure) => {
                write!(f, "{} probe good again after {}", failure.probe.as_str(), Short(failure.lasted))
            }
            Self::Requests { .. } | Self::Lifetime { .. } => fmt::Display::fmt(self, f),
        }
    }
}

/// A cause that is over.
struct Over<'a>(&'a Cause);

impl fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.recovery(f)
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
