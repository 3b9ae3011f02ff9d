//! How much memory a server keeps resident.

use crate::{Result, proc};

/// Resident memory in KiB. Pages that processes share, such as the program itself, count in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) primary: u64,
    /// The largest of the workers.
    pub(crate) worker: u64,
}

impl Footprint {
    pub(crate) fn of(primary: u32) -> Result<Self> {
        let workers = proc::children(primary)?.into_iter().map(proc::resident).collect::<Result<Vec<_>>>()?;
        let worker = workers.into_iter().max().ok_or("the server has no workers")?;
        Ok(Self { primary: proc::resident(primary)?, worker })
    }
}
