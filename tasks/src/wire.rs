//! What the pool and the processes that submit and run tasks say to each other.

use std::time::Duration;

use bytes::Bytes;
use cluster_balancer::tasks::{Begun, End, TaskId};
use cluster_ipc::events::Event;
use serde::{Deserialize, Serialize};

use super::TaskError;

/// Names a task between the pool and the worker that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct TaskRef {
    /// Which of the pools: each name of tasks has one.
    pub(super) pool: u32,
    number: u64,
}

impl TaskRef {
    pub(super) fn new(pool: u32, task: TaskId) -> Self {
        Self { pool, number: task.number() }
    }

    pub(super) fn task(self) -> TaskId {
        TaskId::new(self.number)
    }
}

/// What came of a task: what it returned, or why there is nothing.
pub(super) type Outcome = Result<Bytes, String>;

/// To the primary.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToPool {
    /// Have this done.
    Submit(Order),
    /// What was submitted under this number is not wanted any more.
    Revoke(u64),
    /// Tasks of this name may come here, so many at a time.
    Serve(String, u16),
    /// No more of this name.
    Retire(String),
    /// The task begins now.
    Taken(TaskRef),
    /// It has not begun and won't.
    Refused(TaskRef),
    /// How far it is.
    Progress(TaskRef, Bytes),
    /// It has ended.
    Finished(TaskRef, Outcome),
}

impl Event for ToPool {
    const NAME: &'static str = "cluster.tasks.pool";
}

/// A task as it is submitted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The submitter's number for it.
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) body: Bytes,
    /// How long it may take, from its arrival on.
    pub(super) within: Option<Duration>,
    pub(super) key: Option<u64>,
}

/// To a process that submits or runs tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToParty {
    /// Run this: its name, and what it consists of.
    Give(TaskRef, String, Bytes),
    /// Refuse it if it has not begun.
    Recall(TaskRef),
    /// Nobody waits for it any more.
    Cancel(TaskRef),
    /// How far it is what was submitted under this number.
    Progress(u64, Bytes),
    /// It has ended.
    Ended(u64, Verdict),
}

impl Event for ToParty {
    const NAME: &'static str = "cluster.tasks.party";
}

/// How a task ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Verdict {
    Done(Outcome),
    Full,
    NoWorker,
    Lost,
    Cancelled {
        may_have_begun: bool,
    },
    TimedOut {
        may_have_begun: bool,
    },
    /// It was done, and its outcome dropped: who submitted it does not read so many.
    NotTaken,
    /// It was not accepted: with its bytes there would be too many.
    Overloaded {
        kept: u64,
        most: u64,
    },
}

impl From<End<Outcome>> for Verdict {
    fn from(end: End<Outcome>) -> Self {
        match end {
            End::Done(outcome) => Self::Done(outcome),
            End::NoMember => Self::NoWorker,
            End::Cancelled(begun) => Self::Cancelled { may_have_begun: begun == Begun::Maybe },
            End::TimedOut(begun) => Self::TimedOut { may_have_begun: begun == Begun::Maybe },
            // What else there may be one day is in doubt.
            _ => Self::Lost,
        }
    }
}

impl From<Verdict> for Result<Bytes, TaskError> {
    fn from(verdict: Verdict) -> Self {
        let begun = |maybe| if maybe { Begun::Maybe } else { Begun::No };
        Err(match verdict {
            Verdict::Done(Ok(reply)) => return Ok(reply),
            Verdict::Done(Err(reason)) => TaskError::Failed { reason },
            Verdict::Full => TaskError::Full,
            Verdict::NoWorker => TaskError::NoWorker,
            Verdict::Lost => TaskError::Lost,
            Verdict::NotTaken => TaskError::ReplyNotTaken,
            Verdict::Overloaded { kept, most } => TaskError::Overloaded { kept, most },
            Verdict::Cancelled { may_have_begun } => TaskError::Cancelled { begun: begun(may_have_begun) },
            Verdict::TimedOut { may_have_begun } => TaskError::TimedOut { begun: begun(may_have_begun) },
        })
    }
}
