//! Watching: who is told of which changes, in order, without gaps.

mod index;
mod notice;
mod part;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use thiserror::Error;

use crate::faults::{self, Fault};
use crate::{Commit, Cursor, Key, KeyRange, Revision, View};
use index::{Index, places};
pub use notice::{Batch, Notice, WatchEvent};
use part::Part;
use queue::Queue;

/// Names a watcher. Never repeats for the same [`Watchers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// Which keys to watch, from where, and what to do if the watcher is slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    range: KeyRange,
    start: Start,
    overflow: Overflow,
    capacity: usize,
}

/// From where to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// What changes from now on.
    Now,
    /// What is there, and then what changes.
    Present,
    /// What changed after that: all of it, or a [`Notice::Gap`].
    After(Cursor),
}

/// What to do if the watcher does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Several changes of a key become one; all that waits becomes one batch, which leads from one consistent
    /// state to another. Never more than one event per key waits.
    Coalesce,
    /// What waits is dropped; the watcher is told ([`Notice::Lagged`]), and then what is there.
    Tell,
}

impl Watch {
    /// Watches these keys from now on; coalesces when more than 1,024 events wait.
    pub const fn new(range: KeyRange) -> Self {
        Self { range, start: Start::Now, overflow: Overflow::Coalesce, capacity: 1024 }
    }

    /// Watches from there. Default [`Start::Now`].
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// What to do if the watcher is slow. Default [`Overflow::Coalesce`].
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// How many events may wait before that is done. Default 1,024.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }
}

/// How much is kept for watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchLimits {
    /// How many watchers there may be. Default 65,536.
    pub watchers: usize,
    /// How many commits are kept for those who start after a revision. Default 4,096.
    pub history_entries: usize,
    /// Bytes of those: keys and values, replaced values included, and some 240 beside each. Default 4 MiB.
    pub history_bytes: usize,
}

impl WatchLimits {
    /// The defaults.
    pub const fn new() -> Self {
        Self { watchers: 1 << 16, history_entries: 4096, history_bytes: 4 << 20 }
    }

    /// Sets [`watchers`](Self::watchers).
    #[must_use]
    pub const fn watchers(self, watchers: usize) -> Self {
        Self { watchers, ..self }
    }

