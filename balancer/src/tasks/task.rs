//! One task, and one member, as the pool keeps them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::action::TaskId;
use crate::{Arrival, Ticket};

/// A task that has not ended, or that a member still has though it has ended for who submitted it.
#[derive(Debug)]
pub(super) struct Task<K, T> {
    pub(super) arrival: Arrival,
    pub(super) deadline: Option<Duration>,
    pub(super) place: Place<K>,
    /// `None` once it has ended.
    pub(super) item: Option<T>,
    pub(super) weight: u64,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<K> {
    /// With the dispatcher: no member has seen it.
    Waiting,
    /// On its way to a member, which has not said that it took it.
    Given { to: K, ticket: Ticket },
    /// Taken.
    Running { on: K, since: Duration },
}

impl<K: Copy + PartialEq> Place<K> {
    /// Who has it.
    pub(super) fn member(self) -> Option<K> {
        match self {
            Self::Waiting => None,
            Self::Given { to: member, .. } | Self::Running { on: member, .. } => Some(member),
        }
    }
}

/// What is counted of a member beside what the dispatcher counts.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Admitted, and not withdrawn since.
    pub(super) is_present: bool,
    /// What it has taken and not finished.
    pub(super) running: BTreeSet<TaskId>,
    /// How many it has finished in its life.
    pub(super) finished: u64,
}
