//! How everybody is, as plain data.

#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(test)]
mod samples;
mod table;

use std::collections::BTreeMap;

use cluster_ipc::board::Figures;
use cluster_supervisor::{Release, RollView, Status, Totals};
use serde::{Deserialize, Serialize};

use crate::{AcceptStatus, Address};

/// A snapshot of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// The primary's pid; in inline mode the pid of the one process.
    pub primary_pid: u32,
    /// How long the cluster has been running, in milliseconds.
    pub uptime_ms: u64,
    /// The addresses that are listened on.
    pub listening: Vec<Address>,
    /// One entry per process, and one for each slot without a process (backing off, or given up), by slot.
    pub workers: Vec<WorkerStatus>,
    /// What was counted over the life of the cluster, over all workers that there were: the sum of `slots`.
    pub totals: Totals,
    /// The same of each slot that there ever was, in order.
    pub slots: Vec<SlotStatus>,
    /// What the application [counts](crate::Worker::count), over all workers that there were, by name. It never goes back.
    pub counters: BTreeMap<String, u64>,
    /// What the acceptor did so far.
    pub accept: AcceptStatus,
    /// What workers that are started now run. `None` in inline mode.
    pub executable: Option<ExecutableStatus>,
    /// The roll that goes on, if one does.
    pub roll: Option<RollStatus>,
}

/// What was counted in a slot, over all workers that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotStatus {
    /// The slot.
    pub slot: u32,
    /// The figures.
    pub totals: Totals,
}

/// What workers run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecutableStatus {
    /// The path that it was opened at.
    pub path: String,
    /// Whether it is held open, so that a file replaced on disk changes nothing before a reload. A script can't be.
    pub pinned: bool,
    /// Counts the executables, and the [settings](crate::Settings), that there were for workers, from 0.
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

/// A worker, or a slot without one. What is counted here was counted by this process: for what its predecessors have counted see
/// [`ClusterStatus::slots`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Where it accepts connections.
    pub addresses: Vec<Address>,
    /// How long ago a heartbeat was seen last, in milliseconds. `None` before the first.
    pub heard_ms_ago: Option<u64>,
    /// How long ago its memory, CPU time and descriptors were measured last, in milliseconds. `None` before the first time.
    pub measured_ms_ago: Option<u64>,
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
    /// What the application [reported](crate::Worker::gauge) last, by name.
    pub gauges: BTreeMap<String, f64>,
}

/// A length of time, in milliseconds.
pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
            addresses: Vec::new(),
            heard_ms_ago: None,
            measured_ms_ago: None,
            active: figures.active(),
            taken: figures.taken,
            requests: figures.requests,
            errors: figures.errors,
            memory_bytes: None,
            cpu_permille: None,
            open_files: None,
            lag_us: figures.lag_micros,
            gauges: BTreeMap::new(),
        }
    }

    /// Those of slots without a process.
    pub(crate) fn of_empty_slots(status: &Status) -> impl Iterator<Item = Self> {
        status.slots.iter().filter(|slot| slot.current().is_none()).map(|slot| {
            let given_up = status.given_up.iter().find(|given_up| given_up.slot() == slot.slot());
            Self {
                slot: slot.slot(),
                state: slot.state().as_str().to_owned(),
                restarts: slot.restarts(),
                release: slot.release().number(),
                reason: given_up.map(ToString::to_string),
                ..Self::of(&Figures::default())
            }
        })
    }
}

impl RollStatus {
    pub(crate) fn of(roll: &RollView) -> Self {
        Self {
            release: roll.release().map(Release::number),
            replaced: roll.replaced(),
            paused: roll.is_paused(),
            rolling_back: roll.is_rolling_back(),
        }
    }
}
