//! How tasks are spread, and how many may wait.

use std::time::Duration;

use cluster_balancer::{Strategy, UnknownStrategy};

/// How tasks are spread over the workers, and how many may wait.
///
/// ```
/// use std::time::Duration;
/// use cluster_tasks::TaskPolicy;
///
/// let policy = TaskPolicy::new().queue(10_000).patience(Duration::from_secs(5)).strategy("round-robin");
/// # let _ = policy;
/// ```
#[derive(Clone, Debug)]
pub struct TaskPolicy {
    pub(super) queue: usize,
    pub(super) bytes: u64,
    pub(super) patience: Duration,
    strategy: String,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskPolicy {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            queue: 1024,
            bytes: 256 << 20,
            patience: Duration::from_secs(30),
            strategy: "least-loaded".to_owned(),
        }
    }

    /// How many tasks of each name may wait, beyond those that workers have room for. They wait in the primary's memory.
    /// Default: 1,024.
    #[must_use]
    pub fn queue(self, tasks: usize) -> Self {
        Self { queue: tasks, ..self }
    }

    /// How many bytes the tasks of all names may have in the primary's memory, in all: those that wait and those that some worker has. One that
    /// is larger is accepted when there is no other. Beyond that submitting fails: [`TaskError::Overloaded`](super::TaskError::Overloaded).
    /// Default: 256 MiB.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// How long a task waits while no worker runs such tasks at all: as after the start, or when all have died. Default: 30 s. (For
    /// workers that are busy it waits until its deadline.)
    #[must_use]
    pub fn patience(self, time: Duration) -> Self {
        Self { patience: time, ..self }
    }

    /// Who gets the next one, by the [name](cluster_balancer::strategy::names) of a strategy. Default: `least-loaded`. A name
    /// that doesn't exist is an error when the pool is built.
    #[must_use]
    pub fn strategy(self, name: &str) -> Self {
        Self { strategy: name.to_owned(), ..self }
    }

    pub(super) fn resolve(&self) -> Result<Box<dyn Strategy>, UnknownStrategy> {
        cluster_balancer::strategy::by_name(&self.strategy)
    }
}
