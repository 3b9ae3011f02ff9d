//! A watcher, which folds what it is told and holds it against what happened.

use std::collections::BTreeMap;
use std::rc::Rc;

use cluster_shared_state::{
    Batch, ChangeKind, Cursor, Key, KeyRange, Notice, Overflow, Revision, Start, Watch, WatchId,
};

use crate::model::{Held, Log, Map, Model, is_same, is_within};

/// With so much room nothing may be dropped or merged, however slow the watcher is.
const AMPLE: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Follower {
    /// Given by the watchers when it begins.
    pub(crate) id: Option<WatchId>,
    pub(crate) range: KeyRange,
    overflow: Overflow,
    capacity: usize,
    /// Takes what it is told only now and then.
    pub(crate) is_slow: bool,
    /// Was told that there is something.
    pub(crate) is_ready: bool,
    /// What it was told, folded, as of `at`.
    picture: Map,
    at: Option<Cursor>,
    next: Next,
    /// Events and notices of one turn, to see that what waits is bounded.
    turn: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// What is there.
    Present,
    /// That it cannot go on from where it wanted to.
    Gap,
    /// Changes, or that there is a gap, of which nothing was said yet.
    ChangesOrGap(Cursor),
    Changes,
    /// The difference to another state, if there is one.
    Difference,
}

impl Follower {
    pub(crate) fn draw(rng: &mut fastrand::Rng, range: KeyRange) -> (Self, Watch, Start) {
        let overflow = [Overflow::Coalesce, Overflow::Tell][rng.usize(..2)];
        let capacity = [0, 1, 3, 10, AMPLE, AMPLE][rng.usize(..6)];
        let watch = Watch::new(range.clone()).overflow(overflow).capacity(capacity);
        let follower = Self {
            id: None,
            range,
            overflow,
            capacity,
            is_slow: rng.bool(),
            is_ready: false,
            picture: Map::new(),
            at: None,
            next: Next::Changes,
            turn: (0, 0),
        };
        (follower, watch, [Start::Now, Start::Present][rng.usize(..2)])
    }

    /// Watches from there, on a side that is as of `host`.
    pub(crate) fn begin(&mut self, id: WatchId, start: Start, host: Option<Cursor>, model: &Model) {
        self.id = Some(id);
        match start {
            Start::Present => self.next = Next::Present,
            Start::After(from) => {
                let is_same_epoch = host.is_some_and(|host| host.epoch == from.epoch);
                self.next = if is_same_epoch { Next::ChangesOrGap(from) } else { Next::Gap };
                self.set(from, model);
            }
            _ => {
                if let Some(host) = host {
                    self.set(host, model);
                }
            }
        }
    }

    fn set(&mut self, at: Cursor, model: &Model) {
        self.at = Some(at);
        self.picture = self.seen(&model.logs[&at.epoch], at.revision);
    }

    fn seen(&self, log: &Log, at: Revision) -> Map {
        let mut map = log.state_at(at.get());
        map.retain(|key, _| is_within(&self.range, key));
        map
    }

    /// It is told that. `host` is what its side is as of.
    pub(crate) fn told(&mut self, notice: &Notice, host: Cursor, model: &Model) {
        self.turn.1 += 1;
        match notice {
            Notice::Present { at, entries } => {
                assert_eq!(
                    self.next,
                    Next::Present,
                    "what is there is told at the beginning or after a loss"
                );
                assert_eq!(*at, host, "what is there is told as of now");
                self.set(host, model);
                let same = entries.len() == self.picture.len()
                    && self.picture.iter().zip(entries).all(|(a, b)| *a.0 == b.0 && a.1.is(&b.1));
                assert!(same, "what is there: {entries:?}, not {:?}", self.picture);
                self.next = Next::Changes;
            }
            Notice::Changes(batch) => self.changed(batch, host, model),
            Notice::Lagged { from, to } => {
                assert_eq!(self.overflow, Overflow::Tell, "who coalesces loses nothing");
                assert!(self.capacity != AMPLE, "there was room for all");
                let is_changes =
                    matches!(self.next, Next::Changes | Next::Difference | Next::ChangesOrGap(_));
                assert!(is_changes, "lost changes when {:?} was to come", self.next);
                let is_after = |at: &Cursor, earlier: &Cursor| {
                    at.epoch != earlier.epoch || at.revision >= earlier.revision
                };
                assert!(is_after(to, from), "lost from {from:?} to {to:?}");
                let was_told =
                    self.at.is_some_and(|at| at.epoch == from.epoch && at.revision >= from.revision);
                assert!(!was_told, "lost what was told");
                assert!(is_after(&host, to), "lost what was not written yet");
                self.next = Next::Present;
            }
            Notice::Gap { oldest } => {
                match self.next {
                    Next::Gap => {}
                    Next::ChangesOrGap(from) => {
                        let is_gap = host.epoch != from.epoch || *oldest > from.revision.next();
                        assert!(is_gap, "there is no gap from {from} to {oldest}");
                    }
                    _ => panic!("a gap when {:?} was to come", self.next),
                }
                self.next = Next::Present;
            }
            Notice::Resynchronised { to, .. } => {
                assert!(
                    matches!(self.next, Next::Changes | Next::Difference | Next::ChangesOrGap(_)),
                    "another state when {:?} was to come",
                    self.next
                );
                assert!(to.epoch < host.epoch || to.revision <= host.revision, "{to} is not there yet");
                self.next = Next::Difference;
            }
            _ => panic!("an unknown notice"),
        }
    }

