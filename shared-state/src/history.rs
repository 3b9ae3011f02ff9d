//! The last commits, as they are sent: for replicas that come back, and for those that are behind.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::{Packed, ToReplica};
use crate::{Commit, Revision};

/// The last commits, each encoded once. Whoever sends them has a place in here, not a copy of his own.
#[derive(Debug)]
pub struct History {
    /// Dense: the entry at `i` is revision `first + i`.
    entries: VecDeque<Logged>,
    /// The revision of the first entry, or of the next commit if there is none.
    first: Revision,
    /// Bytes of all that was ever pushed.
    pushed: u64,
    limit_entries: usize,
    limit_bytes: u64,
    packed: Packed,
}

/// About how much a commit takes beside its message: small ones are kept by the hundred thousand.
const OVERHEAD: u64 = 64;

#[derive(Debug)]
struct Logged {
    message: Bytes,
    /// Bytes of all that was pushed before it.
    offset: u64,
}

impl History {
    /// After this revision; keeps so many commits and so many [bytes](Self::bytes_from).
    pub fn new(after: Revision, entries: usize, bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: after.next(),
            pushed: 0,
            limit_entries: entries,
            limit_bytes: bytes as u64,
            packed: Packed::default(),
        }
    }

    /// The next commit. Revisions are dense, so it takes the place after the last.
    pub fn push(&mut self, commit: &Arc<Commit>) {
        debug_assert_eq!(commit.revision, self.next(), "commits come without gaps");
        let message = self.packed.encode(&ToReplica::Delta(Arc::clone(commit)));
        let offset = self.pushed;
        self.pushed += message.len() as u64 + OVERHEAD;
        self.entries.push_back(Logged { message, offset });
    }

    /// Forgets the oldest, until what is left is within the limits, but nothing from this revision on.
    pub fn trim(&mut self, needed: Option<Revision>) {
        while self.is_over() && needed.is_none_or(|needed| self.first < needed) {
            self.entries.pop_front();
            self.first = self.first.next();
        }
    }

    /// The message of this commit, if it is still there.
    pub fn message(&self, revision: Revision) -> Option<&Bytes> {
        self.place(revision).map(|logged| &logged.message)
    }

    /// The oldest revision that is still there, or the next if none is.
    pub const fn oldest(&self) -> Revision {
        self.first
    }

    /// How many bytes there are from this revision on, if it is still there or the next. Each commit counts as 64
    /// more than its message has.
    pub fn bytes_from(&self, revision: Revision) -> Option<u64> {
        if revision == self.next() {
            return Some(0);
        }
        self.place(revision).map(|logged| self.pushed - logged.offset)
    }

    /// How many commits there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn next(&self) -> Revision {
        Revision::new(self.first.get() + self.entries.len() as u64)
    }

    fn place(&self, revision: Revision) -> Option<&Logged> {
        let place = revision.get().checked_sub(self.first.get())?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    fn is_over(&self) -> bool {
        self.entries.len() > self.limit_entries
            || self.entries.front().is_some_and(|oldest| self.pushed - oldest.offset > self.limit_bytes)
    }
}
