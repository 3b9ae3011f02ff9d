//! Starting one more worker, changing what later ones are started with, signalling one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use cluster_supervisor::{Release, SlotView, WorkerId};
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};

use super::Core;
use super::releases::Pinned;
use super::roster::Snapshot;
use crate::event::{Event, Events};
use crate::{Error, Fork, Result, Settings};

/// A worker that is to be, for its handle: with its events from here on.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) id: WorkerId,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) events: Events,
}

/// What the workers of single slots are started with beside what all are.
#[derive(Debug, Default)]
pub(super) struct Forks(BTreeMap<u32, Fork>);

impl Forks {
    pub(super) fn set(&mut self, slot: u32, fork: Fork) {
        self.0.insert(slot, fork);
    }

    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.0.retain(|slot, _| is_wanted(*slot));
    }

    /// What a worker of this slot and release is started with.
    pub(super) fn settings(&self, slot: u32, pinned: &Pinned) -> Arc<Settings> {
        self.0
            .get(&slot)
            .map_or_else(|| Arc::clone(&pinned.settings), |fork| Arc::new(fork.0.over(&pinned.settings)))
    }
}

impl Core {
    pub(super) fn handle_fork(&mut self, fork: Fork, reply: oneshot::Sender<Forked>, now: Instant) {
        // Nobody would ask it to leave again. The reply is dropped, which says so.
        if self.stopping {
            return;
        }
        self.resting = false;
        let events = self.events.subscribe();
        let id = self.supervisor.start(now);
        self.forks.set(id.slot(), fork);
        let snapshot = self.registry.add(id);
        // Whoever asked may have stopped waiting.
        let _ = reply.send(Forked { id, snapshot, events });
    }

    /// Lets go of what workers were forked with whose slots nobody wants any more. One that was given up is wanted until it is stopped, which
    /// is no news of it.
    pub(super) fn forget_forks(&mut self) {
        let missed: BTreeSet<u32> =
            self.supervisor.slots().filter(SlotView::is_missed).map(|slot| slot.slot()).collect();
        self.forks.retain(|slot| missed.contains(&slot));
    }

    pub(super) fn handle_setup(&mut self, changes: &Settings) -> Result<Arc<Settings>> {
        let current = self.supervisor.release();
        let release = self.releases.change(current, changes)?;
        self.supervisor.set_release(release);
        if self.supervisor.current_roll().is_some() {
            let before = self.waiting.changed.take().map(|(_, before)| before).unwrap_or_default();
            self.waiting.changed = Some((release, changes.over(&before)));
        }
        self.forget_releases();
        Ok(self.announce_setup(release))
    }

    /// Makes known what workers are started with from now on.
    pub(super) fn announce_setup(&self, release: Release) -> Arc<Settings> {
        let settings = self.releases.get(release);
        let settings = settings.map_or_else(Arc::default, |pinned| Arc::clone(&pinned.settings));
        self.registry.roster().set_settings(Arc::clone(&settings));
        self.announce(Event::Setup(Arc::clone(&settings)));
        settings
    }

    /// Returns whether it lives.
    pub(super) fn handle_kill(&mut self, id: WorkerId, number: i32) -> Result<bool> {
        let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput);
        let signal = signal.map_err(Error::os("send that signal: there is none of this number"))?;
        let Some(link) = self.links.get_mut(&id) else { return Ok(false) };
        let is_there = link.body.signal(signal)?;
        if is_there {
            self.registry.note_kill(id, number);
        }
        Ok(is_there)
    }
}
