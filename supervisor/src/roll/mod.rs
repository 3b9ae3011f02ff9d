//! Replacing workers that live: one by one, the new before the old, and never on trust.
//!
//! ```text
//!   roll, replace ──▶ Plan: which slot is next ──▶ Trial in a slot: is the successor any good?
//!                      │  surge, budget, canaries      │  ready, bake, figures
//!                      └◀── committed or failed ───────┘
//! ```
//!
//! `trial` has the life of one replacement, `plan` the order of all of them; this file what the user says and hears.

mod judge;
mod plan;
mod trial;

use std::fmt;
use std::time::Duration;

pub use self::judge::{Figures, Judge};
pub(crate) use self::plan::{Allowance, Finished, Place, Plan, Seen, Sight, Turn};
pub(crate) use self::trial::{Step, Trial, TrialState};
use crate::{Exit, ExitCause, WorkerId};

/// Which program a worker runs: a number that the driver knows the meaning of, an open executable say. The first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(u32);

impl Release {
    /// The release with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release {}", self.0)
    }
}

/// How the workers of all slots are replaced: by [`Supervisor::roll`](crate::Supervisor::roll).
///
/// | setting | default |
/// |---|---|
/// | [`bake`](Self::bake) | nothing: ready is good enough |
/// | [`canaries`](Self::canaries) | none |
/// | [`judge`](Self::judge) | [`Judge::new`], with a bake time |
/// | [`roll_back`](Self::roll_back) | if the release is another one |
///
/// How many may be on their way at a time is the [`Policy`](crate::Policy)'s to say.
///
/// ```
/// use std::time::Duration;
/// use cluster_supervisor::{Release, Roll};
///
/// let deploy = Roll::to(Release::new(7)).canaries(1, Duration::from_secs(30)).bake(Duration::from_secs(1));
/// # let _ = deploy;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Roll {
    pub(crate) release: Option<Release>,
    pub(crate) bake: Duration,
    pub(crate) canaries: u32,
    pub(crate) canary_bake: Duration,
    pub(crate) judge: Judge,
    pub(crate) roll_back: bool,
}

impl Roll {
    /// New workers of the same release as before, to make them read their configuration again, say.
    pub const fn same() -> Self {
        Self {
            release: None,
            bake: Duration::ZERO,
            canaries: 0,
            canary_bake: Duration::ZERO,
            judge: Judge::new(),
            roll_back: true,
        }
    }

    /// Workers of this release.
    pub const fn to(release: Release) -> Self {
        Self { release: Some(release), ..Self::same() }
    }

    /// The same to this release.
    pub const fn release(self, release: Release) -> Self {
        Self { release: Some(release), ..self }
    }

    /// How long a successor has to serve beside its predecessor before that one has to go.
    pub const fn bake(self, bake: Duration) -> Self {
        Self { bake, ..self }
    }

    /// So many slots come first, one after the other, each with a bake time of its own; the rest only if all of these are good.
    pub const fn canaries(self, canaries: u32, bake: Duration) -> Self {
        Self { canaries, canary_bake: bake, ..self }
    }

    /// What figures a successor must not have when its bake time is over.
    pub const fn judge(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    /// Whether slots that were replaced already get their old release back when the roll fails or is aborted. With the same
    /// release there is nothing to go back to.
    pub const fn roll_back(self, roll_back: bool) -> Self {
        Self { roll_back, ..self }
    }
}

/// Names a roll, for events and for those who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollId(pub(crate) u64);

impl fmt::Display for RollId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "roll {}", self.0)
    }
}

/// Why a roll was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollRefused {
    /// Another one goes on. Wait for its end, or abort it.
    Busy(RollId),
    /// There is no slot that is wanted.
    NoSlots,
}

impl fmt::Display for RollRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(id) => write!(f, "{id} is not over: wait for its end, or abort it"),
            Self::NoSlots => f.write_str("there are no workers to replace: start some"),
        }
    }
}

impl std::error::Error for RollRefused {}

/// How a roll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollOutcome {
    /// All slots have their new worker.
    Completed,
    /// A successor was no good, and the roll was stopped: slots that had not been replaced keep what they have.
    Failed {
        /// The successor.
        id: WorkerId,
        /// What was wrong with it.
        reason: Unfit,
    },
    /// Somebody aborted it, or shut down.
    Aborted,
}

impl fmt::Display for RollOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed { id, reason } => write!(f, "stopped, since successor {id} {reason}"),
            Self::Aborted => f.write_str("aborted"),
        }
    }
}

/// Why a successor did not take over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// Its process could not be started.
    SpawnFailed,
    /// Its process ended, by itself or since it was never ready or was unhealthy.
    Ended {
        /// How.
        exit: Exit,
        /// Why.
        cause: ExitCause,
    },
    /// It failed too many of its requests.
    Errors {
        /// Its own figures.
        figures: Figures,
        /// Those of the other workers in the same time.
        others: Figures,
    },
    /// It was stopped by somebody, or the roll was aborted.
    Recalled,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpawnFailed => f.write_str("could not be started"),
            Self::Ended { exit, cause } => write!(f, "{exit} {cause}"),
            Self::Errors { figures, others } => {
                write!(f, "failed {figures}, while the others failed {others}")
            }
            Self::Recalled => f.write_str("was recalled"),
        }
    }
}
