//! How a pool of tasks looks from outside.

use crate::DispatcherStatus;

/// A pool of tasks at one moment. With feature `serde` it can be serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TasksStatus<K> {
    /// Who gets what, and what waits.
    pub dispatcher: DispatcherStatus<K>,
    /// Tasks that have ended for who submitted them, and that a member still has.
    pub left: usize,
    /// What all tasks [weigh](crate::tasks::Tasks::max_weight) that have not left the pool.
    pub weight: u64,
    /// What has happened so far.
    pub totals: TaskTotals,
}

/// How the tasks of a pool ended in its whole life.
///
/// `submitted` less all others is how many have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskTotals {
    /// Tasks that were accepted.
    pub submitted: u64,
    /// Tasks that a member finished.
    pub done: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks whose deadline came first.
    pub timed_out: u64,
    /// Tasks that ended with the member that had taken them.
    pub lost: u64,
    /// Tasks that there was nobody for.
    pub no_member: u64,
}
