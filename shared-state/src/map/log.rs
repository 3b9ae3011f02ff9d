//! What was changed since the tree was last made, in the order in which it was.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::OnceLock;
use std::sync::atomic::{self, AtomicBool, AtomicU32};

use super::Held;
use super::tree::is_after;
use crate::Key;

/// Changes that are put in order together first.
const BLOCK: usize = 16;

/// A list that one thread appends to while others read what was there when they began to: a state has a length of it,
/// not a copy. Nobody locks anything, and what is there never moves.
pub(super) struct Log {
    changes: Box<[OnceLock<Change>]>,
    /// For each part of all hashes, one more than the place of the newest change; 0 is none.
    heads: Box<[AtomicU32]>,
    /// The places within each block, in the order of keys; then of each two blocks, of each four, up to all. Whatever
    /// the length of a list, some few of them are all of it but for the last changes. None, if nobody looks.
    orders: Box<[Box<[OnceLock<Order>]>]>,
    /// Whether somebody went through a view of this.
    is_looked_through: AtomicBool,
}

/// Whether changes are put in order as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InOrder,
    AsWritten,
}

/// Places of the newest change of each key, in the order of keys.
type Order = Box<[u16]>;

/// What became of a key.
pub(super) struct Change {
    pub(super) key: Key,
    /// What is there then; `None` if nothing is.
    pub(super) held: Option<Held>,
    /// The one before it with the same part of the hash, as in `heads`.
    older: u32,
}

impl Log {
    /// Of so many changes, which are some thousands at most.
    pub(super) fn with_capacity(capacity: usize, kind: Kind) -> Self {
        debug_assert!(u16::try_from(capacity).is_ok(), "places are short numbers");
        let spans = (0..).map(|level| BLOCK << level);
        let spans = spans.take_while(|span| *span <= capacity && kind == Kind::InOrder);
        Self {
            changes: (0..capacity).map(|_| OnceLock::new()).collect(),
            heads: (0..capacity.next_power_of_two()).map(|_| AtomicU32::new(0)).collect(),
            orders: spans.map(|span| (0..capacity / span).map(|_| OnceLock::new()).collect()).collect(),
            is_looked_through: AtomicBool::new(false),
        }
    }

    /// What the next one is to be. To put all changes in order costs each write as much as everything else that is done
    /// for it here; not to, each look through a view some microseconds.
    pub(super) fn next_kind(&self) -> Kind {
        if self.is_looked_through.load(atomic::Ordering::Relaxed) { Kind::InOrder } else { Kind::AsWritten }
    }