    fn changed(&mut self, batch: &Batch, host: Cursor, model: &Model) {
        self.turn.0 += batch.events.len();
        assert!(!batch.events.is_empty(), "changes without a change");
        assert!(batch.events.iter().is_sorted_by(|a, b| a.key < b.key), "keys in order, each once");
        assert!(batch.last.epoch < host.epoch || batch.last.revision <= host.revision, "not there yet");
        for event in &batch.events {
            assert!(is_within(&self.range, &event.key), "{} is not watched", event.key);
        }
        match (self.next, self.at) {
            (Next::Changes | Next::ChangesOrGap(_), Some(at)) => {
                self.check_exactly(batch, at, &model.logs[&at.epoch]);
            }
            (Next::Difference, _) => self.check_difference(batch, model),
            _ => panic!("changes when {:?} was to come: {batch:?}", self.next),
        }
        self.at = Some(batch.last);
        self.next = Next::Changes;
    }

    /// The batch leads from the picture to the state as of its end.
    fn check_difference(&mut self, batch: &Batch, model: &Model) {
        let after = self.seen(&model.logs[&batch.last.epoch], batch.last.revision);
        for event in &batch.events {
            let (key, picture, held) = (&event.key, self.picture.get(&event.key), after.get(&event.key));
            assert!(
                is_same(picture, event.previous.as_ref()),
                "{key}, when the state was replaced: was {:?}, not {picture:?}",
                event.previous
            );
            assert!(is_same(held, event.entry.as_ref()), "{key} is {held:?} at {}: {event:?}", batch.last);
            // Over two other epochs, what is merged may lead to where it began.
            let may_merge = self.overflow == Overflow::Coalesce && self.capacity != AMPLE;
            assert!(may_merge || event.entry != event.previous, "{key} did not change: {event:?}");
            self.set_key(key, held);
        }
        let is_like = self.picture.len() == after.len()
            && self.picture.iter().zip(&after).all(|(a, b)| a.0 == b.0 && a.1.is_like(b.1));
        assert!(is_like, "after {batch:?}: {:?}, not {after:?}", self.picture);
    }

    fn set_key(&mut self, key: &Key, held: Option<&Rc<Held>>) {
        match held {
            Some(held) => self.picture.insert(key.clone(), Rc::clone(held)),
            None => self.picture.remove(key),
        };
    }

    /// The batch is all that happened from one revision to another, and nothing else.
    fn check_exactly(&mut self, batch: &Batch, at: Cursor, log: &Log) {
        assert_eq!(batch.last.epoch, at.epoch, "another epoch without a word");
        assert!(batch.first > at.revision, "{} comes again after {at}", batch.first);
        let (mut net, mut revisions) = (BTreeMap::<&Key, (Option<&Rc<Held>>, ChangeKind, u64)>::new(), 0);
        for revision in at.revision.get() + 1..=batch.last.revision.get() {
            let changes = log.changes(revision).iter().filter(|it| is_within(&self.range, &it.key));
            let before = net.len();
            net.extend(changes.map(|it| (&it.key, (it.entry.as_ref(), it.kind, revision))));
            revisions += u32::from(net.len() > before);
        }
        if self.overflow == Overflow::Tell || self.capacity == AMPLE {
            assert_eq!((revisions, batch.is_coalesced()), (1, false), "revisions are told one by one");
        }
        // What was made and deleted in between is not told.
        net.retain(|key, (entry, ..)| entry.is_some() || self.picture.contains_key(*key));
        assert_eq!(batch.events.len(), net.len(), "{batch:?} is all there was after {at}: {net:?}");
        for (event, (key, (entry, kind, revision))) in batch.events.iter().zip(net) {
            let previous = self.picture.get(key);
            assert_eq!((&event.key, event.kind, event.revision.get()), (key, kind, revision), "{batch:?}");
            assert!(is_same(entry, event.entry.as_ref()), "{event:?} is {entry:?}");
            assert!(is_same(previous, event.previous.as_ref()), "{event:?} was {previous:?}");
            self.set_key(key, entry);
        }
    }

    /// Nothing waits for it, so its picture is that of its side.
    pub(crate) fn check_idle(&mut self, host: Cursor, state: &Map) {
        match self.next {
            Next::Changes | Next::Difference => {}
            Next::ChangesOrGap(from) => {
                if from.epoch != host.epoch || from.revision <= host.revision {
                    self.next = Next::Changes;
                }
            }
            Next::Present | Next::Gap => panic!("{:?} is not told", self.next),
        }
        if self.at.is_some_and(|at| at.epoch == host.epoch && at.revision > host.revision) {
            return;
        }
        let mut count = 0;
        for (key, held) in state.iter().filter(|(key, _)| is_within(&self.range, key)) {
            count += 1;
            let seen = self.picture.get(key);
            assert!(
                seen.is_some_and(|seen| seen.is_like(held)),
                "{self:?}: was not told of {key} = {held:?} at {host}"
            );
        }
        assert_eq!(self.picture.len(), count, "{self:?}: was not told of all that is gone at {host}");
        self.at = Some(host);
        self.next = Next::Changes;
    }

    pub(crate) const fn begin_turn(&mut self) {
        self.turn = (0, 0);
    }

    /// It took all there was at once. What waited was no more than it may.
    pub(crate) fn end_turn(&mut self) {
        let (events, notices) = self.turn;
        if self.capacity != AMPLE {
            let all = crate::ask::KEYS.len();
            assert!(events <= self.capacity.max(all), "{events} events waited, {} may", self.capacity);
            assert!(notices <= 2 * self.capacity.max(1) + 3, "{notices} notices waited");
        }
    }
}
