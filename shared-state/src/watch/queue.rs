//! What waits for one watcher.

use std::collections::{BTreeMap, VecDeque};

use super::Overflow;
use super::notice::{Batch, Notice, WatchEvent};
use super::part::Part;
use crate::faults::{self, Fault};
use crate::{Cursor, Entry, Key, KeyRange, Revision, View};

/// What waits for one watcher, in this order: a word of loss, the batches, what is merged.
#[derive(Debug)]
pub(super) struct Queue {
    range: KeyRange,
    overflow: Overflow,
    capacity: usize,
    /// What was written up to here is of no interest. (`None` is not revision zero: an empty state of another
    /// epoch is as of that, and all that vanished with it is of interest.)
    skip: Option<Revision>,
    word: Option<Word>,
    waiting: VecDeque<Waiting>,
    /// Events in `waiting`.
    events: usize,
    /// All that came since there was too much.
    merged: Option<Merged>,
    /// Whether it is on the list of those to be woken.
    pub(super) is_woken: bool,
}

/// What is said before anything else. While it is there nothing waits: what there is comes after it.
#[derive(Clone, Copy, Debug)]
enum Word {
    Gap { oldest: Revision },
    Lagged { from: Cursor, to: Cursor },
    Present,
}

#[derive(Debug)]
enum Waiting {
    Part(Part),
    Resynchronised { from: Cursor, to: Cursor },
}

/// Several batches as one: for each key what was there before the first and what is there after the last.
#[derive(Debug)]
struct Merged {
    first: Revision,
    last: Cursor,
    events: BTreeMap<Key, WatchEvent>,
    /// From where to where the state was replaced in between.
    resynchronised: Option<(Cursor, Cursor)>,
}

impl Queue {
    pub(super) const fn new(range: KeyRange, overflow: Overflow, capacity: usize) -> Self {
        Self {
            range,
            overflow,
            capacity,
            skip: None,
            word: None,
            waiting: VecDeque::new(),
            events: 0,
            merged: None,
            is_woken: false,
        }
    }

    pub(super) const fn range(&self) -> &KeyRange {
        &self.range
    }

    pub(super) fn skip_until(&mut self, revision: Revision) {
        self.skip = Some(revision);
    }

    pub(super) fn want_present(&mut self) {
        self.word = Some(Word::Present);
    }

    pub(super) fn tell_gap(&mut self, oldest: Revision) {
        self.word = Some(Word::Gap { oldest });
    }

    pub(super) fn has_something(&self) -> bool {
        self.word.is_some() || !self.waiting.is_empty() || self.merged.is_some()
    }

    /// What a commit changed of the keys that are watched.
    pub(super) fn handle_changes(&mut self, mut part: Part) {
        let revision = part.revision();
        if self.skip.is_some_and(|skip| revision <= skip) {
            return;
        }
        if let Some(skip) = self.skip {
            part.skip(skip);
        }
        if part.length == 0 {
            return;
        }
        match &mut self.word {
            Some(Word::Lagged { to, .. }) => return *to = part.last(),
            Some(_) => return,
            None => {}
        }
        self.push(part);
    }

    pub(super) fn handle_replaced(&mut self, from: Cursor, to: Cursor) {
        // Whether it wants to go on from what the old state had not reached, and whether the new one is past it.
        let is_ahead = self.skip.is_some_and(|skip| skip > from.revision);
        let is_past = from.epoch != to.epoch || self.skip.is_some_and(|skip| skip < to.revision);
        if from.epoch != to.epoch {
            // The revisions of another epoch begin anew.
            self.skip = None;
        }
        if self.word.is_some() {
            return;
        }
        if is_ahead {
            if is_past {
                // What led from there to the new state is not known: the difference begins earlier.
                self.tell_gap(to.revision.next());
            }
            return;
        }
        match &mut self.merged {
            Some(merged) => {
                let from = merged.resynchronised.map_or(from, |(from, _)| from);
                merged.resynchronised = Some((from, to));
                // The difference comes next, if there is one.
                merged.last = to;
            }
            None => {
                // Two in a row without anything between them are one: this must not grow.
                if let Some(Waiting::Resynchronised { to: last, .. }) = self.waiting.back_mut() {
                    *last = to;
                } else {
                    self.waiting.push_back(Waiting::Resynchronised { from, to });
                }
            }
        }
    }