    /// Somebody goes through a view of it.
    pub(super) fn look_through(&self) {
        if !self.is_looked_through.load(atomic::Ordering::Relaxed) {
            self.is_looked_through.store(true, atomic::Ordering::Relaxed);
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
        let older = head.load(atomic::Ordering::Relaxed);
        if let Err(change) = change.set(Change { key: key.clone(), held, older }) {
            return Err(change.held);
        }
        // A reader who finds it through this finds it whole.
        head.store(len as u32 + 1, atomic::Ordering::Release);
        self.order(len + 1);
        Ok(())
    }

    /// The newest change of a key among the first `len`.
    pub(super) fn find(&self, len: usize, hash: u64, key: &[u8]) -> Option<&Change> {
        let mut next = self.head(hash)?.load(atomic::Ordering::Acquire);
        loop {
            let place = (next as usize).checked_sub(1)?;
            let change = self.changes.get(place)?.get()?;
            if place < len && *change.key == *key {
                return Some(change);
            }
            next = change.older;
        }
    }

    /// The newest change of each key among the first `len`, in the order of keys: from there on, as long as they are `within`.
    pub(super) fn newest(
        &self,
        len: usize,
        from: Bound<&[u8]>,
        within: impl Fn(&[u8]) -> bool,
    ) -> Vec<&Change> {
        let mut found = Vec::new();
        let (mut begin, mut lists) = (0, 0);
        for (level, blocks) in self.orders.iter().enumerate().rev() {
            let span = BLOCK << level;
            // Of each level it is one block at most: two are one of the next.
            let Some(order) = blocks.get(begin / span).filter(|_| len - begin >= span) else { continue };
            let Some(order) = order.get() else { continue };
            let first = order.partition_point(|place| {
                self.change(*place).is_none_or(|change| !is_after(&change.key, from))
            });
            let before = found.len();
            let changes = order.iter().skip(first).filter_map(|place| self.change(*place));
            found.extend(changes.take_while(|change| within(&change.key)).map(|change| (begin, change)));
            lists += usize::from(found.len() > before);
            begin += span;
        }
        for place in begin..len {
            let change = self.changes.get(place).and_then(OnceLock::get);
            let change = change.filter(|change| is_after(&change.key, from) && within(&change.key));
            found.extend(change.map(|change| (place, change)));
            lists += usize::from(change.is_some());
        }
        if lists > 1 {
            found.sort_unstable_by(|(a, one), (b, other)| one.key.cmp(&other.key).then(b.cmp(a)));
            found.dedup_by(|(_, later), (_, first)| later.key == first.key);
        }
        found.into_iter().map(|(_, change)| change).collect()
    }

    /// There are so many now.
    fn order(&self, len: usize) {
        if !len.is_multiple_of(BLOCK) || self.orders.is_empty() {
            return;
        }
        let mut places: Vec<u16> = (len - BLOCK..len).map(|place| place as u16).collect();
        places.sort_unstable_by(|a, b| self.compare(*a, *b).then(b.cmp(a)));
        places.dedup_by(|later, first| self.compare(*later, *first).is_eq());
        for (level, blocks) in self.orders.iter().enumerate() {
            let block = (len >> level) / BLOCK - 1;
            let Some(order) = blocks.get(block) else { return };
            let order = order.get_or_init(|| std::mem::take(&mut places).into_boxed_slice());
            // The second of two.
            let former = block.checked_sub(1).filter(|_| (len >> level).is_multiple_of(2 * BLOCK));
            let Some(former) = former.and_then(|former| blocks.get(former)?.get()) else { return };
            places = self.merge(former, order);
        }
    }

    fn merge(&self, older: &[u16], newer: &[u16]) -> Vec<u16> {
        let mut merged = Vec::with_capacity(older.len() + newer.len());
        let (mut older, mut newer) = (older.iter().peekable(), newer.iter().peekable());
        while let (Some(one), Some(other)) = (older.peek(), newer.peek()) {
            match self.compare(**one, **other) {
                Ordering::Less => merged.extend(older.next()),
                Ordering::Greater => merged.extend(newer.next()),
                Ordering::Equal => drop(older.next()),
            }
        }
        merged.extend(older.chain(newer));
        merged
    }

    fn compare(&self, one: u16, other: u16) -> Ordering {
        let key = |place| self.change(place).map(|change| &change.key);
        key(one).cmp(&key(other))
    }

    fn change(&self, place: u16) -> Option<&Change> {
        self.changes.get(usize::from(place))?.get()
    }

    fn head(&self, hash: u64) -> Option<&AtomicU32> {
        self.heads.get(hash as usize & (self.heads.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
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
        let log = Log::with_capacity(4, Kind::AsWritten);
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
    fn the_newest_change_of_each_key_counts_in_the_order_of_keys() {
        let mut rng = fastrand::Rng::with_seed(3);
        for kind in [Kind::InOrder, Kind::AsWritten] {
            let log = Log::with_capacity(100, kind);
            let mut told = vec![BTreeMap::new()];
            for len in 0..100_usize {
                let key = Key::from(format!("{:02}", rng.u8(..40)));
                let held = if rng.u8(..4) > 0 { held(len as u64) } else { None };
                assert!(log.push(len, rng.u64(..), &key, held.clone()).is_ok());
                let mut next = told[len].clone();
                next.insert(key, held);
                told.push(next);
            }
            // Also of lengths that are long past.
            for (len, told) in told.iter().enumerate() {
                for from in [Bound::Unbounded, Bound::Included(&b"07"[..]), Bound::Excluded(&b"07"[..])] {
                    let newest = log.newest(len, from, |key| key < &b"31"[..]);
                    let newest: Vec<_> = newest.iter().map(|change| (&change.key, &change.held)).collect();
                    let to = Bound::Excluded(&b"31"[..]);
                    assert_eq!(
                        newest,
                        told.range::<[u8], _>((from, to)).collect::<Vec<_>>(),
                        "{len} {from:?}"
                    );
                }
            }
        }
    }
}
