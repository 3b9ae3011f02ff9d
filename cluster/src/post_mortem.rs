//! What is known of a worker's death.

use std::fmt;
use std::sync::Arc;

use cluster_supervisor::os::Death;

use crate::status::WorkerStatus;

/// What is known of a worker's death beside its exit: comes with the [event](crate::Event::Lifecycle) of the exit.
///
/// Its `Display` reads on after the event's, and is empty if there is nothing to add.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PostMortem {
    /// Whether the kernel killed it for want of memory, whether its memory was dumped, and whether the signal was ours.
    pub death: Death,
    /// The verdict on its health for which it had to go, if one did.
    pub reason: Option<Arc<str>>,
    /// Its figures at the end: connections, requests, errors, age.
    pub figures: WorkerStatus,
    /// What it printed last, a line for each, after the name of its stream. Empty if its output is not
    /// [captured](crate::Output).
    pub last_words: String,
}

impl fmt::Display for PostMortem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.death)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        if !self.last_words.is_empty() {
            write!(f, "; its last words:\n{}", self.last_words.trim_end())?;
        }
        Ok(())
    }
}