    pub(super) fn next(&mut self, at: Cursor, state: &impl View) -> Option<Notice> {
        match self.word {
            Some(Word::Gap { oldest }) => {
                self.word = Some(Word::Present);
                return Some(Notice::Gap { oldest });
            }
            Some(Word::Lagged { from, to }) => {
                self.word = Some(Word::Present);
                return Some(Notice::Lagged { from, to });
            }
            Some(Word::Present) => {
                self.word = None;
                self.skip = Some(at.revision);
                return Some(Notice::Present { at, entries: self.present(state) });
            }
            None => {}
        }
        match self.waiting.pop_front() {
            Some(Waiting::Part(part)) => {
                self.events -= part.length;
                return Some(Notice::Changes(part.to_batch()));
            }
            Some(Waiting::Resynchronised { from, to }) => return Some(Notice::Resynchronised { from, to }),
            None => {}
        }
        let merged = self.merged.as_mut()?;
        if let Some((from, to)) = merged.resynchronised.take() {
            return Some(Notice::Resynchronised { from, to });
        }
        let Merged { first, last, events, .. } = self.merged.take()?;
        let events: Vec<_> = events.into_values().collect();
        (!events.is_empty()).then_some(Notice::Changes(Batch { first, last, events }))
    }

    fn present(&self, state: &impl View) -> Vec<(Key, Entry)> {
        let mut entries = Vec::new();
        state.visit(&self.range, &mut |key, entry| {
            entries.push((key.clone(), entry.clone()));
            true
        });
        entries
    }

    fn push(&mut self, part: Part) {
        if let Some(merged) = &mut self.merged {
            return merged.add(&part);
        }
        // By itself, one of any length has room: it is not to be split.
        if self.waiting.is_empty() || self.events + part.length <= self.capacity {
            self.events += part.length;
            return self.waiting.push_back(Waiting::Part(part));
        }
        match self.overflow {
            Overflow::Tell => {
                let first = self.waiting.iter().find_map(|waiting| match waiting {
                    Waiting::Part(part) => Some(part.last()),
                    Waiting::Resynchronised { .. } => None,
                });
                let from = first.unwrap_or_else(|| part.last());
                self.waiting.clear();
                self.events = 0;
                self.word = Some(Word::Lagged { from, to: part.last() });
            }
            Overflow::Coalesce => {
                let mut merged = Merged::new(&part);
                for waiting in self.waiting.drain(..) {
                    match waiting {
                        Waiting::Part(part) => merged.add(&part),
                        Waiting::Resynchronised { from, to } => {
                            let from = merged.resynchronised.map_or(from, |(from, _)| from);
                            merged.resynchronised = Some((from, to));
                        }
                    }
                }
                self.events = 0;
                merged.add(&part);
                self.merged = Some(merged);
            }
        }
    }
}

impl Merged {
    fn new(part: &Part) -> Self {
        Self { first: part.revision(), last: part.last(), events: BTreeMap::new(), resynchronised: None }
    }

    fn add(&mut self, part: &Part) {
        if self.events.is_empty() {
            self.first = part.revision();
        }
        self.last = part.last();
        for event in part.events() {
            if event.entry.is_none() && faults::is(Fault::CoalesceLosesDelete) {
                continue;
            }
            let previous = match self.events.get(&event.key) {
                Some(earlier) if !faults::is(Fault::WrongPrevious) => earlier.previous.clone(),
                _ => event.previous.clone(),
            };
            if previous.is_none() && event.entry.is_none() {
                // Made and deleted in between: nobody saw it.
                self.events.remove(&event.key);
            } else {
                self.events.insert(event.key.clone(), WatchEvent { previous, ..event });
            }
        }
    }
}
