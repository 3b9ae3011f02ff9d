//! Settings of a replica.

use crate::WatchLimits;

/// Settings of a [`Replica`](crate::Replica).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// How many requests may be without completion: sent or not, waiting for a revision included.
    /// Default 1,024.
    pub requests: usize,
    /// How much is kept for watchers.
    pub watch: WatchLimits,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplicaConfig {
    /// The defaults.
    pub const fn new() -> Self {
        Self { requests: 1024, watch: WatchLimits::new() }
    }

    /// Sets [`requests`](Self::requests).
    #[must_use]
    pub const fn requests(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// Sets how much is kept for watchers.
    #[must_use]
    pub const fn watch(self, watch: WatchLimits) -> Self {
        Self { watch, ..self }
    }
}
