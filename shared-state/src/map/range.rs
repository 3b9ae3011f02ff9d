//! A tree in order, with what was changed since.

use std::iter::Peekable;
use std::vec;

use super::Held;
use super::log::{Change, Log, newest};
use super::tree::{self, Bounds, is_after, is_before};
use crate::Key;

/// Entries in the order of their keys.
pub(super) struct Range<'a> {
    tree: Peekable<tree::Range<'a>>,
    recent: Peekable<vec::IntoIter<&'a Change>>,
}

impl<'a> Range<'a> {
    /// What is within bounds, of the tree and of the first `len` changes since.
    pub(super) fn new(tree: tree::Range<'a>, log: &'a Log, len: usize, (from, to): Bounds<'_>) -> Self {
        let changes =
            log.iter(len).filter(|change| is_after(&change.key, from) && is_before(&change.key, to));
        Self { tree: tree.peekable(), recent: newest(changes.collect()).into_iter().peekable() }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a Key, &'a Held);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while let Some(change) = self.recent.peek() {
            match self.tree.peek() {
                Some((key, _)) if **key < change.key => return self.tree.next(),
                Some((key, _)) if **key == change.key => drop(self.tree.next()),
                _ => {}
            }
            if let Some(Change { key, held: Some(held), .. }) = self.recent.next() {
                return Some((key, held));
            }
        }
        self.tree.next()
    }
}
