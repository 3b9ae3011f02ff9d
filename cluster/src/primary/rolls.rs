//! Replacing workers: what the user asks for, and what he is told of it.

use std::time::Instant;

use cluster_supervisor::{Event as Life, Figures, Release, Roll};
use tokio::sync::oneshot;

use super::Core;
use super::handle::{Anew, RollReport};
use crate::{Error, Result};

/// Who waits for the end of a roll.
#[derive(Debug)]
pub(super) struct Waiting {
    reply: oneshot::Sender<Result<RollReport>>,
    new_executable: bool,
}

impl Core {
    pub(super) fn handle_roll(
        &mut self,
        anew: Anew,
        reply: oneshot::Sender<Result<RollReport>>,
        now: Instant,
    ) {
        match self.begin_roll(anew, now) {
            Ok(new_executable) => self.waiting = Some(Waiting { reply, new_executable }),
            // Whoever asked may have stopped waiting.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// As if by a handle that nobody waits at.
    pub(super) fn handle_reload_signal(&mut self, now: Instant) {
        if let Err(error) = self.begin_roll(Anew::Yes, now) {
            tracing::error!(%error, "the workers could not be replaced");
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
        let release = match anew {
            Anew::Yes => self.cradle.releases.open_anew(self.supervisor.release())?,
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

    /// Tells whoever waits for it how a roll ended.
    pub(super) fn handle_roll_event(&mut self, event: &Life) {
        let Life::RollFinished { outcome, replaced, .. } = event else { return };
        if let Some(Waiting { reply, new_executable }) = self.waiting.take() {
            let report = RollReport { outcome: outcome.clone(), replaced: *replaced, new_executable };
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Ok(report));
        }
    }

    /// Lets go of executables that nobody will run any more.
    pub(super) fn forget_releases(&mut self) {
        if self.cradle.releases.is_several() && self.supervisor.current_roll().is_none() {
            let wanted: std::collections::BTreeSet<Release> = self.supervisor.releases();
            self.cradle.releases.retain(&wanted);
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
        let wanted = self.supervisor.slots().filter(|slot| slot.is_wanted()).count();
        let wanted = if more { wanted.saturating_add(1) } else { wanted.saturating_sub(1).max(1) };
        if !self.stopping {
            self.supervisor.scale(wanted, now);
        }
    }
}
