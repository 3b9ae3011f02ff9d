//! Changing the map, and publishing what was changed.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::reclaim::{Hook, Reclaim};
use super::state::{Draft, Shared};
use super::{Garbage, Newest, Reader};
use crate::{Cursor, Entry, Epoch, Key, KeyRange, Revision, State, View};

/// Changes the map: the [`State`] of a [`Replica`](crate::Replica) whose other threads read. There is one, and it waits
/// for no reader.
///
/// What is committed is seen by readers after the next [`publish`](Self::publish), whole. When the writer is dropped,
/// readers keep what was published last.
///
/// Readers of single keys tell by revisions what is too new for them. So within an epoch each commit must be of a higher
/// revision than the one before, and what is [`set`](State::set) must say the revision of its commit
/// ([`Entry::modified`]), as all does that a primary sends; a state that [takes the place](State::replace) of this one may be
/// of any.
pub struct Writer {
    shared: Shared,
    /// What the next state will be.
    draft: Draft,
    /// The newest commit in `draft`, published or not.
    cursor: Cursor,
    published: Cursor,
    /// Whether there are changes in `draft` that belong to no commit yet.
    is_torn: bool,
    /// Changes applied so far, and how many of them the published state has: what an old state costs to free.
    changes: u64,
    published_changes: u64,
    reclaim: Reclaim,
    newest: Option<Arc<dyn Newest>>,
    /// Whether readers don't know of that `newest` yet.
    is_newest_new: bool,
}

impl Writer {
    /// An empty map, and its first reader.
    pub fn new() -> (Self, Reader) {
        let writer = Self::empty(None);
        let reader = writer.reader();
        (writer, reader)
    }

    fn empty(hook: Option<Hook>) -> Self {
        let mut draft = Draft::with_capacity(0);
        let cursor = Cursor::new(Epoch::new(0), Revision::ZERO);
        let shared = Arc::new(ArcSwap::from_pointee(draft.state(cursor, None)));
        let reclaim = Reclaim::new(hook);
        Self {
            shared,
            draft,
            cursor,
            published: cursor,
            is_torn: false,
            changes: 0,
            published_changes: 0,
            reclaim,
            newest: None,
            is_newest_new: false,
        }
    }

    /// One more reader.
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Readers see all that was committed, from now on.
    ///
    /// In the middle of a commit it shows nothing: what went before is then published after it.
    pub fn publish(&mut self) {
        if (self.cursor != self.published || self.is_newest_new) && !self.is_torn {
            self.show();
        } else {
            self.reclaim.some(self.changes);
        }
    }

    /// From the next [`publish`](Self::publish) on, readers can tell whether there is something newer than what is published, by asking
    /// this; or no longer.
    pub fn set_newest(&mut self, newest: Option<Arc<dyn Newest>>) {
        self.newest = newest;
        self.is_newest_new = true;
    }

    /// What to do with a former state that takes long to free, once nobody sees it any more. Without a hook it is
    /// freed where it was found: here, in the middle of a write. A server will rather hand it to another thread.
    ///
    /// Called for replaced states, for those that a view held for thousands of changes, and for a snapshot that was
    /// dropped before it was whole; what a usual transaction leaves behind is freed with the next one.
    pub fn on_garbage(&mut self, hook: impl FnMut(Garbage) + Send + 'static) {
        self.reclaim.set_hook(Arc::new(Mutex::new(hook)));
    }

    /// Frees former states that are no longer viewed, and returns how many still are. Every call of
    /// [`publish`](Self::publish) frees some, also if there is nothing new; where it is seldom called, this should be.
    pub fn reclaim(&mut self) -> usize {
        self.reclaim.all(self.changes)
    }

    /// The newest commit, published or not.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.draft.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn show(&mut self) {
        self.is_newest_new = false;
        let state = Arc::new(self.draft.state(self.cursor, self.newest.clone()));
        let former = self.shared.swap(state);
        self.reclaim.retire(former, self.published_changes, self.changes);
        self.published = self.cursor;
        self.published_changes = self.changes;
    }
}

impl View for Writer {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.draft.get(key).map(|entry| Entry::clone(entry))
    }

    fn visit(&self, range: &KeyRange, visit: &mut dyn FnMut(&Key, &Entry) -> bool) {
        let Some(bounds) = range.bounds() else { return };
        let prefix: &[u8] = if let KeyRange::Prefix(prefix) = range { prefix } else { &[] };
        for (key, entry) in self.draft.range(bounds, prefix) {
            if !range.contains(key) || !visit(key, entry) {
                return;
            }
        }
    }
}

impl State for Writer {
    fn set(&mut self, key: &Key, entry: Option<Entry>) -> Option<Entry> {
        // Newer than all that is published, no newer than the next commit. (A state apart has no readers who care.)
        let revision = self.cursor.revision.next().get();
        self.changes = self.changes.saturating_add(1);
        self.is_torn = true;
        self.draft.set(key, entry, revision).map(Arc::unwrap_or_clone)
    }

    fn commit(&mut self, at: Cursor) {
        self.cursor = at;
        self.is_torn = false;
    }

    fn staging(&self) -> Self {
        Self::empty(self.reclaim.hook().cloned())
    }

    fn replace(&mut self, mut staged: Self, at: Cursor) {
        // The former state shares nothing with the new one: all of it goes.
        self.changes = self.changes.saturating_add(self.draft.len() as u64);
        // The draft goes first: who frees the former state later, on another thread perhaps, is to free it all.
        self.draft = mem::replace(&mut staged.draft, Draft::with_capacity(0));
        self.cursor = at;
        self.is_torn = false;
        // Also where this is the same place in the same history: what is there now is another state.
        self.show();
    }
}

/// What was built apart and came to nothing, because a connection broke, is dropped in the middle of other work.
impl Drop for Writer {
    fn drop(&mut self) {
        let changes = self.draft.len() as u64;
        if self.reclaim.hands_over(changes) {
            let draft = mem::replace(&mut self.draft, Draft::with_capacity(0));
            self.reclaim.discard(Arc::new(draft.into_state(self.cursor)), changes);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("cursor", &self.cursor)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
