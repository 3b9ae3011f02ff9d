//! What happened, for people, logs and metrics.

use std::fmt;
use std::time::Duration;

use crate::roll::{Release, RollId, RollOutcome, Unfit};
use crate::{Exit, ExitCause, GivenUp, WorkerId};

/// Something worth telling, from [`Supervisor::poll_event`](crate::Supervisor::poll_event).
///
/// Nothing needs to be done about an event. `Display` gives a line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This worker is to be spawned when its turn comes, in a [group](crate::Group) that starts in order.
    Held {
        /// The worker.
        id: WorkerId,
    },
    /// This worker is to be spawned.
    Starting {
        /// The worker.
        id: WorkerId,
        /// What it runs.
        release: Release,
    },
    /// The process of this worker was started. One [`Exited`](Self::Exited) will follow.
    Spawned {
        /// The worker.
        id: WorkerId,
    },
    /// The process of this worker could not be started. The next try has a new id.
    SpawnFailed {
        /// The worker that never was.
        id: WorkerId,
        /// How long until the next try; `None` when the worker is not wanted any more.
        retry_in: Option<Duration>,
    },
    /// This worker's process runs and has spoken.
    Online {
        /// The worker.
        id: WorkerId,
    },
    /// This worker can take work.
    Ready {
        /// The worker.
        id: WorkerId,
    },
    /// This worker is on its way out. Comes once for each worker that does not end by itself.
    Stopping {
        /// The worker.
        id: WorkerId,
        /// Why it has to go.
        cause: ExitCause,
    },
    /// The process of this worker has ended.
    Exited {
        /// The worker.
        id: WorkerId,
        /// How it ended.
        exit: Exit,
        /// Why it ended.
        cause: ExitCause,
        /// How long it had been ready; `None` when it never was.
        uptime: Option<Duration>,
    },
    /// This slot waits before its next restart. An immediate restart is not announced.
    BackingOff {
        /// The slot.
        slot: u32,
        /// How long it waits.
        delay: Duration,
        /// How many times in a row its worker has failed.
        failures: u32,
    },
    /// This slot stays empty until it is started anew: its restart budget is used up, or its worker said that no restart will help.
    GaveUp(GivenUp),
    /// This slot is not wanted any more: it was stopped, or its work is done. Its worker may live for a while.
    Stopped {
        /// The slot.
        slot: u32,
    },
    /// The worker of this slot is being replaced.
    Replacing {
        /// The slot.
        slot: u32,
        /// The successor; `None` when its predecessor has to go first.
        id: Option<WorkerId>,
        /// What it runs.
        release: Release,
        /// The roll it is a part of; `None` when the worker is replaced for itself.
        roll: Option<RollId>,
    },
    /// This successor is fit and the slot is its own now.
    Replaced {
        /// Its predecessor, which is asked to stop; `None` when it has gone already, or there was none.
        old: Option<WorkerId>,
        /// The successor.
        new: WorkerId,
        /// The roll it is a part of.
        roll: Option<RollId>,
    },
    /// A successor did not take over. Its predecessor stays, if it lives.
    ReplaceFailed {
        /// The slot.
        slot: u32,
        /// The successor; `None` when there was none yet.
        id: Option<WorkerId>,
        /// What was wrong.
        reason: Unfit,
        /// The roll it is a part of.
        roll: Option<RollId>,
    },
    /// A roll has begun.
    RollStarted {
        /// The roll.
        id: RollId,
        /// How many slots it is to replace.
        slots: u32,
        /// What they are to run; `None` for the same as before.
        release: Option<Release>,
    },
    /// A roll begins no more trials for now.
    RollPaused {
        /// The roll.
        id: RollId,
    },
    /// A roll goes on.
    RollResumed {
        /// The roll.
        id: RollId,
    },
    /// A roll goes no further. Those on trial are recalled, and slots that it has replaced get what they had before, if the
    /// [`Roll`](crate::Roll) wants that. A pause is over.
    RollingBack {
        /// The roll.
        id: RollId,
        /// Why: how the roll will have ended when that is done.
        outcome: RollOutcome,
    },
    /// A roll is over.
    RollFinished {
        /// The roll.
        id: RollId,
        /// How it ended.
        outcome: RollOutcome,
        /// How many slots it replaced, those included that were rolled back since.
        replaced: u32,
        /// How many of them keep the new release although they were to go back: what they had before could not be started again.
        stranded: u32,
    },
}

