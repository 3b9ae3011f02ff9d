//! What a write changed.

use serde::{Deserialize, Serialize};

use crate::{Entry, Key, Revision};

/// All that one command, one transaction, one expiry changed: it takes one revision, and is seen whole or
/// not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Commit {
    /// Its place in the order of all writes.
    pub revision: Revision,
    /// What changed, by key, each key at most once.
    pub changes: Vec<Change>,
}

impl Commit {
    /// About how many bytes it takes: keys and values, those it replaced included, and what is beside them.
    pub(crate) fn size(&self) -> usize {
        let of = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        self.changes
            .iter()
            .map(|it| size_of::<Change>() + it.key.len() + of(&it.entry) + of(&it.previous))
            .sum()
    }
}

/// What became of one key. It carries the whole resulting entry, so applying it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What is there now; `None` if nothing is.
    pub entry: Option<Entry>,
    /// What was there just before. It does not travel: each side takes it from its own state as it applies
    /// the change, and until then it is `None`.
    #[serde(skip)]
    pub previous: Option<Entry>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was written.
    Put,
    /// A command deleted it.
    Deleted,
    /// Its time to live was over.
    Expired,
    /// Its lease was revoked or not kept alive, or its owner is gone.
    LeaseGone,
}
