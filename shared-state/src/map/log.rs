//! What was changed since the tree was last rebuilt, in the order in which it was.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Held;
use crate::Key;

/// A list that one thread appends to while others read what was there when they began to: a state has a length of it,
/// not a copy. Nobody locks anything, and what is there never moves.
pub(super) struct Log {
    changes: Box<[OnceLock<Change>]>,
    /// For each part of all hashes, one more than the place of the newest change; 0 is none.
    heads: Box<[AtomicU32]>,
}

/// What became of a key.
pub(super) struct Change {
    pub(super) key: Key,
    /// What is there then; `None` if nothing is.
    pub(super) held: Option<Held>,
    /// The one before it with the same part of the hash, as in `heads`.
    older: u32,
}

impl Log {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            changes: (0..capacity).map(|_| OnceLock::new()).collect(),
            heads: (0..capacity.next_power_of_two()).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Puts the next one, which is the one at `len`. Only the writer does. Gives it back if there is no room.
    pub(super) fn push(
        &self,
        len: usize,
        hash: u64,
        key: &Key,
        held: Option<Held>,
    ) -> Result<(), Option<Held>> {
        let (Some(change), Some(head)) = (self.changes.get(len), self.head(hash)) else { return Err(held) };
        let older = head.load(Ordering::Relaxed);
        if let Err(change) = change.set(Change { key: key.clone(), held, older }) {
            return Err(change.held);
        }
        // A reader who finds it through this finds it whole. The log is not so long that this would not fit.
        head.store(len as u32 + 1, Ordering::Release);
        Ok(())
    }

    /// The newest change of a key among the first `len`.
    pub(super) fn find(&self, len: usize, hash: u64, key: &[u8]) -> Option<&Change> {
        let mut next = self.head(hash)?.load(Ordering::Acquire);
        loop {
            let place = (next as usize).checked_sub(1)?;
            let change = self.changes.get(place)?.get()?;
            if place < len && *change.key == *key {
                return Some(change);
            }
            next = change.older;
        }
    }

    /// The first `len`, the oldest first.
    pub(super) fn iter(&self, len: usize) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.get(..len).unwrap_or_default().iter().filter_map(OnceLock::get)
    }

    fn head(&self, hash: u64) -> Option<&AtomicU32> {
        self.heads.get(hash as usize & (self.heads.len() - 1))
    }
}

/// The newest of each key among these, in the order of keys. They come with the oldest first.
pub(super) fn newest(changes: Vec<&Change>) -> Vec<&Change> {
    let mut order: Vec<_> = changes.into_iter().enumerate().collect();
    order.sort_unstable_by(|(a, one), (b, other)| one.key.cmp(&other.key).then(b.cmp(a)));
    order.dedup_by(|(_, later), (_, first)| later.key == first.key);
    order.into_iter().map(|(_, change)| change).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Entry, Revision};

    fn held(revision: u64) -> Option<Held> {
        Some(Arc::new(Entry::new("v", Revision::new(revision))))
    }

    fn found(log: &Log, len: usize, key: &str) -> Option<Option<u64>> {
        let change = log.find(len, 5, key.as_bytes())?;
        Some(change.held.as_ref().map(|entry| entry.modified.get()))
    }

    #[test]
    fn a_key_is_found_as_it_was_when_the_log_was_so_long() {
        let log = Log::with_capacity(4);
        // All of one hash: keys are compared, too.
        for (len, (key, held)) in
            [("a", held(1)), ("b", held(2)), ("a", None), ("a", held(4))].into_iter().enumerate()
        {
            assert!(log.push(len, 5, &Key::from(key), held).is_ok());
        }
        let seen: Vec<_> = (0..=4).map(|len| found(&log, len, "a")).collect();
        assert_eq!(seen, [None, Some(Some(1)), Some(Some(1)), Some(None), Some(Some(4))]);
        assert_eq!((found(&log, 1, "b"), found(&log, 2, "b")), (None, Some(Some(2))));
        assert_eq!(found(&log, 4, "c"), None);
        assert!(log.push(4, 5, &Key::from("d"), held(5)).is_err(), "it is full");
    }

    #[test]
    fn the_newest_change_of_each_key_counts() {
        let log = Log::with_capacity(8);
        for (len, key) in ["b", "a", "b", "c", "a"].into_iter().enumerate() {
            assert!(log.push(len, len as u64, &Key::from(key), held(len as u64)).is_ok());
        }
        let newest = newest(log.iter(5).collect());
        let told: Vec<_> = newest
            .iter()
            .map(|it| (it.key.to_string(), it.held.as_ref().map(|entry| entry.modified.get())))
            .collect();
        assert_eq!(told, [("a".into(), Some(4)), ("b".into(), Some(2)), ("c".into(), Some(3))]);
    }
}
