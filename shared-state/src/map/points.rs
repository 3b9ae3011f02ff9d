//! The half of the map that finds single keys: hash tables that are changed in place.
//!
//! Readers lock a table to look into it and the writer locks it to change it, but both only *try*. Who does not get the
//! lock goes another way: the reader asks the search tree of his state, the writer notes the key for later and marks
//! the table as stale. So nobody ever waits, and nobody reads what he should not.
//!
//! Tried before: papaya, without any lock. Its readers free what the writer retired, on their own time, and even
//! allocate when a table was resized; a reader preempted in the middle of a read came back to 13,000 objects to free.

use std::hash::BuildHasher;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::Held;
use crate::Key;

/// Enough that a lock that is held concerns few keys, and that neighbours of one cache line do not meet often. An
/// empty map takes 16 KiB.
const SHARDS: usize = 256;

/// No revision is missing.
const FRESH: u64 = u64::MAX;

pub(super) struct Points {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

/// One table. Aligned so that readers of one do not slow down those of the next.
#[repr(align(64))]
struct Shard {
    /// The first revision that is not in the table, because the lock was not to be had: whoever is there, or later,
    /// must look elsewhere. Set before that revision is published, so whoever is at it sees this.
    missing: AtomicU64,
    table: RwLock<Table>,
}

struct Table {
    slots: HashTable<(Key, Held)>,
    /// The newest revision that removed a key. Whoever is at an older one cannot tell here that a key is absent.
    removed: u64,
}

/// What the table of a key could not take, for now.
pub(super) struct Behind;

/// The place of a key.
#[derive(Clone, Copy)]
pub(super) struct Place {
    hash: u64,
    shard: usize,
}

impl Place {
    /// Which table it belongs to.
    pub(super) fn shard(self) -> usize {
        self.shard
    }

    /// The whole of it.
    pub(super) fn hash(self) -> u64 {
        self.hash
    }
}

impl Points {
    pub(super) fn with_capacity(entries: usize) -> Self {
        let capacity = entries.div_ceil(SHARDS);
        let shard = |_| Shard {
            missing: AtomicU64::new(FRESH),
            table: RwLock::new(Table { slots: HashTable::with_capacity(capacity), removed: 0 }),
        };
        Self { shards: (0..SHARDS).map(shard).collect(), hasher: RandomState::default() }
    }

    /// Where a key belongs. The table uses the highest and the lowest bits of the hash; this takes some in between.
    #[inline]
    pub(super) fn place(&self, key: &[u8]) -> Place {
        let hash = self.hasher.hash_one(key);
        Place { hash, shard: (hash >> 32) as usize % SHARDS }
    }

    /// Looks a key up as of `revision`. Gives `then` back if that cannot be told here.
    #[inline]
    pub(super) fn read<R, F>(&self, key: &[u8], revision: u64, then: F) -> Result<R, F>
    where
        F: FnOnce(Option<&Held>) -> R,
    {
        let place = self.place(key);
        let Some(shard) = self.shards.get(place.shard) else { return Err(then) };
        let Ok(table) = shard.table.try_read() else { return Err(then) };
        // The revision came with an Acquire load, after the store of `missing` that goes with it: Relaxed will do.
        if shard.missing.load(Ordering::Relaxed) <= revision {
            return Err(then);
        }
        match table.find(place, key) {
            // Written no later than our revision, and nothing newer is there: nothing came in between.
            Some(entry) if entry.modified.get() <= revision => Ok(then(Some(entry))),
            None if table.removed <= revision => Ok(then(None)),
            _ => Err(then),
        }
    }

    /// Puts an entry, and returns the one that was there.
    ///
    /// Fails, with nothing done, if the table is in use or already behind; then all is noted as missing from
    /// `revision` on.
    pub(super) fn put(
        &self,
        place: Place,
        key: &Key,
        revision: u64,
        entry: &Held,
    ) -> Result<Option<Held>, Behind> {
        self.change(place, revision, |table| table.insert(&self.hasher, place, key, Arc::clone(entry)))
    }

    /// Removes a key, and returns what was there. Fails as [`put`](Self::put) does.
    pub(super) fn remove(&self, place: Place, key: &Key, revision: u64) -> Result<Option<Held>, Behind> {
        self.change(place, revision, |table| table.remove(place, key, revision))
    }

    /// Makes up for what a table missed: `keys` are all that it missed, `newest` knows what is under them.
    pub(super) fn catch_up<'a>(
        &self,
        shard: usize,
        keys: impl Iterator<Item = &'a Key>,
        revision: u64,
        newest: impl Fn(&Key) -> Option<Held>,
    ) -> Result<(), Behind> {
        let shard = self.shards.get(shard).ok_or(Behind)?;
        let mut table = shard.table.try_write().map_err(|_| Behind)?;
        for key in keys {
            let place = self.place(key.as_ref());
            match newest(key) {
                Some(entry) => drop(table.insert(&self.hasher, place, key, entry)),
                None => {
                    table.remove(place, key, revision);
                    // Even if it was not in the table: it may have come and gone while the table was behind, and
                    // then a reader in between must not take its absence for granted. It went at this revision or
                    // before; to say it was this one costs him a search at most.
                    table.removed = revision;
                }
            }
        }
        // Still under the lock: whoever finds the table fresh finds it complete.
        shard.missing.store(FRESH, Ordering::Relaxed);
        Ok(())
    }

