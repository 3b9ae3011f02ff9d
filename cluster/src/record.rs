//! Records in the log that are about a worker: each has its `slot`, its `generation` and, while there is a process, its `pid`.

use cluster_health::VerdictKind;
use cluster_supervisor::{Event as Life, ExitCause, RollOutcome};
use tracing::Level;

use crate::event::Event;

/// Writes a record about a worker: `about!(warn, id, pid, %error, "worker {id} …")`. The pid may be unknown.
macro_rules! about {
    ($level:ident, $worker:expr, $pid:expr, $($rest:tt)+) => {{
        let (worker, pid): (cluster_supervisor::WorkerId, Option<u32>) = ($worker, $pid.into());
        tracing::$level!(slot = worker.slot(), generation = worker.generation(), pid, $($rest)+);
    }};
}

pub(crate) use about;

/// Where events are in the log, for filters.
const EVENTS: &str = "cluster::event";

/// Writes a record of an event. `pid` is that of the worker it is about.
pub(crate) fn record(event: &Event, pid: Option<u32>) {
    let slot = event.slot();
    let generation = event.worker().map(|id| id.generation());
    // Each level has to be a place of its own.
    match level(event) {
        Level::ERROR => tracing::error!(target: EVENTS, slot, generation, pid, "{event}"),
        Level::WARN => tracing::warn!(target: EVENTS, slot, generation, pid, "{event}"),
        Level::INFO => tracing::info!(target: EVENTS, slot, generation, pid, "{event}"),
        _ => tracing::debug!(target: EVENTS, slot, generation, pid, "{event}"),
    }
}

fn level(event: &Event) -> Level {
    match event {
        Event::Lifecycle { event: life, .. } => level_of_life(life),
        Event::Health { kind, .. } if *kind != VerdictKind::Recovered => Level::WARN,
        Event::LeftBehind { .. } | Event::Error { .. } => Level::WARN,
        Event::Disconnected { .. } => Level::DEBUG,
        _ => Level::INFO,
    }
}

fn level_of_life(life: &Life) -> Level {
    match life {
        Life::SpawnFailed { .. } | Life::GaveUp(_) => Level::ERROR,
        Life::Exited { cause, .. } if !cause.is_asked() && *cause != ExitCause::Left => Level::WARN,
        Life::ReplaceFailed { .. } => Level::WARN,
        Life::RollFinished { outcome, .. } if *outcome != RollOutcome::Completed => Level::WARN,
        Life::Spawned { .. } | Life::Online { .. } => Level::DEBUG,
        _ => Level::INFO,
    }
}
