//! What a commit changed, as far as it concerns a watcher.

use std::ops::Range;
use std::sync::Arc;

use super::notice::{Batch, WatchEvent};
use crate::{Change, Commit, Cursor, Epoch, Revision};

/// What a commit changed, as far as it concerns a watcher. Watchers of the same keys share it: a commit may be long,
/// and they may be many.
#[derive(Clone, Debug)]
pub(super) struct Part {
    commit: Arc<Commit>,
    places: Range<usize>,
    epoch: Epoch,
    /// When the oldest of what is there now was written. Earlier than the commit only in a difference between states.
    oldest: Revision,
    /// What was written up to here is left out.
    skip: Revision,
    /// How many events that leaves.
    pub(super) length: usize,
}

impl Part {
    /// These changes of the commit.
    pub(super) fn new(commit: &Arc<Commit>, places: Range<usize>, epoch: Epoch) -> Self {
        let changes = commit.changes.get(places.clone()).unwrap_or_default();
        let written = changes.iter().filter_map(|change| change.entry.as_ref()).map(|entry| entry.modified);
        let oldest = written.min().unwrap_or(commit.revision);
        let length = changes.len();
        if 2 * length >= commit.changes.len() {
            return Self { commit: Arc::clone(commit), places, epoch, oldest, skip: Revision::ZERO, length };
        }
        // Who waits for a few of many changes shall not keep all of them.
        let commit = Arc::new(Commit { revision: commit.revision, changes: changes.to_vec() });
        Self { commit, places: 0..length, epoch, oldest, skip: Revision::ZERO, length }
    }

    pub(super) fn revision(&self) -> Revision {
        self.commit.revision
    }

    pub(super) fn last(&self) -> Cursor {
        Cursor::new(self.epoch, self.commit.revision)
    }

    /// Leaves out what was written up to there: in the difference between two states there may be some.
    pub(super) fn skip(&mut self, until: Revision) {
        if until >= self.oldest {
            self.skip = until;
            self.length = self.changes().count();
        }
    }

    /// In the order of keys.
    pub(super) fn events(&self) -> impl Iterator<Item = WatchEvent> {
        self.changes().map(|change| WatchEvent {
            key: change.key.clone(),
            kind: change.kind,
            revision: change.entry.as_ref().map_or(self.commit.revision, |entry| entry.modified),
            entry: change.entry.clone(),
            previous: change.previous.clone(),
        })
    }

    pub(super) fn to_batch(&self) -> Batch {
        Batch { first: self.commit.revision, last: self.last(), events: self.events().collect() }
    }

    /// Each change by itself: a fault.
    pub(super) fn split(self) -> impl Iterator<Item = Self> {
        self.places.clone().map(move |place| Self { places: place..place + 1, length: 1, ..self.clone() })
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        let changes = self.commit.changes.get(self.places.clone()).unwrap_or_default();
        changes.iter().filter(|change| change.entry.as_ref().is_none_or(|entry| entry.modified > self.skip))
    }
}
