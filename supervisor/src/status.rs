//! What a look at the supervisor shows.

use std::fmt;
use std::time::{Duration, Instant};

use crate::roll::{Release, RollId, Trial};
use crate::slot::{Slot, SlotState};
use crate::worker::Worker;
use crate::{Exit, ExitCause, WorkerId};

/// The state of a worker or a slot in one word, the same in every report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It is being spawned, or runs and is not ready yet.
    Starting,
    /// It takes work.
    Ready,
    /// It was asked to stop and finishes what it has.
    Draining,
    /// It was sent SIGTERM or SIGKILL, or will be stopped as soon as its spawn is answered.
    Stopping,
    /// Only of a slot: it waits before its next start.
    Backoff,
    /// Only of a slot: it waits for its turn, in a [group](crate::Group) that starts in order.
    Held,
    /// Only of a slot: its restart budget is used up.
    GaveUp,
    /// Only of a slot: it has no worker and none is to come.
    Stopped,
}

impl WorkerState {
    /// The word, in lower case: `starting`, `ready`, `draining`, `stopping`, `backoff`, `held`, `gave-up`, `stopped`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Held => "held",
            Self::GaveUp => "gave-up",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A look at one living worker, from [`Supervisor::workers`](crate::Supervisor::workers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    id: WorkerId,
    release: Release,
    state: WorkerState,
    restarts: u32,
    started_at: Option<Instant>,
    ready_since: Option<Instant>,
}

impl WorkerView {
    pub(crate) const fn new(worker: &Worker, restarts: u32) -> Self {
        Self {
            id: worker.id(),
            release: worker.release(),
            state: worker.state().public(),
            restarts,
            started_at: worker.spawned_at(),
            ready_since: worker.ready_since(),
        }
    }

    /// Which worker it is.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// What it runs.
    pub const fn release(&self) -> Release {
        self.release
    }

    /// Its state.
    pub const fn state(&self) -> WorkerState {
        self.state
    }

    /// How often its slot has been restarted: see [`SlotView::restarts`].
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When its process was spawned; `None` until the driver said so.
    pub const fn started_at(&self) -> Option<Instant> {
        self.started_at
    }

    /// When it became ready; `None` when it has not been. Stays set while it drains.
    pub const fn ready_since(&self) -> Option<Instant> {
        self.ready_since
    }
}

/// A look at one slot, with or without a worker, from [`Supervisor::slots`](crate::Supervisor::slots).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    slot: u32,
    newest: WorkerId,
    is_live: bool,
    state: WorkerState,
    restarts: u32,
    failures: u32,
    retry_at: Option<Instant>,
    successor: Option<WorkerId>,
    is_wanted: bool,
    is_missed: bool,
    is_replacing: bool,
    is_restarting: bool,
    release: Release,
}

impl SlotView {
    pub(crate) fn new(slot: &Slot, newest: Option<&Worker>) -> Self {
        let state = match (slot.state(), newest) {
            (SlotState::Live, Some(worker)) => worker.state().public(),
            (SlotState::Live, None) | (SlotState::Empty, _) => WorkerState::Stopped,
            (SlotState::Backoff { .. }, _) => WorkerState::Backoff,
            (SlotState::Held, _) => WorkerState::Held,
            (SlotState::GaveUp(_), _) => WorkerState::GaveUp,
        };
        Self {
            slot: slot.number(),
            newest: slot.own(),
            is_live: newest.is_some(),
            state,
            restarts: slot.restarts(),
            failures: slot.failures(),
            retry_at: slot.retry_at(),
            successor: slot.trial().and_then(Trial::successor),
            is_wanted: slot.is_wanted(),
            is_missed: slot.is_missed(),
            is_restarting: slot.is_marked(),
            is_replacing: slot.trial().is_some(),
            release: slot.release(),
        }
    }

    /// Its number.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Its own worker, if that one is alive. Not a successor on trial.
    pub fn current(&self) -> Option<WorkerId> {
        self.is_live.then_some(self.newest)
    }

    /// The worker that is on trial to take over, if one is.
    pub const fn successor(&self) -> Option<WorkerId> {
        self.successor
    }

