//! The published state, and the one that is worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::points::{Behind, Points};
use super::{Held, Newest};
use crate::{Cursor, Entry, Key};

/// What the handles have in common.
pub(super) type Shared = Arc<ArcSwap<State>>;

/// The persistent half. Another tree would need `get`, `insert_mut`, `remove_mut`, `range`, `size` and a cheap `clone`.
pub(super) type Ordered = rpds::RedBlackTreeMapSync<Key, Held>;

/// The iterator of the tree.
pub(super) type RawRange<'a> = rpds::map::red_black_tree_map::RangeIter<
    'a,
    Key,
    Held,
    (Bound<&'a [u8]>, Bound<&'a [u8]>),
    [u8],
    archery::ArcTK,
>;

/// The map as it was after one revision. Nobody changes it, except that `points` runs ahead of it.
pub(super) struct State {
    pub(super) cursor: Cursor,
    pub(super) ordered: Ordered,
    /// One for all the states between two replacements.
    points: Arc<Points>,
    newest: Option<Arc<dyn Newest>>,
}

impl State {
    /// Whether it is known that there is something newer.
    #[inline]
    pub(super) fn is_outdated(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.newest() > self.cursor.revision)
    }

    /// Looks one key up, exactly as of this state.
    #[inline]
    pub(super) fn read<R>(&self, key: &[u8], then: impl FnOnce(Option<&Held>) -> R) -> R {
        match self.points.read(key, self.cursor.revision.get(), then) {
            Ok(done) => done,
            Err(then) => then(self.ordered.get(key)),
        }
    }

    pub(super) fn range<'a>(&'a self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> RawRange<'a> {
        range(&self.ordered, from, to)
    }
}

/// The entries within bounds, in order. Bounds that contain nothing give nothing; the tree itself would panic.
fn range<'a>(ordered: &'a Ordered, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> RawRange<'a> {
    let empty = match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    };
    let nothing: &[u8] = &[];
    let bounds = if empty { (Bound::Included(nothing), Bound::Excluded(nothing)) } else { (from, to) };
    ordered.range(bounds)
}

/// What the writer works on: the next state.
pub(super) struct Draft {
    ordered: Ordered,
    points: Arc<Points>,
    /// What the tables of `points` have not got yet, because readers were in them: the keys of each.
    behind: BTreeMap<usize, BTreeSet<Key>>,
}

impl Draft {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            ordered: Ordered::new_sync(),
            points: Arc::new(Points::with_capacity(entries)),
            behind: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.size()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        self.ordered.get(key)
    }

    pub(super) fn range<'a>(&'a self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> RawRange<'a> {
        range(&self.ordered, from, to)
    }

    /// Puts an entry under a key, or takes away what is there, and returns that. `revision` must be newer than all that
    /// is published: readers tell by it what they may not see yet.
    pub(super) fn set(&mut self, key: &Key, entry: Option<Entry>, revision: u64) -> Option<Held> {
        let place = self.points.place(key);
        let entry = entry.map(Arc::new);
        let done = match &entry {
            Some(entry) => self.points.put(place, key, revision, entry),
            None => self.points.remove(place, key, revision),
        };
        // A table that misses nothing has what the tree has, and finds it sooner.
        let previous = done.unwrap_or_else(|Behind| {
            self.behind.entry(place.shard()).or_default().insert(key.clone());
            self.ordered.get::<[u8]>(key).cloned()
        });
        if entry.is_none() && previous.is_none() {
            return None;
        }
        match entry {
            Some(entry) => self.ordered.insert_mut(key.clone(), entry),
            None => drop(self.ordered.remove_mut::<[u8]>(key)),
        }
        previous
    }

    /// The state that is to be published at `cursor`. What the tables missed, they get now if they can.
    pub(super) fn state(&mut self, cursor: Cursor, newest: Option<Arc<dyn Newest>>) -> State {
        let (points, ordered) = (&self.points, &self.ordered);
        self.behind.retain(|shard, keys| {
            let newest = |key: &Key| ordered.get::<[u8]>(key).cloned();
            points.catch_up(*shard, keys.iter(), cursor.revision.get(), newest).is_err()
        });
        State { cursor, ordered: self.ordered.clone(), points: Arc::clone(&self.points), newest }
    }

    /// All that it holds, for one who frees it. The tables stay as they are: they may be others' too.
    pub(super) fn into_state(self, cursor: Cursor) -> State {
        State { cursor, ordered: self.ordered, points: self.points, newest: None }
    }
}