    /// Sets how many commits and how many bytes of them are kept.
    #[must_use]
    pub const fn history(self, entries: usize, bytes: usize) -> Self {
        Self { history_entries: entries, history_bytes: bytes, ..self }
    }
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// There are as many watchers as there may be ([`WatchLimits::watchers`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there are {limit} watchers, as many as there may be")]
pub struct TooManyWatchers {
    limit: usize,
}

/// All watchers of one state, and what waits for them.
///
/// Feed it every commit, in order, with the previous entries filled in ([`handle_commit`](Self::handle_commit));
/// after that ask [`poll_ready`](Self::poll_ready) whom to wake, and let those call [`next`](Self::next) until it
/// returns `None`. The state that is handed to `next` must be the one just after the last commit that was fed.
///
/// What each watcher is told, folded in order, is always the state as of some revision: changes of one
/// revision come together, none is left out without a word ([`Notice::Gap`], [`Notice::Lagged`],
/// [`Notice::Resynchronised`] are those words), none comes twice.
///
/// A commit costs the same however many watchers there are of other keys.
#[derive(Debug)]
pub struct Watchers {
    limits: WatchLimits,
    at: Cursor,
    watchers: BTreeMap<WatchId, Queue>,
    index: Index,
    issued: u64,
    ready: VecDeque<WatchId>,
    /// The last commits, dense, up to `at`.
    history: VecDeque<Arc<Commit>>,
    history_bytes: usize,
}

impl Watchers {
    /// No watchers, of a state as of there.
    pub fn new(at: Cursor, limits: WatchLimits) -> Self {
        Self {
            limits,
            at,
            watchers: BTreeMap::new(),
            index: Index::default(),
            issued: 0,
            ready: VecDeque::new(),
            history: VecDeque::new(),
            history_bytes: 0,
        }
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// The oldest revision that is still kept: who has seen all before it can start without a gap.
    pub fn oldest(&self) -> Revision {
        self.history.front().map_or_else(|| self.at.revision.next(), |commit| commit.revision)
    }

    // Verbs.

    /// Watches.
    ///
    /// # Errors
    /// If there are too many watchers.
    pub fn watch(&mut self, watch: Watch) -> Result<WatchId, TooManyWatchers> {
        if self.watchers.len() >= self.limits.watchers {
            return Err(TooManyWatchers { limit: self.limits.watchers });
        }
        self.issued += 1;
        let id = WatchId(self.issued);
        let mut queue = Queue::new(watch.range.clone(), watch.overflow, watch.capacity);
        match watch.start {
            Start::Now => queue.skip_until(self.at.revision),
            Start::Present => queue.want_present(),
            Start::After(cursor) => {
                queue.skip_until(cursor.revision);
                if cursor.epoch != self.at.epoch || cursor.revision.next() < self.oldest() {
                    queue.tell_gap(self.oldest());
                } else {
                    for commit in &self.history {
                        let places = places(&commit.changes, &watch.range);
                        if !places.is_empty() {
                            queue.handle_changes(Part::new(commit, places, self.at.epoch));
                        }
                    }
                }
            }
        }
        self.index.insert(id, &watch.range);
        wake(id, &mut queue, &mut self.ready);
        self.watchers.insert(id, queue);
        Ok(id)
    }

    /// Watches no more. What waits is dropped. Unknown watchers are ignored.
    pub fn unwatch(&mut self, id: WatchId) {
        if let Some(queue) = self.watchers.remove(&id) {
            self.index.remove(id, queue.range());
            if queue.is_woken {
                self.ready.retain(|it| *it != id);
            }
        }
    }

    // Inputs.

    /// The next commit, with [`Change::previous`](crate::Change::previous) filled in.
    pub fn handle_commit(&mut self, commit: &Arc<Commit>) {
        self.at.revision = commit.revision;
        self.feed(commit);
        self.history_bytes += commit.size();
        self.history.push_back(Arc::clone(commit));
        while self.history.len() > self.limits.history_entries
            || self.history_bytes > self.limits.history_bytes
        {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.size();
        }
    }

    /// The state was replaced by another, as of that: `differences` are all changes from one to the other
    /// (see [`differences`]). What was in between is not known.
    pub fn handle_replaced(&mut self, at: Cursor, differences: Commit) {
        let from = self.at;
        self.at = at;
        self.history.clear();
        self.history_bytes = 0;
        for queue in self.watchers.values_mut() {
            queue.handle_replaced(from, at);
        }
        self.feed(&Arc::new(differences));
        for (id, queue) in &mut self.watchers {
            wake(*id, queue, &mut self.ready);
        }
    }

    // Polls.

    /// A watcher that has something to be told, each once until it has: wake it.
    pub fn poll_ready(&mut self) -> Option<WatchId> {
        loop {
            let id = self.ready.pop_front()?;
            if let Some(queue) = self.watchers.get_mut(&id) {
                queue.is_woken = faults::is(Fault::LostWakeup);
                return Some(id);
            }
        }
    }

    /// What the watcher is told next. Unknown watchers are told nothing.
    pub fn next(&mut self, id: WatchId, state: &impl View) -> Option<Notice> {
        self.watchers.get_mut(&id)?.next(self.at, state)
    }

    fn feed(&mut self, commit: &Arc<Commit>) {
        let Self { index, watchers, ready, at, .. } = self;
        index.each(&commit.changes, |concerned, places| {
            let part = Part::new(commit, places, at.epoch);
            for id in concerned {
                let Some(queue) = watchers.get_mut(id) else { continue };
                if faults::is(Fault::SplitTransaction) {
                    part.clone().split().for_each(|part| queue.handle_changes(part));
                } else {
                    queue.handle_changes(part.clone());
                }
                wake(*id, queue, ready);
            }
        });
    }
}

/// Puts it on the list of those to be woken, if it has something to be told.
fn wake(id: WatchId, queue: &mut Queue, ready: &mut VecDeque<WatchId>) {
    if queue.has_something() && !queue.is_woken {
        queue.is_woken = true;
        ready.push_back(id);
    }
}

/// All changes that lead from one state to another: as one commit of the revision of the other.
///
/// Within one epoch an entry is the same if it was last written by the same commit; otherwise the entries
/// are compared.
pub fn differences(old: &impl View, from: Option<Cursor>, new: &impl View, to: Cursor) -> Commit {
    use crate::{Change, ChangeKind};
    let same_epoch = from.is_some_and(|from| from.epoch == to.epoch);
    let mut changes = Vec::new();
    new.visit(&KeyRange::All, &mut |key: &Key, entry| {
        let previous = old.get(key);
        let is_same = match &previous {
            Some(previous) if same_epoch => {
                (previous.created, previous.modified) == (entry.created, entry.modified)
            }
            Some(previous) => previous == entry,
            None => false,
        };
        if !is_same {
            changes.push(Change {
                key: key.clone(),
                kind: ChangeKind::Put,
                entry: Some(entry.clone()),
                previous,
            });
        }
        true
    });
    old.visit(&KeyRange::All, &mut |key, entry| {
        if new.get(key).is_none() {
            changes.push(Change {
                key: key.clone(),
                kind: ChangeKind::Deleted,
                entry: None,
                previous: Some(entry.clone()),
            });
        }
        true
    });
    changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Commit { revision: to.revision, changes }
}
