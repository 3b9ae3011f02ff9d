//! What the acceptor did, for others to read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::AcceptStatus;

/// Counters that the acceptor's thread alone writes.
#[derive(Debug, Default)]
pub(crate) struct Stats {
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
    pub(crate) fn snapshot(&self) -> AcceptStatus {
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