impl Event {
    /// The worker it is about, if it is about one. For a replacement, the successor.
    pub const fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Held { id }
            | Self::Starting { id, .. }
            | Self::Spawned { id }
            | Self::SpawnFailed { id, .. }
            | Self::Online { id }
            | Self::Ready { id }
            | Self::Stopping { id, .. }
            | Self::Exited { id, .. }
            | Self::Replaced { new: id, .. } => Some(*id),
            Self::GaveUp(given_up) => Some(given_up.id()),
            Self::Replacing { id, .. } | Self::ReplaceFailed { id, .. } => *id,
            Self::BackingOff { .. }
            | Self::Stopped { .. }
            | Self::RollStarted { .. }
            | Self::RollPaused { .. }
            | Self::RollResumed { .. }
            | Self::RollingBack { .. }
            | Self::RollFinished { .. } => None,
        }
    }

    /// The slot it is about, if it is about one.
    pub const fn slot(&self) -> Option<u32> {
        match self {
            Self::BackingOff { slot, .. }
            | Self::Stopped { slot }
            | Self::Replacing { slot, .. }
            | Self::ReplaceFailed { slot, .. } => Some(*slot),
            _ => match self.worker() {
                Some(id) => Some(id.slot()),
                None => None,
            },
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { id } => write!(f, "worker {id} waits for its turn"),
            Self::Starting { id, .. } => write!(f, "worker {id} starting"),
            Self::Spawned { id } => write!(f, "worker {id} spawned"),
            Self::SpawnFailed { id, retry_in: Some(delay) } => {
                write!(f, "worker {id} could not be spawned, next try in {delay:.1?}")
            }
            Self::SpawnFailed { id, retry_in: None } => write!(f, "worker {id} could not be spawned"),
            Self::Online { id } => write!(f, "worker {id} online"),
            Self::Ready { id } => write!(f, "worker {id} ready"),
            Self::Stopping { id, cause } => write!(f, "worker {id} stopping {cause}"),
            Self::Exited { id, exit, cause, uptime: Some(uptime) } => {
                write!(f, "worker {id} {exit} {cause}, ready for {uptime:.1?}")
            }
            Self::Exited { id, exit, cause, uptime: None } => write!(f, "worker {id} {exit} {cause}"),
            Self::BackingOff { slot, delay, failures } => {
                write!(f, "slot {slot} restarts in {delay:.1?} after {failures} failures in a row")
            }
            Self::GaveUp(given_up) => given_up.fmt(f),
            Self::Stopped { slot } => write!(f, "slot {slot} is not wanted any more"),
            Self::Replacing { slot, id: Some(id), .. } => write!(f, "slot {slot} gets successor {id}"),
            Self::Replacing { slot, id: None, .. } => {
                write!(f, "slot {slot} gets a successor when its worker has gone")
            }
            Self::Replaced { old: Some(old), new, .. } => write!(f, "worker {new} took over from {old}"),
            Self::Replaced { old: None, new, .. } => write!(f, "worker {new} took over"),
            Self::ReplaceFailed { id: Some(id), reason, .. } => {
                write!(f, "successor {id} did not take over: it {reason}")
            }
            Self::ReplaceFailed { slot, id: None, reason, .. } => {
                write!(f, "slot {slot} got no successor: it {reason}")
            }
            Self::RollStarted { id, slots, release: Some(release) } => {
                write!(f, "{id} of {slots} workers to {release} started")
            }
            Self::RollStarted { id, slots, release: None } => write!(f, "{id} of {slots} workers started"),
            Self::RollPaused { id } => write!(f, "{id} paused"),
            Self::RollResumed { id } => write!(f, "{id} resumed"),
            Self::RollingBack { id, outcome } => write!(f, "{id} {outcome}: it goes back"),
            Self::RollFinished { id, outcome, replaced, stranded: 0 } => {
                write!(f, "{id} {outcome}; replaced {replaced}")
            }
            Self::RollFinished { id, outcome, replaced, stranded } => {
                write!(f, "{id} {outcome}; replaced {replaced}, of which {stranded} could not go back")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GiveUpReason;

    #[test]
    fn an_event_reads_as_a_line_of_a_log() {
        let id = WorkerId::new(0, 11);
        let gave_up = |reason, exit| {
            Event::GaveUp(GivenUp { id, reason, exit, cause: ExitCause::BootFailure }).to_string()
        };
        assert_eq!(
            gave_up(GiveUpReason::Budget { failures: 11, period: Duration::from_secs(60) }, Exit::Signal(6)),
            "gave up on slot 0 after 11 failures in 60s: worker 0.11 killed by signal 6 (SIGABRT) before it was ready"
        );
        assert_eq!(
            gave_up(GiveUpReason::ExitCode, Exit::Code(78)),
            "gave up on slot 0, since no restart will help: worker 0.11 exited with code 78 before it was ready"
        );
        let stopping = Event::Stopping { id, cause: ExitCause::Unhealthy };
        assert_eq!(stopping.to_string(), "worker 0.11 stopping because it was unhealthy");
        let exited = Event::Exited {
            id,
            exit: Exit::Code(0),
            cause: ExitCause::Asked,
            uptime: Some(Duration::from_millis(1500)),
        };
        assert_eq!(exited.to_string(), "worker 0.11 exited with code 0 as asked, ready for 1.5s");
    }
}
