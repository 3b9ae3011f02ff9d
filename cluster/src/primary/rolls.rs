//! Replacing workers: what the user asks for, and what he is told of it.

use std::collections::BTreeMap;
use std::time::Instant;

use cluster_supervisor::{Event as Life, Figures, Release, Roll, RollOutcome, Unfit, WorkerId};
use tokio::sync::oneshot;

use super::Core;
use super::apply::chain;
use super::handle::{Anew, RollReport};
use crate::{Error, NotReplaced, Result, Settings};

/// Who waits to hear what came of it. Any of them may have stopped waiting.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// For the end of the roll that goes on.
    roll: Option<Reply<RollReport>>,
    new_executable: bool,
    /// What was changed while a roll goes on, and the release that this made.
    pub(super) changed: Option<(Release, Settings)>,
    /// For the successor of a worker.
    workers: BTreeMap<WorkerId, Vec<Reply<WorkerId>>>,
}

type Reply<T> = oneshot::Sender<Result<T>>;

impl Core {
    pub(super) fn handle_roll(
        &mut self,
        anew: Anew,
        reply: oneshot::Sender<Result<RollReport>>,
        now: Instant,
    ) {
        match self.begin_roll(anew, now) {
            Ok(new_executable) => {
                (self.waiting.roll, self.waiting.new_executable) = (Some(reply), new_executable);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// As if by a handle that nobody waits at.
    pub(super) fn handle_reload_signal(&mut self, now: Instant) {
        if let Err(error) = self.begin_roll(Anew::Yes, now) {
            tracing::error!(error = chain(&error), "the workers could not be replaced");
        }
    }

    /// Returns whether it is to another executable.
    fn begin_roll(&mut self, anew: Anew, now: Instant) -> Result<bool> {
        // Before anything is opened for it.
        if self.stopping {
            return Err(Error::Ended);
        }
        if let Some(id) = self.supervisor.current_roll() {
            return Err(Error::Roll(cluster_supervisor::RollRefused::Busy(id)));
        }
        let current = self.supervisor.release();
        let release = match anew {
            Anew::Yes => {
                self.releases.open_anew(current)?.or_else(|| self.is_behind(current).then_some(current))
            }
            Anew::No => None,
        };
        let roll: Roll = self.config.rolling.clone();
        let roll = match release {
            Some(release) => roll.release(release),
            // It has proved itself already.
            None => roll.canaries(0, std::time::Duration::ZERO),
        };
        self.supervisor.roll(roll, now).map_err(Error::Roll)?;
        Ok(release.is_some())
    }

    /// Whether there is a slot that runs something else: it was forked before the settings were changed.
    fn is_behind(&self, current: Release) -> bool {
        self.supervisor.slots().any(|slot| slot.is_missed() && slot.release() != current)
    }

    pub(super) fn handle_restart(&mut self, slot: u32, reply: Reply<WorkerId>, now: Instant) {
        let view = self.supervisor.slots().find(|view| view.slot() == slot);
        let Some(id) = view.and_then(|view| view.current()).filter(|_| !self.stopping) else {
            let error = Error::NotReplaced { slot, reason: NotReplaced::NoWorker };
            return drop(reply.send(Err(error)));
        };
        self.waiting.workers.entry(id).or_default().push(reply);
        self.supervisor.replace(id, now);
    }

    /// Tells whoever waits what came of it.
    pub(super) fn handle_roll_event(&mut self, event: &Life) {
        let is_replacing =
            |slot: u32| self.supervisor.slots().any(|view| view.slot() == slot && view.is_replacing());
        match event {
            Life::RollFinished { outcome, replaced, stranded, .. } => {
                self.change_again();
                if let Some(reply) = self.waiting.roll.take() {
                    let new_executable = self.waiting.new_executable;
                    let error = match outcome {
                        RollOutcome::Failed { id, reason: Unfit::SpawnFailed } => {
                            self.why_not_spawned(Some(*id))
                        }
                        _ => None,
                    };
                    let report = RollReport {
                        outcome: outcome.clone(),
                        replaced: *replaced,
                        stranded: *stranded,
                        error: error.map(|error| error.to_string()),
                        new_executable,
                    };
                    let _ = reply.send(Ok(report));
                }
            }
            Life::Replaced { new, .. } => self.answer(|id| id.slot() == new.slot(), &Ok(*new)),
            Life::ReplaceFailed { slot, reason, .. } => {
                // Whoever stays has not gone for what was said of it.
                let stays = self.links.iter_mut().filter(|(id, _)| id.slot() == *slot);
                stays.for_each(|(_, link)| link.reason = None);
                self.answer(|id| id.slot() == *slot, &Err(NotReplaced::Unfit(reason.clone())));
            }
            // Nobody is replaced who has gone, or who is not wanted.
            Life::Exited { id, .. } if !is_replacing(id.slot()) => {
                self.answer(|other| other == *id, &Err(NotReplaced::Gone));
            }
            Life::Stopped { slot } if !is_replacing(*slot) => {
                self.answer(|id| id.slot() == *slot, &Err(NotReplaced::Gone));
            }
            _ => {}
        }
    }

    /// A roll that completes makes its release that of later forks: what was changed while it went on is changed there too.
    fn change_again(&mut self) {
        let current = self.supervisor.release();
        let changed = self.waiting.changed.take().filter(|(release, _)| *release != current);
        let Some((_, changes)) = changed else { return };
        if let Err(error) = self.handle_setup(&changes) {
            tracing::error!(error = chain(&error), "settings that were changed during a roll are lost");
        }
    }

    fn answer(&mut self, whom: impl Fn(WorkerId) -> bool, result: &Result<WorkerId, NotReplaced>) {
        for (id, replies) in self.waiting.workers.extract_if(.., |id, _| whom(*id)) {
            for reply in replies {
                let slot = id.slot();
                let _ = reply.send(result.clone().map_err(|reason| Error::NotReplaced { slot, reason }));
            }
        }
    }

    /// Lets go of executables that nobody will run any more.
    pub(super) fn forget_releases(&mut self) {
        if self.releases.is_several() && self.supervisor.current_roll().is_none() {
            let wanted: std::collections::BTreeSet<Release> = self.supervisor.releases();
            self.releases.retain(&wanted);
        }
    }

    /// What the workers have answered, while somebody is judged by it.
    pub(super) fn report_figures(&mut self, now: Instant) {
        if self.supervisor.current_roll().is_none() {
            return;
        }
        let figures: Vec<_> = self.links.iter().map(|(id, link)| (*id, link.board.figures())).collect();
        for (id, figures) in figures {
            self.supervisor.handle_figures(id, Figures::new(figures.requests, figures.errors), now);
        }
    }

    /// One more worker, or one fewer; never none.
    pub(super) fn handle_step(&mut self, more: bool, now: Instant) {
        let wanted = self.supervisor.size();
        let wanted = if more { wanted.saturating_add(1) } else { wanted.saturating_sub(1).max(1) };
        if !self.stopping && !self.parting.is_under_way() {
            self.scale(wanted, now);
        }
    }

    /// Whoever comes to a slot that was given up and then not wanted has nothing of the one before.
    pub(super) fn scale(&mut self, workers: usize, now: Instant) {
        self.forget_forks();
        self.supervisor.scale(workers, now);
    }
}
