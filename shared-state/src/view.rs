//! The map itself, as replicas keep it: what can be read, and how it is changed.

use std::collections::BTreeMap;
use std::mem;

use crate::{Cursor, Entry, Key, KeyRange};

/// A state that can be read.
pub trait View {
    /// What is under the key.
    fn get(&self, key: &[u8]) -> Option<Entry>;

    /// All of these keys and what is under them, in the order of keys, until `visit` returns `false`.
    fn visit(&self, range: &KeyRange, visit: &mut dyn FnMut(&Key, &Entry) -> bool);
}

/// A state that a [`Replica`](crate::Replica) keeps up to date. `BTreeMap<Key, Entry>` is the plain one; one
/// that other threads read while it changes implements this, too.
///
/// The replica calls [`set`](Self::set) for each change of a commit and then [`commit`](Self::commit): readers
/// must see either none of those changes or all. A map that publishes by swapping a pointer may put that off
/// for several commits (one swap for all of them), but not past the moment at which completions, events and
/// notices of watchers are polled: who was told of a write must be able to read it.
pub trait State: View + Sized {
    /// Puts the entry under the key, or takes what is there away; returns what was there before.
    fn set(&mut self, key: &Key, entry: Option<Entry>) -> Option<Entry>;

    /// All changes since the last call are a whole, and the state is as of this commit.
    fn commit(&mut self, at: Cursor);

    /// An empty state, apart from this, into which a snapshot is built by [`set`](Self::set). Nobody reads it.
    fn staging(&self) -> Self;

    /// Readers see that state from now on, as of this commit, in one step.
    fn replace(&mut self, staged: Self, at: Cursor);
}

impl View for BTreeMap<Key, Entry> {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        Self::get(self, key).cloned()
    }

    fn visit(&self, range: &KeyRange, visit: &mut dyn FnMut(&Key, &Entry) -> bool) {
        let Some(bounds) = range.bounds() else { return };
        for (key, entry) in self.range::<[u8], _>(bounds) {
            if !range.contains(key) || !visit(key, entry) {
                return;
            }
        }
    }
}

impl State for BTreeMap<Key, Entry> {
    fn set(&mut self, key: &Key, entry: Option<Entry>) -> Option<Entry> {
        match entry {
            Some(entry) => self.insert(key.clone(), entry),
            None => self.remove(key),
        }
    }

    fn commit(&mut self, _: Cursor) {}

    fn staging(&self) -> Self {
        Self::new()
    }

    fn replace(&mut self, mut staged: Self, _: Cursor) {
        mem::swap(self, &mut staged);
    }
}
