//! Why there is no reply to a task.

use cluster_balancer::tasks::Begun;

/// Why a task has no reply.
///
/// Whether it is safe to submit it again is for the application to know: [`may_have_begun`](Self::may_have_begun) says whether it
/// may have had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Too many wait already: of this name in the pool, or 1,024 of this process.
    #[error("too many tasks wait already")]
    Full,
    /// Together with those that are there already it would have more bytes than tasks [may have](super::TaskPolicy::bytes) in the primary.
    #[error(
        "the task was not accepted: tasks have {kept} of the {most} bytes that they may; submit it later, or raise the policy's `bytes`"
    )]
    Overloaded {
        /// How many bytes the others had.
        kept: u64,
        /// How many they may have.
        most: u64,
    },
    /// For too long there was no worker that runs such tasks: see [`TaskPolicy::patience`](super::TaskPolicy::patience).
    #[error("there was no worker that runs such tasks")]
    NoWorker,
    /// Its deadline came first.
    #[error("the task was not done by its deadline")]
    TimedOut {
        /// Whether some worker may have begun it.
        begun: Begun,
    },
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled {
        /// Whether some worker may have begun it.
        begun: Begun,
    },
    /// The worker that had begun it died. How far it came can't be known, and nobody else gets it.
    #[error("the worker that had begun the task died")]
    Lost,
    /// It was done, and its reply was dropped: 256 MiB of replies waited already that this process had not read.
    #[error(
        "the task was done and its reply dropped: too many bytes of replies wait already; submit fewer at a time"
    )]
    ReplyNotTaken,
    /// It was run and failed: the handler said why, or panicked, or could not read it.
    #[error("the task failed: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// It could not be written, or its reply not be read: the two sides have different types under one name.
    #[error("the task could not be encoded, or its reply not be decoded: {reason}")]
    Encoding {
        /// Why.
        reason: String,
    },
    /// It is larger than the 32 MiB that a task, a reply, or a report of progress may have.
    #[error("{bytes} bytes are too large for a task")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The primary is gone, or does not run any more.
    #[error("the primary is gone")]
    PrimaryGone,
}

impl TaskError {
    /// Whether the task may have run, in part or in whole. If not, it had no effect and will have none.
    pub fn may_have_begun(&self) -> bool {
        match self {
            Self::Full | Self::Overloaded { .. } | Self::NoWorker | Self::TooLarge { .. } => false,
            Self::TimedOut { begun } | Self::Cancelled { begun } => *begun == Begun::Maybe,
            Self::Lost
            | Self::ReplyNotTaken
            | Self::Failed { .. }
            | Self::Encoding { .. }
            | Self::PrimaryGone => true,
        }
    }
}

/// This process already runs tasks of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process already runs tasks named {name}")]
#[non_exhaustive]
pub struct AlreadyRuns {
    /// The name.
    pub name: &'static str,
}
