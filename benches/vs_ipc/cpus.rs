//! Which CPU a process runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::job::Place;

/// A CPU for each of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placement {
    pub(crate) parent: usize,
    pub(crate) child: usize,
}

/// The CPUs that we may use.
#[derive(Debug)]
pub(crate) struct Cpus {
    first: usize,
    second: Option<usize>,
}

impl Cpus {
    /// Asks the kernel; to be called before anything is pinned.
    pub(crate) fn allowed() -> Result<Self> {
        let set = sched_getaffinity(None)?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        Ok(Self { first: allowed.next().unwrap_or_default(), second: allowed.next() })
    }

    pub(crate) fn place(&self, place: Place) -> Result<Option<Placement>> {
        let parent = self.first;
        match (place, self.second) {
            (Place::Free, _) => Ok(None),
            (Place::Same, _) => Ok(Some(Placement { parent, child: parent })),
            (Place::Cross, Some(child)) => Ok(Some(Placement { parent, child })),
            (Place::Cross, None) => Err("there is one CPU only: try --one-way-on free".into()),
        }
    }
}

/// Keeps the calling thread, and all that it starts, on a CPU until dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub(crate) fn to(cpu: usize) -> Result<Self> {
        let before = sched_getaffinity(None)?;
        pin(cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What was allowed before is allowed still.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Keeps the calling thread, and all that it starts, on a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| format!("could not move to CPU {cpu}: {error}").into())
}
