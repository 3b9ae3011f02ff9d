//! Where the kernel shows what it knows.

use std::path::{Path, PathBuf};

use rustix::process::getpid;

use super::Error;

/// Where the kernel shows what it knows: `/proc` and `/sys/fs/cgroup`, unless it is told otherwise.
///
/// For tests with files of their own, and for those who have them mounted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Roots {
    /// `/proc` and `/sys/fs/cgroup`.
    pub fn new() -> Self {
        Self { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }

    /// Another `/proc`. It must be of this pid namespace: its `self` is this process.
    #[must_use]
    pub fn proc(mut self, path: impl Into<PathBuf>) -> Self {
        self.proc = path.into();
        self
    }

    /// Another root of the control groups.
    #[must_use]
    pub fn cgroup(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroup = path.into();
        self
    }

    pub(super) fn proc_path(&self) -> &Path {
        &self.proc
    }

    pub(super) fn cgroup_path(&self) -> &Path {
        &self.cgroup
    }

    /// The folder of a process, if there is a `/proc` whose pids are ours.
    ///
    /// A `/proc` of another namespace (`unshare --pid` without a new mount) shows strangers by our pids.
    pub(super) fn of_process(&self, pid: u32) -> Result<PathBuf, Error> {
        let root = || self.proc.clone();
        let me = std::fs::read_link(self.proc.join("self"))
            .map_err(|source| Error::NoProc { root: root(), source })?;
        let is_me = me.to_str().and_then(|me| me.parse().ok()) == Some(getpid().as_raw_pid());
        if is_me { Ok(self.proc.join(pid.to_string())) } else { Err(Error::ForeignProc { root: root() }) }
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self::new()
    }
}
