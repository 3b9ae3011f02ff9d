//! What follows the end of a slot's worker: another at once, another later, or none any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Next, Owed, Slot, SlotState, Want};
use crate::roll::TrialState;
use crate::status::{GiveUpReason, GivenUp};
use crate::worker::Ended;
use crate::{Exit, ExitCause, Restart, WorkerId};

impl Slot {
    /// Decides what follows the end of a worker.
    pub(crate) fn handle_exit(&mut self, ended: Ended, now: Instant, rng: &mut fastrand::Rng) -> Next {
        let policy = Arc::clone(&self.policy);
        let Ended { id, exit, cause, ready_for } = ended;
        if id != self.own() {
            // A predecessor, whose service was counted when it was replaced, or a successor that came to nothing.
            return Next::Nothing;
        }
        let owed = std::mem::take(&mut self.owed);
        if std::mem::take(&mut self.marked) {
            self.serve(ready_for.unwrap_or_default());
            return Next::Hold(self.next_generation());
        }
        match self.trial.as_ref().map(|trial| (trial.state(), trial.successor())) {
            Some((TrialState::Vacating, _)) => {
                self.serve(ready_for.unwrap_or_default());
                let id = self.next_generation();
                if let Some(trial) = &mut self.trial {
                    trial.begin(id);
                }
                return Next::Spawn(id);
            }
            Some((_, Some(successor))) if successor != id => {
                return self.handle_exit_beside(ended, successor);
            }
            _ => {}
        }
        if owed == Owed::AtOnce && self.want == Want::Up {
            return Next::Spawn(self.next_generation());
        }
        if self.want == Want::Up && policy.hopeless.contains(exit) {
            return self.give_up(GivenUp { id, reason: GiveUpReason::ExitCode, exit, cause });
        }
        let is_owed = owed != Owed::Nothing;
        let restart = if is_owed { Restart::Always } else { policy.restart };
        match (self.want, restart, policy.success.contains(exit)) {
            (Want::Down, Restart::Always | Restart::OnFailure | Restart::Never, _)
            | (Want::Up, Restart::Never, _)
            | (Want::Up, Restart::OnFailure, true) => {
                self.vacate();
                return Next::Nothing;
            }
            (Want::Up, Restart::OnFailure, false) | (Want::Up, Restart::Always, _) => {}
        }
        // Also for one that has left by itself: if it does so again and again, its successors shall not come ever faster.
        self.count_failure(ready_for);
        if cause == ExitCause::Left {
            self.intensity.serve(ready_for.unwrap_or_default());
        } else if let Some(next) = self.spend(ended) {
            return next;
        }
        self.restarts = self.restarts.saturating_add(1);
        let delay = policy.backoff.after_failure(self.failures, rng);
        if delay.is_zero() {
            return Next::Spawn(self.next_generation());
        }
        self.wait(delay, now);
        Next::Wait { slot: self.number, delay, failures: self.failures }
    }

    /// Its own worker has ended while a successor is on its way, which comes to its place.
    ///
    /// A crash counts as ever, or replacing it would be a way around the budget; but not against another release.
    fn handle_exit_beside(&mut self, ended: Ended, successor: WorkerId) -> Next {
        let Ended { id, exit, cause, ready_for } = ended;
        let is_same = self.trial.as_ref().is_some_and(|trial| trial.release == self.release);
        if is_same && self.has_failed(exit, cause) {
            if self.policy.hopeless.contains(exit) {
                return self.give_up(GivenUp { id, reason: GiveUpReason::ExitCode, exit, cause });
            }
            self.count_failure(ready_for);
            if let Some(next) = self.spend(ended) {
                return next;
            }
            self.restarts = self.restarts.saturating_add(1);
        } else {
            self.serve(ready_for.unwrap_or_default());
        }
        self.own = successor.generation();
        Next::Nothing
    }

    /// Whether a worker that ended so has failed: a server's work is never done, a job's may be.
    pub(crate) fn has_failed(&self, exit: Exit, cause: ExitCause) -> bool {
        let is_meant = cause.is_asked() || cause == ExitCause::Left;
        !is_meant && (self.policy.restart == Restart::Always || !self.policy.success.contains(exit))
    }

    /// One more in a row, or the first after a stable run.
    fn count_failure(&mut self, ready_for: Option<Duration>) {
        if ready_for.is_some_and(|ready_for| ready_for >= self.policy.stable_after) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Takes a restart from the budget. Returns what follows if there is none left.
    fn spend(&mut self, ended: Ended) -> Option<Next> {
        let Ended { id, exit, cause, ready_for } = ended;
        let budget = self.policy.budget;
        let used = self.intensity.spend(budget, ready_for.unwrap_or_default()).err()?;
        let reason = GiveUpReason::Budget { failures: used.saturating_add(1), period: budget.period() };
        Some(self.give_up(GivenUp { id, reason, exit, cause }))
    }

    fn give_up(&mut self, given_up: GivenUp) -> Next {
        self.want = Want::Down;
        self.state = SlotState::GaveUp(given_up.clone());
        Next::GiveUp(given_up)
    }
}