    fn change<R>(&self, place: Place, revision: u64, how: impl FnOnce(&mut Table) -> R) -> Result<R, Behind> {
        let shard = self.shards.get(place.shard).ok_or(Behind)?;
        // Only the writer stores to it, so it reads its own.
        let fresh = shard.missing.load(Ordering::Relaxed) == FRESH;
        match shard.table.try_write() {
            Ok(mut table) if fresh => Ok(how(&mut table)),
            _ => {
                // Publishing is a Release store: whoever is at this revision sees it.
                shard.missing.fetch_min(revision, Ordering::Relaxed);
                Err(Behind)
            }
        }
    }
}

impl Table {
    #[inline]
    fn find(&self, place: Place, key: &[u8]) -> Option<&Held> {
        self.slots.find(place.hash, |(other, _)| other.as_ref() == key).map(|(_, entry)| entry)
    }

    fn insert(&mut self, hasher: &RandomState, place: Place, key: &Key, entry: Held) -> Option<Held> {
        let rehash = |(key, _): &(Key, Held)| hasher.hash_one(key.as_ref());
        match self.slots.entry(place.hash, |(other, _)| other == key, rehash) {
            Slot::Occupied(mut slot) => Some(mem::replace(&mut slot.get_mut().1, entry)),
            Slot::Vacant(slot) => {
                slot.insert((key.clone(), entry));
                None
            }
        }
    }

    fn remove(&mut self, place: Place, key: &Key, revision: u64) -> Option<Held> {
        let slot = self.slots.find_entry(place.hash, |(other, _)| other == key).ok()?;
        let ((_, entry), _) = slot.remove();
        self.removed = revision;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Revision};

    fn entry(revision: u64) -> Held {
        Arc::new(Entry::new("v", Revision::new(revision)))
    }

    fn put(points: &Points, key: &Key, revision: u64) -> Result<Option<Held>, Behind> {
        points.put(points.place(key), key, revision, &entry(revision))
    }

    fn seen(points: &Points, key: &Key, revision: u64) -> Option<Option<u64>> {
        points.read(key, revision, |entry| entry.map(|entry| entry.modified.get())).ok()
    }

    #[test]
    fn whoever_is_older_than_an_entry_is_sent_elsewhere() {
        let (points, key) = (Points::with_capacity(0), Key::from("k"));
        assert_eq!(seen(&points, &key, 0), Some(None));
        assert!(put(&points, &key, 5).is_ok());
        assert_eq!((seen(&points, &key, 4), seen(&points, &key, 5)), (None, Some(Some(5))));
        assert!(points.remove(points.place(b"k"), &key, 8).is_ok());
        assert_eq!((seen(&points, &key, 7), seen(&points, &key, 8)), (None, Some(None)));
    }

    #[test]
    fn a_table_in_use_falls_behind_until_it_caught_up() {
        let (points, key) = (Points::with_capacity(0), Key::from("k"));
        assert!(put(&points, &key, 1).is_ok());
        let writes = points.read(b"k", 1, |_| {
            // In the middle of a read.
            (put(&points, &key, 2).is_err(), seen(&points, &key, 1), seen(&points, &key, 2))
        });
        assert_eq!(writes.ok(), Some((true, Some(Some(1)), None)));
        assert!(put(&points, &key, 3).is_err(), "what came first has not been done yet");
        assert_eq!((seen(&points, &key, 1), seen(&points, &key, 3)), (Some(Some(1)), None));
        let newest = |_: &Key| Some(entry(3));
        let shard = points.place(b"k").shard();
        assert!(points.catch_up(shard, [&key].into_iter(), 3, newest).is_ok());
        assert_eq!((seen(&points, &key, 1), seen(&points, &key, 3)), (None, Some(Some(3))));
    }

    #[test]
    fn a_key_that_came_and_went_while_its_table_was_behind_is_not_absent_for_those_in_between() {
        let (points, key) = (Points::with_capacity(0), Key::from("k"));
        let missed = points.read(b"k", 1, |_| put(&points, &key, 2).is_err());
        assert_eq!(missed.ok(), Some(true));
        // Removed at 3, in time for the table to catch up.
        assert!(points.catch_up(points.place(b"k").shard(), [&key].into_iter(), 3, |_| None).is_ok());
        assert_eq!((seen(&points, &key, 2), seen(&points, &key, 3)), (None, Some(None)));
    }

    #[test]
    fn a_shard_fills_one_cache_line() {
        assert_eq!(size_of::<Shard>(), 64);
    }
}
