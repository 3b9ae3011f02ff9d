//! One replacement in one slot: the successor on trial.
//!
//! | state \ input | vacated    | ready           | bake over | bad    | ended  |
//! |---------------|------------|-----------------|-----------|--------|--------|
//! | Vacating      | Starting S | -               | -         | -      | -      |
//! | Starting      | -          | Baking or Fit   | -         | Failed | Failed |
//! | Baking        | -          | -               | Fit       | Failed | Failed |
//! | Fit, Failed   | -          | -               | -         | -      | -      |
//!
//! S spawn the successor, - ignored.
//! With its predecessor beside it, or where there is none, a trial begins in `Starting`; in `Vacating` where the predecessor
//! has to go first. `Fit` and `Failed` are the end of it: the slot drops the trial.

use std::time::{Duration, Instant};

use super::{Figures, Judge, Unfit};
use crate::roll::{Release, RollId};
use crate::state::after;
use crate::{Exit, ExitCause, WorkerId};

/// Where a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialState {
    /// The predecessor was asked to stop and has not ended.
    Vacating,
    /// The successor is spawned, or about to be, and not ready.
    Starting,
    /// The successor serves and is watched.
    Baking { until: Instant },
}

/// What a trial has come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// It goes on.
    On,
    /// The successor takes over.
    Fit,
    /// It does not.
    Failed(Unfit),
}

/// A successor, and what it has to show.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    state: TrialState,
    /// Nobody yet while the predecessor has not gone.
    successor: Option<WorkerId>,
    pub(crate) release: Release,
    bake: Duration,
    judge: Judge,
    /// The roll it is a part of; otherwise the worker is replaced for itself.
    pub(crate) roll: Option<RollId>,
    /// The figures of the others when the successor became ready.
    others: Vec<(WorkerId, Figures)>,
}

impl Trial {
    pub(crate) fn new(release: Release, bake: Duration, judge: Judge, roll: Option<RollId>) -> Self {
        Self { state: TrialState::Vacating, successor: None, release, bake, judge, roll, others: Vec::new() }
    }

    /// The way is free, and this is the successor.
    pub(crate) fn begin(&mut self, successor: WorkerId) {
        if self.state == TrialState::Vacating {
            self.state = TrialState::Starting;
            self.successor = Some(successor);
        }
    }

    pub(crate) const fn state(&self) -> TrialState {
        self.state
    }

    pub(crate) const fn successor(&self) -> Option<WorkerId> {
        self.successor
    }

    pub(crate) fn is_of(&self, id: WorkerId) -> bool {
        self.successor == Some(id)
    }

    /// The successor is ready; the others have these figures at that moment.
    pub(crate) fn handle_ready(&mut self, now: Instant, others: Vec<(WorkerId, Figures)>) -> Step {
        if self.state != TrialState::Starting {
            return Step::On;
        }
        if self.bake.is_zero() {
            return Step::Fit;
        }
        self.state = TrialState::Baking { until: after(now, self.bake) };
        self.others = others;
        Step::On
    }

    /// The successor has these figures now, and `of` says those of another.
    pub(crate) fn handle_figures(&self, own: Figures, of: impl Fn(WorkerId) -> Option<Figures>) -> Step {
        let TrialState::Baking { .. } = self.state else { return Step::On };
        let meanwhile = |(id, then): &(WorkerId, Figures)| Some(of(*id)?.since(*then));
        let others = self.others.iter().filter_map(meanwhile).fold(Figures::default(), Figures::plus);
        if self.judge.is_bad(own, others) {
            return Step::Failed(Unfit::Errors { figures: own, others });
        }
        Step::On
    }

    pub(crate) fn handle_ended(&self, exit: Exit, cause: ExitCause) -> Step {
        Step::Failed(if cause.is_asked() { Unfit::Recalled } else { Unfit::Ended { exit, cause } })
    }

    pub(crate) fn handle_timeout(&self, now: Instant) -> Step {
        match self.state {
            TrialState::Baking { until } if until <= now => Step::Fit,
            TrialState::Baking { .. } | TrialState::Starting | TrialState::Vacating => Step::On,
        }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            TrialState::Baking { until } => Some(until),
            TrialState::Starting | TrialState::Vacating => None,
        }
    }
}
