//! A server that runs.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::scratch::Launch;
use crate::interrupt::wait_for;
use crate::process::Process;
use crate::{Result, client, proc};

/// For a server to answer.
const START: Duration = Duration::from_secs(30);
/// For workers to be gone after their primary.
const ORPHANS: Duration = Duration::from_secs(5);

/// Ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    address: SocketAddr,
    /// The primary; or, where there is none, all workers.
    processes: Vec<Process>,
}

impl Server {
    pub(super) fn new(launch: Launch, address: SocketAddr, processes: Vec<Process>) -> Self {
        Self { launch, address, processes }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process that was started first.
    pub(crate) fn primary(&self) -> u32 {
        self.processes.first().map_or(0, Process::pid)
    }

    /// Its workers, where it has a primary.
    pub(crate) fn workers(&self) -> Result<Vec<u32>> {
        proc::children(self.primary())
    }

    /// Its processes, that which was started first in front.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        Ok(self.processes.iter().map(Process::pid).chain(self.workers()?).collect())
    }

    /// A place for files about it.
    pub(crate) fn folder(&self) -> &Path {
        self.launch.folder()
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(|process| check(process, &self.launch))
    }

    pub(super) fn wait_until_it_answers(&mut self) -> Result<()> {
        wait_for(&format!("an answer from {self}"), START, || {
            self.check()?;
            Ok(client::get(self.address, START).ok())
        })?;
        Ok(())
    }

    /// Ends it; an error if it does not end when asked to, or leaves workers behind.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.check()?;
        let workers = self.workers()?;
        std::mem::take(&mut self.processes).into_iter().try_for_each(Process::stop)?;
        wait_for(&format!("the workers of {self} to end with it"), ORPHANS, || {
            Ok((!workers.iter().any(|pid| proc::is_alive(*pid))).then_some(()))
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.launch.peer.fmt(f)
    }
}

/// An error with its last words if the process has ended.
pub(super) fn check(process: &mut Process, launch: &Launch) -> Result<()> {
    let Some(status) = process.exited()? else { return Ok(()) };
    let log = std::fs::read_to_string(launch.stderr()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
    Err(format!("{} ended by itself ({status}):\n{last}", launch.peer).into())
}
