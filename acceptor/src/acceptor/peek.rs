//! How far the acceptor looks.

use std::time::Duration;

/// Limits on looking at the first bytes of connections, for a [`Key`](cluster_balancer::key::Key) that needs them.
///
/// ```
/// use std::time::Duration;
/// use cluster_acceptor::Peek;
///
/// let peek = Peek::new().bytes(4 << 10).within(Duration::from_millis(300)).connections(256);
/// # let _ = peek;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Peek {
    pub(super) bytes: usize,
    pub(super) within: Duration,
    pub(super) connections: usize,
}

impl Default for Peek {
    fn default() -> Self {
        Self::new()
    }
}

impl Peek {
    /// 8 KiB, within a second, of at most 1,024 connections at a time.
    pub fn new() -> Self {
        Self { bytes: 8 << 10, within: Duration::from_secs(1), connections: 1_024 }
    }

    /// So many bytes of a connection at most. Default: 8,192.
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// So long after it was accepted at most. Then it is handed out with the key that there is, or without one. Default: 1 s.
    pub fn within(self, time: Duration) -> Self {
        Self { within: time, ..self }
    }

    /// At so many connections at a time at most. One more, and the one that has waited longest is handed out as above.
    /// Default: 1,024, or half of what the limit of open files allows.
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }
}
