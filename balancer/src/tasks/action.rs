//! What a pool of tasks says: what to do next, and how tasks end.

use std::fmt;

/// Names one task of a pool, for ever: a number that rises with every task that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    /// An id as read off the wire. Any value may be tried: one that names no task finds nothing.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, from 1 on.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.0)
    }
}

/// What to do next. From [`Tasks::poll`](crate::tasks::Tasks::poll).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<K, T, R> {
    /// Give the task to this member. [`Tasks::item`](crate::tasks::Tasks::item) lends what it consists of.
    Give {
        /// Who gets it.
        to: K,
        /// Which.
        task: TaskId,
    },
    /// Ask this member to give the task back, if it has not taken it: it says [refused](crate::tasks::Tasks::handle_refused) then, and
    /// otherwise nothing but what it says anyway.
    Recall {
        /// Who has it.
        from: K,
        /// Which.
        task: TaskId,
    },
    /// Tell this member that nobody waits for the task any more. It keeps its place there until the member says that it
    /// has [refused](crate::tasks::Tasks::handle_refused) or [finished](crate::tasks::Tasks::handle_finished) it.
    Cancel {
        /// Who has it.
        on: K,
        /// Which.
        task: TaskId,
    },
    /// The task has ended, for who submitted it. Said once of each.
    End {
        /// Which.
        task: TaskId,
        /// What was submitted.
        item: T,
        /// How.
        end: End<R>,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End<R> {
    /// A member has finished it, with this outcome.
    Done(R),
    /// It was cancelled before that.
    Cancelled(Begun),
    /// Its deadline was before that.
    TimedOut(Begun),
    /// The member that had taken it is gone. How far it came can't be known, so nobody else gets it.
    Lost,
    /// For too long there was nobody to give it to. It never ran.
    NoMember,
}

/// Whether a task that ended early may have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Begun {
    /// No: it has had no effect, and will have none.
    No,
    /// A member had it: it may have run in part, and may go on until it hears that it is cancelled.
    Maybe,
}
