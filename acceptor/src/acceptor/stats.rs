//! What the acceptor did, for others to read.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What the acceptor did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AcceptStatus {
    /// How often the kernel was asked for a connection.
    pub attempts: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections handed to a worker; one handed to two because the first did not take it counts twice.
    pub handed: u64,
    /// Connections claimed back from a worker that had not taken them.
    pub recalled: u64,
    /// Connections that a worker gave back, because it does not listen any more or has no descriptor left.
    pub refused: u64,
    /// How often accepting paused because there were no descriptors or no memory.
    pub backoffs: u64,
    /// Connections closed at once, since there were as many as there may be.
    pub rejected: u64,
}

/// Counters that the acceptor's thread alone writes.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) attempts: Counter,
    pub(super) accepted: Counter,
    pub(super) handed: Counter,
    pub(super) recalled: Counter,
    pub(super) refused: Counter,
    pub(super) backoffs: Counter,
    pub(super) rejected: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Stats {
    pub(super) fn snapshot(&self) -> AcceptStatus {
        AcceptStatus {
            attempts: self.attempts.read(),
            accepted: self.accepted.read(),
            handed: self.handed.read(),
            recalled: self.recalled.read(),
            refused: self.refused.read(),
            backoffs: self.backoffs.read(),
            rejected: self.rejected.read(),
        }
    }
}
