//! Settings of the primary.

use crate::{Limits, WatchLimits};

/// Settings of a [`Publisher`](crate::Publisher).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherConfig {
    /// How much the store takes.
    pub limits: Limits,
    /// How many commits are kept for replicas that come back. Default 65,536.
    pub history_entries: usize,
    /// Bytes of those. Default 16 MiB.
    pub history_bytes: usize,
    /// For a replica that is behind, commits are kept beyond the history, up to so many bytes; they are shared
    /// by all who wait for them. Default 16 MiB.
    pub queue_bytes: usize,
    /// Bytes of answers that a replica may leave unread; beyond, its commands are refused as
    /// [`CommandError::Busy`](crate::CommandError::Busy). Default 8 MiB.
    pub reply_bytes: usize,
    /// Bytes of a chunk of a snapshot, but at least one entry. Default 64 KiB.
    pub chunk_bytes: usize,
    /// How much is kept for watchers of the primary's own.
    pub watch: WatchLimits,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PublisherConfig {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            limits: Limits::new(),
            history_entries: 1 << 16,
            history_bytes: 16 << 20,
            queue_bytes: 16 << 20,
            reply_bytes: 8 << 20,
            chunk_bytes: 64 << 10,
            watch: WatchLimits::new(),
        }
    }

    /// Sets the limits of the store.
    #[must_use]
    pub const fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets how many commits, and how many bytes of them, are kept for replicas that come back.
    #[must_use]
    pub const fn history(self, entries: usize, bytes: usize) -> Self {
        Self { history_entries: entries, history_bytes: bytes, ..self }
    }

    /// Sets [`queue_bytes`](Self::queue_bytes).
    #[must_use]
    pub const fn queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Sets [`reply_bytes`](Self::reply_bytes).
    #[must_use]
    pub const fn reply_bytes(self, reply_bytes: usize) -> Self {
        Self { reply_bytes, ..self }
    }

    /// Sets [`chunk_bytes`](Self::chunk_bytes).
    #[must_use]
    pub const fn chunk_bytes(self, chunk_bytes: usize) -> Self {
        Self { chunk_bytes, ..self }
    }

    /// Sets how much is kept for watchers of the primary's own.
    #[must_use]
    pub const fn watch(self, watch: WatchLimits) -> Self {
        Self { watch, ..self }
    }
}