    /// Whether the user wants it to have a worker.
    pub const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Whether it should have a worker: it is wanted, or it was given up and not stopped since. Those that were given up get another chance
    /// in a [roll](crate::Supervisor::roll), and count as without a worker until then.
    pub const fn is_missed(&self) -> bool {
        self.is_missed
    }

    /// Whether its worker has to go and comes again, since one of its [group](crate::Group) is restarted.
    pub const fn is_restarting(&self) -> bool {
        self.is_restarting
    }

    /// Whether its worker is being replaced.
    pub const fn is_replacing(&self) -> bool {
        self.is_replacing
    }

    /// What it runs, but for a successor on trial.
    pub const fn release(&self) -> Release {
        self.release
    }

    /// Its own worker, alive or not: what [`Supervisor::stop`](crate::Supervisor::stop) takes to end this slot
    /// even while it is in back-off. Not a successor on trial.
    pub const fn newest(&self) -> WorkerId {
        self.newest
    }

    /// The state of its newest worker, or of the slot itself when that worker has ended.
    pub const fn state(&self) -> WorkerState {
        self.state
    }

    /// How many restarts were decided since the slot exists, the one in back-off included.
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How many times in a row its worker has failed, as of the last exit.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// When the back-off ends; `None` when there is none.
    pub const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

/// A look at the roll that goes on, from [`Supervisor::roll_view`](crate::Supervisor::roll_view).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollView {
    pub(crate) id: RollId,
    pub(crate) release: Option<Release>,
    pub(crate) replaced: u32,
    pub(crate) is_paused: bool,
    pub(crate) is_rolling_back: bool,
}

impl RollView {
    /// Which roll it is.
    pub const fn id(&self) -> RollId {
        self.id
    }

    /// What it is to; `None` for the same as before.
    pub const fn release(&self) -> Option<Release> {
        self.release
    }

    /// How many slots it has replaced, those included that were rolled back since.
    pub const fn replaced(&self) -> u32 {
        self.replaced
    }

    /// Whether it waits for [`resume_roll`](crate::Supervisor::resume_roll).
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether it goes back: see [`Event::RollingBack`](crate::Event::RollingBack).
    pub const fn is_rolling_back(&self) -> bool {
        self.is_rolling_back
    }
}

/// Everything at one moment, from [`Supervisor::status`](crate::Supervisor::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// All slots that ever had a worker, by number.
    pub slots: Vec<SlotView>,
    /// All workers that live or are being spawned, by id: successors on trial and predecessors that drain among them.
    pub workers: Vec<WorkerView>,
    /// The slots that were given up, and why.
    pub given_up: Vec<GivenUp>,
    /// The roll that goes on.
    pub roll: Option<RollView>,
    /// What slots that are started now run.
    pub release: Release,
}

/// Why a slot was given up, from [`Supervisor::given_up`](crate::Supervisor::given_up).
///
/// `Display` gives the line of [`Event::GaveUp`](crate::Event::GaveUp).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub(crate) id: WorkerId,
    pub(crate) reason: GiveUpReason,
    pub(crate) exit: Exit,
    pub(crate) cause: ExitCause,
}

/// Which limit a slot has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// Its [`Budget`](crate::Budget) is used up.
    Budget {
        /// How many failures there were in the period, the last one included.
        failures: u32,
        /// The period of the budget; time in back-off is not part of it.
        period: Duration,
    },
    /// Its worker exited with a code that says that no restart will help: [`Policy::hopeless`](crate::Policy::hopeless).
    ExitCode,
}

impl GivenUp {
    /// The slot that stays empty.
    pub const fn slot(&self) -> u32 {
        self.id.slot()
    }

    /// Its last worker.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// Which limit it has come to.
    pub const fn reason(&self) -> GiveUpReason {
        self.reason
    }

    /// How the last worker ended.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Why the last worker ended.
    pub const fn cause(&self) -> ExitCause {
        self.cause
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, reason, exit, cause } = self;
        write!(f, "gave up on slot {}", id.slot())?;
        match reason {
            GiveUpReason::Budget { failures, period } => {
                write!(f, " after {failures} failures in {period:?}")?
            }
            GiveUpReason::ExitCode => f.write_str(", since no restart will help")?,
        }
        write!(f, ": worker {id} {exit} {cause}")
    }
}
