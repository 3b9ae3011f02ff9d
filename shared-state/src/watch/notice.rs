//! What a watcher is told.

use serde::{Deserialize, Serialize};

use crate::{ChangeKind, Cursor, Entry, Key, Revision};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Notice {
    /// What is there, as of this revision, in the order of keys: instead of all that was told before.
    Present {
        /// As of when.
        at: Cursor,
        /// The keys that are watched, and what is under them.
        entries: Vec<(Key, Entry)>,
    },
    /// What changed.
    Changes(Batch),
    /// The watcher was too slow, and these revisions were dropped. [`Present`](Self::Present) follows.
    Lagged {
        /// The first commit that was dropped.
        from: Cursor,
        /// The last one, so far.
        to: Cursor,
    },
    /// What the watcher wanted to go on from is no longer kept (or is of another epoch).
    /// [`Present`](Self::Present) follows.
    Gap {
        /// The oldest revision that is kept.
        oldest: Revision,
    },
    /// The state was replaced by another; what was written in between is not known. The difference follows as
    /// [`Changes`](Self::Changes), if there is one.
    Resynchronised {
        /// As of when the state was.
        from: Cursor,
        /// As of when it is.
        to: Cursor,
    },
}

/// Changes that belong together: those of one revision, or (coalesced, or after a resynchronisation) the
/// difference between two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    /// The first revision that is in it.
    pub first: Revision,
    /// The last: after this batch, the watcher's picture is as of here, and it can go on from here.
    pub last: Cursor,
    /// What changed, in the order of keys, each key at most once. Never empty.
    pub events: Vec<WatchEvent>,
}

impl Batch {
    /// Whether several revisions became one.
    pub fn is_coalesced(&self) -> bool {
        self.first != self.last.revision
    }
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchEvent {
    /// Which key.
    pub key: Key,
    /// What happened to it last.
    pub kind: ChangeKind,
    /// The revision of that.
    pub revision: Revision,
    /// What is there now.
    pub entry: Option<Entry>,
    /// What was there before.
    pub previous: Option<Entry>,
}
