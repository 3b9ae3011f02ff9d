//! What one worker is started with beside what all are.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::Settings;

/// What one worker is started with beside the [`Settings`] of all: for [`Handle::fork_with`](crate::Handle::fork_with).
///
/// It stays with the worker's slot over restarts and replacements, until the worker is stopped for good.
///
/// ```
/// use cluster::Fork;
///
/// let fork = Fork::new().env("ROLE", "mailer");
/// # let _ = fork;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Fork(pub(crate) Settings);

impl Fork {
    /// Nothing beside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an environment variable, also one that the settings or the primary's environment have already.
    pub fn env(self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        Self(self.0.env(key, value))
    }

    /// Connections that it may have at a time, at most, in place of what the settings say: see
    /// [`Settings::max_connections_per_worker`]. 0 is none.
    pub fn max_connections(self, connections: u32) -> Self {
        Self(self.0.max_connections_per_worker(connections))
    }

    /// Hands it a descriptor: see [`Settings::descriptor`].
    pub fn descriptor(self, name: impl Into<String>, descriptor: impl Into<Arc<OwnedFd>>) -> Self {
        Self(self.0.descriptor(name, descriptor))
    }
}
