//! The published state, and the one that is worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::log::{Kind, Log};
use super::points::{Behind, Points};
use super::range::Range;
use super::tree::{Bounds, Tree, is_before, range_of};
use super::{Held, Newest};
use crate::{Cursor, Entry, Key};

/// What the handles have in common.
pub(super) type Shared = Arc<ArcSwap<State>>;

/// Changes until the tree is made anew: one for so many keys, but at least and at most so many. Many share more of the
/// work; but then it takes longer in one go, as does whoever goes through a view, who has to put the last ones in order.
const KEYS_PER_CHANGE: usize = 8;
const FEWEST_CHANGES: usize = 32;
const MOST_CHANGES: usize = 1024;

/// And bytes of values that were overwritten, or may be: a log keeps all of them.
const MOST_BYTES: usize = 1 << 20;

/// All keys and what is under them, for reading in order.
#[derive(Clone)]
struct Ordered {
    tree: Tree,
    /// What was changed since the tree was made; so many are of this state, the others newer.
    log: Arc<Log>,
    logged: usize,
    /// Bytes of the values among these.
    bytes: usize,
    /// How many keys there are.
    len: usize,
}

/// The map as it was after one revision. Nobody changes it, except that `points` runs ahead of it.
pub(super) struct State {
    pub(super) cursor: Cursor,
    ordered: Ordered,
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
            Err(then) => then(self.ordered.get(key, self.points.place(key).hash())),
        }
    }

    /// What is within bounds, in order, as long as it begins so. (What does not may come, too.)
    pub(super) fn range<'a>(&'a self, bounds: Bounds<'a>, prefix: &[u8]) -> Range<'a> {
        self.ordered.range(bounds, prefix)
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.len
    }
}

impl Ordered {
    fn new() -> Self {
        Self {
            tree: Tree::new(),
            log: Arc::new(Log::with_capacity(FEWEST_CHANGES, Kind::AsWritten)),
            logged: 0,
            bytes: 0,
            len: 0,
        }
    }

    fn get(&self, key: &[u8], hash: u64) -> Option<&Held> {
        match self.log.find(self.logged, hash, key) {
            Some(change) => change.held.as_ref(),
            None => self.tree.get(key),
        }
    }

    fn range<'a>(&'a self, bounds: Bounds<'a>, prefix: &[u8]) -> Range<'a> {
        self.log.look_through();
        let (from, to) = bounds;
        let within = |key: &[u8]| is_before(key, to) && key.starts_with(prefix);
        Range::new(self.tree.range(bounds), &self.log, self.logged, from, within)
    }

    fn set(&mut self, key: &Key, hash: u64, held: Option<Held>) {
        let bytes = held.as_ref().map_or(0, |held| held.value.len());
        if self.logged > 0 && self.bytes + bytes > MOST_BYTES {
            self.fold();
        }
        if let Err(held) = self.log.push(self.logged, hash, key, held) {
            self.fold();
            // It is empty now, and has room for some.
            let pushed = self.log.push(0, hash, key, held);
            debug_assert!(pushed.is_ok(), "an empty log takes a change");
        }
        self.logged += 1;
        self.bytes += bytes;
    }

    /// Makes the tree anew, with all changes, and begins another log. Former states keep theirs.
    fn fold(&mut self) {
        self.tree = self.tree.changed(&self.log.newest(self.logged, Bound::Unbounded, |_| true));
        let capacity = (self.len / KEYS_PER_CHANGE).clamp(FEWEST_CHANGES, MOST_CHANGES);
        self.log = Arc::new(Log::with_capacity(capacity, self.log.next_kind()));
        self.logged = 0;
        self.bytes = 0;
    }
}

/// What the writer works on: the next state.
pub(super) struct Draft {
    ordered: Ordered,
    /// All there is, as long as every key came after those before it: as in a snapshot. Then `ordered` is empty but for
    /// its length.
    run: Vec<(Key, Held)>,
    points: Arc<Points>,
    /// What the tables of `points` have not got yet, because readers were in them: the keys of each.
    behind: BTreeMap<usize, BTreeSet<Key>>,
}

impl Draft {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            ordered: Ordered::new(),
            run: Vec::new(),
            points: Arc::new(Points::with_capacity(entries)),
            behind: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        if self.run.is_empty() {
            return self.ordered.get(key, self.points.place(key).hash());
        }
        let place = self.run.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.run.get(place).map(|(_, held)| held)
    }

    /// What is within bounds, in order, as long as it begins so. (What does not may come, too.)
    pub(super) fn range<'a>(&'a self, bounds: Bounds<'a>, prefix: &[u8]) -> Range<'a> {
        if self.run.is_empty() {
            return self.ordered.range(bounds, prefix);
        }
        Range::new(range_of(&self.run, bounds), &self.ordered.log, 0, Bound::Unbounded, |_| false)
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
            self.get(key).cloned()
        });
        match (&previous, &entry) {
            (None, None) => return None,
            (None, Some(_)) => self.ordered.len += 1,
            (Some(_), None) => self.ordered.len -= 1,
            (Some(_), Some(_)) => {}
        }
        match entry {
            Some(entry) if self.goes_on(key) => self.run.push((key.clone(), entry)),
            entry => {
                self.end_run();
                self.ordered.set(key, place.hash(), entry);
            }
        }
        previous
    }

    /// Whether there is nothing but a run, and the key comes after it.
    fn goes_on(&self, key: &Key) -> bool {
        match self.run.last() {
            Some((last, _)) => last < key,
            None => self.ordered.logged == 0 && self.ordered.tree.is_empty(),
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.ordered.tree = Tree::from_sorted(mem::take(&mut self.run));
        }
    }

    /// The state that is to be published at `cursor`. What the tables missed, they get now if they can.
    pub(super) fn state(&mut self, cursor: Cursor, newest: Option<Arc<dyn Newest>>) -> State {
        self.end_run();
        let (points, ordered) = (&self.points, &self.ordered);
        self.behind.retain(|shard, keys| {
            let newest = |key: &Key| ordered.get(key, points.place(key).hash()).cloned();
            points.catch_up(*shard, keys.iter(), cursor.revision.get(), newest).is_err()
        });
        State { cursor, ordered: self.ordered.clone(), points: Arc::clone(&self.points), newest }
    }

    /// All that it holds, for one who frees it. The tables stay as they are: they may be others' too.
    pub(super) fn into_state(mut self, cursor: Cursor) -> State {
        self.end_run();
        State { cursor, ordered: self.ordered, points: self.points, newest: None }
    }
}
