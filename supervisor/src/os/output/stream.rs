//! Where a child writes.

use std::fmt;

/// The stream that a line came from.
///
/// ```
/// use cluster_supervisor::os::Stream;
///
/// assert_eq!(format!("[0.3 {}]", Stream::Stderr), "[0.3 err]");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a process has these two and no other")]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Its place in an array of two.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    pub(super) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "out",
            Self::Stderr => "err",
        })
    }
}
