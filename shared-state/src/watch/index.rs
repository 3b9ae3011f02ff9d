//! Whom a key concerns, without asking everyone.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::slice;

use super::WatchId;
use crate::{Change, Key, KeyRange};

/// Watchers by what they watch. A look-up costs one hash for the key, and one for each length that prefixes
/// have; only watchers of ranges between two keys are asked one by one.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Key, Vec<WatchId>>,
    prefixes: HashMap<Key, Vec<WatchId>>,
    /// How many different prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
    ranges: BTreeMap<WatchId, KeyRange>,
}

impl Index {
    pub(super) fn insert(&mut self, id: WatchId, range: &KeyRange) {
        match range {
            KeyRange::Key(key) => self.keys.entry(key.clone()).or_default().push(id),
            KeyRange::Prefix(prefix) => self.insert_prefix(id, prefix.clone()),
            KeyRange::All => self.insert_prefix(id, Key::default()),
            KeyRange::Between(..) => {
                self.ranges.insert(id, range.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, id: WatchId, range: &KeyRange) {
        match range {
            KeyRange::Key(key) => {
                take_out(&mut self.keys, key, id);
            }
            KeyRange::Prefix(prefix) => self.remove_prefix(id, prefix),
            KeyRange::All => self.remove_prefix(id, &Key::default()),
            KeyRange::Between(..) => {
                self.ranges.remove(&id);
            }
        }
    }

    /// Calls for all watchers whom some of these changes concern: with those who watch the same, and where the
    /// changes are. Each watcher is called for once: keys are in order, so those of a watcher are side by side.
    pub(super) fn each(&self, changes: &[Change], mut found: impl FnMut(&[WatchId], Range<usize>)) {
        if !self.keys.is_empty() {
            for (place, change) in changes.iter().enumerate() {
                if let Some(watchers) = self.keys.get(&change.key) {
                    found(watchers, place..place + 1);
                }
            }
        }
        for length in self.lengths.keys() {
            let mut place = 0;
            for run in changes.chunk_by(|a, b| a.key.get(..*length) == b.key.get(..*length)) {
                let places = place..place + run.len();
                place = places.end;
                let prefix = run.first().and_then(|change| change.key.get(..*length));
                let watchers = prefix.and_then(|prefix| self.prefixes.get(prefix));
                if let Some(watchers) = watchers {
                    found(watchers, places);
                }
            }
        }
        for (id, range) in &self.ranges {
            let places = places(changes, range);
            if !places.is_empty() {
                found(slice::from_ref(id), places);
            }
        }
    }

    fn insert_prefix(&mut self, id: WatchId, prefix: Key) {
        let length = prefix.len();
        let watchers = self.prefixes.entry(prefix).or_default();
        if watchers.is_empty() {
            *self.lengths.entry(length).or_default() += 1;
        }
        watchers.push(id);
    }

    fn remove_prefix(&mut self, id: WatchId, prefix: &Key) {
        if take_out(&mut self.prefixes, prefix, id)
            && let Some(count) = self.lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }
}

/// Where the changes of these keys are.
pub(super) fn places(changes: &[Change], range: &KeyRange) -> Range<usize> {
    let from = match range {
        KeyRange::Key(first) | KeyRange::Prefix(first) | KeyRange::Between(first, _) => {
            changes.partition_point(|change| change.key < *first)
        }
        KeyRange::All => 0,
    };
    let rest = changes.get(from..).unwrap_or_default();
    from..from + rest.partition_point(|change| range.contains(&change.key))
}

/// Whether that was the last one.
fn take_out(map: &mut HashMap<Key, Vec<WatchId>>, key: &Key, id: WatchId) -> bool {
    let Some(watchers) = map.get_mut(key) else { return false };
    watchers.retain(|it| *it != id);
    let is_empty = watchers.is_empty();
    if is_empty {
        map.remove(key);
    }
    is_empty
}
