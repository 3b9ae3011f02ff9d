//! A tree in order, with what was changed since.

use std::iter::Peekable;
use std::ops::Bound;
use std::vec;

use super::Held;
use super::log::{Change, Log};
use super::tree;
use crate::Key;

/// Entries in the order of their keys.
pub(super) struct Range<'a> {
    tree: Peekable<tree::Range<'a>>,
    recent: Peekable<vec::IntoIter<&'a Change>>,
}

impl<'a> Range<'a> {
    /// What is left of the tree, and the first `len` changes since, from there on: as long as those are `within`.
    pub(super) fn new(
        tree: tree::Range<'a>,
        log: &'a Log,
        len: usize,
        from: Bound<&[u8]>,
        within: impl Fn(&[u8]) -> bool,
    ) -> Self {
        Self { tree: tree.peekable(), recent: log.newest(len, from, within).into_iter().peekable() }
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
