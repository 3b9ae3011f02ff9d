//! Whom a key concerns, without asking everyone.

use std::collections::{BTreeMap, HashMap};

use super::WatchId;
use crate::{Key, KeyRange};

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

    /// Calls for each watcher of the key, in no order.
    pub(super) fn each(&self, key: &Key, mut found: impl FnMut(WatchId)) {
        self.keys.get(key).into_iter().flatten().copied().for_each(&mut found);
        for length in self.lengths.keys() {
            let Some(prefix) = key.get(..*length) else { break };
            self.prefixes.get(prefix).into_iter().flatten().copied().for_each(&mut found);
        }
        self.ranges.iter().filter(|(_, range)| range.contains(key)).for_each(|(id, _)| found(*id));
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
