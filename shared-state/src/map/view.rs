//! One state, for as long as wanted.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::Held;
use super::range;
use super::state::State;
use crate::{Cursor, Key, KeyRange};

/// The whole state as it was after one revision, and stays. Cheap to take and to clone.
///
/// May be held for as long as wanted: it keeps the replica from nothing, but what it shows stays in memory.
/// Dropping it frees nothing on this thread as long as the replica lives.
#[derive(Clone)]
pub struct View {
    pub(super) state: Arc<State>,
}

impl View {
    /// Whether it is known that there is something newer ([`Writer::set_newest`](super::Writer::set_newest)).
    pub fn is_outdated(&self) -> bool {
        self.state.is_outdated()
    }

    /// What is under the key.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Held> {
        self.state.read(key.as_ref(), |entry| entry.cloned())
    }

    /// Everything, in the order of keys.
    pub fn iter(&self) -> Range<'_> {
        self.prefix(b"")
    }

    /// These keys and what is under them, in the order of keys.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> Range<'a> {
        let empty: &[u8] = &[];
        let (from, to) = range.bounds().unwrap_or((Bound::Included(empty), Bound::Excluded(empty)));
        let prefix: &[u8] = if let KeyRange::Prefix(prefix) = range { prefix } else { &[] };
        Range { entries: self.state.range((from, to), prefix), prefix }
    }

    /// The entries whose keys begin with these bytes, in the order of keys.
    pub fn prefix<'a>(&'a self, prefix: &'a [u8]) -> Range<'a> {
        let bounds = (Bound::Included(prefix), Bound::Unbounded);
        Range { entries: self.state.range(bounds, prefix), prefix }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is as of.
    #[inline]
    pub fn cursor(&self) -> Cursor {
        self.state.cursor
    }
}

impl<'a> IntoIterator for &'a View {
    type Item = (&'a Key, &'a Held);
    type IntoIter = Range<'a>;

    fn into_iter(self) -> Range<'a> {
        self.iter()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("cursor", &self.cursor()).field("len", &self.len()).finish()
    }
}

/// Entries of a [`View`] in the order of their keys.
pub struct Range<'a> {
    entries: range::Range<'a>,
    // Kept instead of an upper bound, which would have to be computed into a buffer.
    prefix: &'a [u8],
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a Key, &'a Held);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().filter(|(key, _)| key.starts_with(self.prefix))
    }
}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").finish_non_exhaustive()
    }
}
