//! Which CPU a process runs on.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// The CPUs that we may use.
#[derive(Clone, Debug)]
pub(crate) struct Cpus {
    all: CpuSet,
    allowed: Vec<usize>,
}

impl Cpus {
    /// Asks the kernel; to be called before anything is pinned.
    pub(crate) fn allowed() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        Ok(Self { all, allowed })
    }

    /// The how many-th of them; the last if there are fewer.
    pub(crate) fn nth(&self, nth: usize) -> Option<usize> {
        self.allowed.get(nth).or_else(|| self.allowed.last()).copied()
    }

    /// Keeps a process (this one, if none is named) on one CPU; on any, if that is `None`.
    pub(crate) fn place(&self, process: Option<Pid>, cpu: Option<usize>) -> Result<()> {
        let mut set = CpuSet::new();
        match cpu {
            Some(cpu) => set.set(cpu),
            None => set = self.all,
        }
        Ok(sched_setaffinity(process, &set)?)
    }
}
