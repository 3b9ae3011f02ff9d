//! How everybody is, as plain data.

use cluster_ipc::board::Figures;
use serde::{Deserialize, Serialize};

use crate::address::Address;

/// A snapshot of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// The primary's pid; in inline mode the pid of the one process.
    pub primary_pid: u32,
    /// The addresses that are listened on.
    pub listening: Vec<Address>,
    /// One entry per process, and one for each slot without a process (backing off, or given up), by slot.
    pub workers: Vec<WorkerStatus>,
    /// What the acceptor did so far.
    pub accept: AcceptStatus,
    /// What workers that are started now run. `None` in inline mode.
    pub executable: Option<ExecutableStatus>,
    /// The roll that goes on, if one does.
    pub roll: Option<RollStatus>,
}

/// What workers run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutableStatus {
    /// The path that it was opened at.
    pub path: String,
    /// Whether it is held open, so that a file replaced on disk changes nothing before a reload. A script can't be.
    pub pinned: bool,
    /// Counts the executables that workers were replaced by, from 0.
    pub release: u32,
}

/// A roll that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RollStatus {
    /// The release that it is to; `None` for the same as before.
    pub release: Option<u32>,
    /// How many workers it has replaced.
    pub replaced: u32,
    /// Whether it waits for [`Handle::resume_roll`](crate::Handle::resume_roll).
    pub paused: bool,
    /// Whether it goes back, since a worker was no good or somebody aborted it.
    pub rolling_back: bool,
}

/// A worker, or a slot without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The slot, stable over restarts.
    pub slot: u32,
    /// Which life of the slot it is; counts from 1 and never repeats. 0 where there is no process.
    pub generation: u32,
    /// The process, if there is one.
    pub pid: Option<u32>,
    /// `starting`, `ready`, `suspect`, `unready`, `draining`, `stopping`, `backoff` or `gave-up`.
    pub state: String,
    /// Why, where that needs a word: a slot that was given up.
    pub reason: Option<String>,
    /// How often the slot was restarted.
    pub restarts: u32,
    /// Which of the executables that there were it runs: see [`ExecutableStatus::release`].
    pub release: u32,
    /// How long ago the process was started, in milliseconds.
    pub uptime_ms: u64,
    /// Connections in the application's hands.
    pub active: u64,
    /// Connections the application has taken.
    pub taken: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with a server error.
    pub errors: u64,
    /// Resident memory when it was last measured, in bytes.
    pub memory_bytes: Option<u64>,
    /// The share of one core that it used lately, in thousandths: 1000 is one core all the time.
    pub cpu_permille: Option<u32>,
    /// Open descriptors when they were last counted.
    pub open_files: Option<u64>,
    /// How late the worker's loop ran at its last beat, in microseconds.
    pub lag_us: u64,
}

impl WorkerStatus {
    /// A worker's status with only its own figures filled in.
    pub(crate) fn of(figures: &Figures) -> Self {
        Self {
            slot: 0,
            generation: 0,
            pid: None,
            state: String::new(),
            reason: None,
            restarts: 0,
            release: 0,
            uptime_ms: 0,
            active: figures.active(),
            taken: figures.taken,
            requests: figures.requests,
            errors: figures.errors,
            memory_bytes: None,
            cpu_permille: None,
            open_files: None,
            lag_us: figures.lag_micros,
        }
    }
}

/// What the acceptor did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AcceptStatus {
    /// How often the kernel was asked for a connection.
    pub attempts: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections handed to a worker; one handed to two because the first did not take it counts twice.
    pub handed: u64,
    /// Connections claimed back from a worker that had not taken them.
    pub recalled: u64,
    /// Connections that a worker gave back, because it does not listen any more or has no descriptor left.
    pub refused: u64,
    /// How often accepting paused because there were no descriptors or no memory.
    pub backoffs: u64,
    /// Connections closed at once, since there were as many as there may be.
    pub rejected: u64,
}
