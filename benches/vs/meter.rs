//! Processor time that a server and its clients spend between two moments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::peers::Server;
use crate::{Result, proc};

/// Both moments' difference.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) took: Duration,
    /// Of the process that was started first: the primary, where there is one.
    pub(crate) first: Usage,
    /// Of each other process: the workers.
    pub(crate) others: Vec<Usage>,
    /// Of this process, with what it started and waited for in between.
    pub(crate) clients: Duration,
}

/// What one process had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of all its threads.
    pub(crate) time: Duration,
    /// How long its main thread could have run, and others had the cores. Unknown on some kernels.
    pub(crate) waited: Option<Duration>,
}

impl Spent {
    /// Processor time of all processes of the server.
    pub(crate) fn server(&self) -> Duration {
        self.first.time + self.others.iter().map(|usage| usage.time).sum::<Duration>()
    }
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        Ok(Self { time: proc::processor_time(pid)?, waited: proc::waited(pid) })
    }

    fn since(self, before: Self) -> Self {
        let waited = self.waited.zip(before.waited).map(|(now, before)| now.saturating_sub(before));
        Self { time: self.time.saturating_sub(before.time), waited }
    }
}

/// Runs from its start on.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: Instant,
    first: u32,
    server: BTreeMap<u32, Usage>,
    clients: Duration,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> Result<Self> {
        Ok(Self {
            first: server.primary(),
            server: each(server)?,
            clients: proc::own_processor_time()?,
            begin: Instant::now(),
        })
    }

    /// An error if a worker has been replaced meanwhile: what it spent is not known.
    pub(crate) fn stop(self, server: &Server) -> Result<Spent> {
        let took = self.begin.elapsed();
        let clients = proc::own_processor_time()?.saturating_sub(self.clients);
        let after = each(server)?;
        if !after.keys().eq(self.server.keys()) {
            return Err(format!("the workers of {server} are others than before").into());
        }
        let mut spent: BTreeMap<u32, Usage> = after
            .into_iter()
            .zip(self.server.into_values())
            .map(|((pid, after), before)| (pid, after.since(before)))
            .collect();
        let first = spent.remove(&self.first).unwrap_or_default();
        Ok(Spent { took, first, others: spent.into_values().collect(), clients })
    }
}

fn each(server: &Server) -> Result<BTreeMap<u32, Usage>> {
    server.processes()?.into_iter().map(|pid| Ok((pid, Usage::of(pid)?))).collect()
}
