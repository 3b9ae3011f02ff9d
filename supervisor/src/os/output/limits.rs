//! How much of the children's output is kept, and how long a child may wait for the sink.

use std::time::Duration;

use super::{Lines, Tail};

/// The bounds of a [`Capture`](super::Capture). Every default is safe; change one for a reason.
///
/// ```
/// use std::time::Duration;
/// use cluster_supervisor::os::CaptureLimits;
///
/// // Never wait for the sink, not even for a moment: what it doesn't take at once may be dropped.
/// let limits = CaptureLimits::new().patience(Duration::ZERO);
/// # let _ = limits;
/// ```
#[derive(Clone, Debug)]
pub struct CaptureLimits {
    pub(super) line: usize,
    pub(super) tail_lines: usize,
    pub(super) tail_bytes: usize,
    pub(super) per_child: usize,
    pub(super) total: usize,
    pub(super) patience: Duration,
}

impl Default for CaptureLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl CaptureLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            line: Lines::LIMIT,
            tail_lines: Tail::LINES,
            tail_bytes: Tail::BYTES,
            per_child: 256 * 1024,
            total: 16 * 1024 * 1024,
            patience: Duration::from_millis(20),
        }
    }

    /// How long a line may be, in bytes, before it comes in pieces. Default: 8 KiB; at least 4.
    #[must_use]
    pub fn line(mut self, bytes: usize) -> Self {
        self.line = bytes;
        self
    }

    /// How much is kept of each child's last lines. Default: 32 lines, 16 KiB.
    #[must_use]
    pub fn tail(mut self, lines: usize, bytes: usize) -> Self {
        (self.tail_lines, self.tail_bytes) = (lines, bytes);
        self
    }

    /// How many bytes of one child may wait for the sink. Default: 256 KiB; at least 1.
    ///
    /// The text counts, and some 32 bytes for each line. It is exceeded by one read (16 KiB) at most; and as much
    /// again may be with the sink.
    #[must_use]
    pub fn per_child(mut self, bytes: usize) -> Self {
        self.per_child = bytes.max(1);
        self
    }

    /// How many bytes of all children together may wait for the sink. Default: 16 MiB; at least 1.
    #[must_use]
    pub fn total(mut self, bytes: usize) -> Self {
        self.total = bytes.max(1);
        self
    }

    /// How long a child is left unread for want of room, before its lines are dropped instead. Default: 20 ms.
    ///
    /// So a sink that takes a child's share (256 KiB) within 20 ms, 13 MB/s, loses nothing: it slows the child down.
    /// With a slower one the child waits 20 ms, and then runs freely until the sink comes back for more.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn lines(&self) -> Lines {
        Lines::new().limit(self.line)
    }

    pub(super) fn new_tail(&self) -> Tail {
        Tail::new().lines(self.tail_lines).bytes(self.tail_bytes)
    }
}
