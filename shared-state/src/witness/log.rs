//! All commits of a run, in order.

use crate::{Change, Commit, Cursor, Entry, Epoch, Key, Notice, Revision};

/// All commits of a run, in order, as a watcher of the primary's own was told of them (all keys, from the
/// beginning, never merged).
///
/// ```
/// use std::time::Instant;
/// use cluster_shared_state::witness::Log;
/// use cluster_shared_state::{Command, Epoch, KeyRange, Overflow, Publisher, PublisherConfig, Watch};
///
/// let mut primary = Publisher::new(Epoch::new(1), PublisherConfig::new());
/// let all = Watch::new(KeyRange::All).overflow(Overflow::Tell).capacity(usize::MAX);
/// let watch = primary.watch(all).expect("it is the first");
/// primary.execute(Command::put("key", "value"), Instant::now()).expect("it is short");
///
/// let mut log = Log::new();
/// log.begin(Epoch::new(1));
/// while let Some(notice) = primary.poll_notice(watch) {
///     log.handle_notice(&notice);
/// }
/// assert_eq!(log.len(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub(super) eras: Vec<Era>,
}

/// The commits of one epoch.
#[derive(Clone, Debug)]
pub(super) struct Era {
    pub(super) epoch: Epoch,
    /// Where it begins.
    pub(super) base: Revision,
    /// What there was then.
    pub(super) entries: Vec<(Key, Entry)>,
    /// What came then.
    pub(super) commits: Vec<Commit>,
    /// Whether its end may be missing.
    pub(super) is_cut: bool,
}

impl Log {
    /// An empty one.
    pub const fn new() -> Self {
        Self { eras: Vec::new() }
    }

    /// How many commits there are.
    pub fn len(&self) -> usize {
        self.eras.iter().map(|era| era.commits.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A primary begins with nothing, in this epoch.
    pub fn begin(&mut self, epoch: Epoch) {
        self.begin_at(Cursor::new(epoch, Revision::ZERO), Vec::new());
    }

    /// What follows begins there, where there is this.
    pub fn begin_at(&mut self, at: Cursor, entries: Vec<(Key, Entry)>) {
        let (epoch, base) = (at.epoch, at.revision);
        self.eras.push(Era { epoch, base, entries, commits: Vec::new(), is_cut: false });
    }

    /// The next commit of this epoch.
    pub fn push(&mut self, epoch: Epoch, commit: Commit) {
        if self.eras.last().is_none_or(|era| era.epoch != epoch) {
            self.begin(epoch);
        }
        if let Some(era) = self.eras.last_mut() {
            era.commits.push(commit);
        }
    }

    /// The end of the present epoch may be missing: whoever wrote the log was killed.
    pub fn cut_short(&mut self) {
        if let Some(era) = self.eras.last_mut() {
            era.is_cut = true;
        }
    }

    /// What a watcher of all keys was told. If it was told of a loss, the log has a hole, and is judged up to
    /// there.
    pub fn handle_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Present { at, entries } => {
                if self.eras.last().is_none_or(|era| era.epoch != at.epoch || era.commits.is_empty()) {
                    self.eras.retain(|era| era.epoch != at.epoch);
                    self.begin_at(*at, entries.clone());
                }
            }
            Notice::Changes(batch) => {
                let changes = batch.events.iter().map(|event| Change {
                    key: event.key.clone(),
                    kind: event.kind,
                    entry: event.entry.clone(),
                    previous: event.previous.clone(),
                });
                let commit = Commit { revision: batch.last.revision, changes: changes.collect() };
                self.push(batch.last.epoch, commit);
            }
            Notice::Lagged { .. } | Notice::Gap { .. } | Notice::Resynchronised { .. } => self.cut_short(),
        }
    }
}
