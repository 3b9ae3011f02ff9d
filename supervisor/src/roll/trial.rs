//! One replacement in one slot: the successor on trial.
//!
//! | state \ input | begin      | ready  | ready, no bake | bake over | bad    | leaves  | ended  |
//! |---------------|------------|--------|----------------|-----------|--------|---------|--------|
//! | Vacating      | Starting S | -      | -              | -         | -      | -       | Failed |
//! | Starting      | -          | Baking | Fit            | -         | -      | -       | Failed |
//! | Baking        | -          | -      | -              | Fit       | Failed | Leaving | Failed |
//! | Leaving       | -          | -      | -              | -         | -      | -       | Failed |
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
    /// The successor is on its way out, and its end will say why.
    Leaving,
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

    /// The roll goes no further, and nobody is on trial yet: whoever comes runs what was there before, and has nothing to show.
    pub(crate) fn recall(&mut self, before: Release) {
        (self.release, self.bake) = (before, Duration::ZERO);
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

    /// The successor was ready and does not serve any more: somebody ends it.
    pub(crate) fn handle_leaving(&mut self) {
        if matches!(self.state, TrialState::Baking { .. }) {
            self.state = TrialState::Leaving;
        }
    }

    pub(crate) fn handle_ended(&self, exit: Exit, cause: ExitCause) -> Step {
        Step::Failed(if cause.is_asked() { Unfit::Recalled } else { Unfit::Ended { exit, cause } })
    }

    pub(crate) fn handle_timeout(&self, now: Instant) -> Step {
        match self.state {
            TrialState::Baking { until } if until <= now => Step::Fit,
            TrialState::Baking { .. } | TrialState::Starting | TrialState::Vacating | TrialState::Leaving => {
                Step::On
            }
        }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            TrialState::Baking { until } => Some(until),
            TrialState::Starting | TrialState::Vacating | TrialState::Leaving => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a state or an outcome is called in the table.
    fn name(trial: &Trial, step: &Step) -> &'static str {
        match (step, trial.state()) {
            (Step::Fit, _) => "Fit",
            (Step::Failed(_), _) => "Failed",
            (Step::On, TrialState::Vacating) => "Vacating",
            (Step::On, TrialState::Starting) => "Starting",
            (Step::On, TrialState::Baking { .. }) => "Baking",
            (Step::On, TrialState::Leaving) => "Leaving",
        }
    }

    fn in_state(state: &str, bake: Duration, now: Instant) -> Trial {
        let judge = Judge::new().min_requests(1);
        let mut trial = Trial::new(Release::new(1), bake, judge, None);
        if state != "Vacating" {
            trial.begin(WorkerId::new(0, 2));
        }
        if state == "Baking" || state == "Leaving" {
            assert_eq!(trial.handle_ready(now, Vec::new()), Step::On);
        }
        if state == "Leaving" {
            trial.handle_leaving();
        }
        assert_eq!(name(&trial, &Step::On), state);
        trial
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn every_pair_of_the_table_is_as_it_says() {
        let now = Instant::now();
        let lines = include_str!("trial.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows: Vec<_> = lines.filter(|line| !line.starts_with("--")).map(cells).collect();
        let (head, rows) = rows.split_first().unwrap();
        let mut pairs = 0;
        for row in rows {
            for (input, cell) in head.iter().zip(row).skip(1).filter(|(input, _)| !input.is_empty()) {
                let state = row[0].as_str();
                // The one state that is not reached without a bake time.
                let bake =
                    if input == "ready, no bake" && state != "Baking" && state != "Leaving" { 0 } else { 9 };
                let mut trial = in_state(state, Duration::from_secs(bake), now);
                let step = match input.as_str() {
                    "begin" => {
                        trial.begin(WorkerId::new(0, 2));
                        Step::On
                    }
                    "ready" | "ready, no bake" => trial.handle_ready(now, Vec::new()),
                    "bake over" => trial.handle_timeout(now + Duration::from_secs(9)),
                    "bad" => trial.handle_figures(Figures::new(9, 9), |_| None),
                    "leaves" => {
                        trial.handle_leaving();
                        Step::On
                    }
                    "ended" => trial.handle_ended(Exit::Code(1), ExitCause::Crash),
                    _ => panic!("unknown input {input}"),
                };
                let expected = if cell == "-" { state } else { cell.split(' ').next().unwrap() };
                assert_eq!(name(&trial, &step), expected, "{input} in {state}");
                assert_eq!(
                    trial.deadline().is_some(),
                    trial.state() != TrialState::Starting && name(&trial, &Step::On) == "Baking"
                );
                pairs += 1;
            }
        }
        assert_eq!(pairs, 4 * 7);
    }
}
