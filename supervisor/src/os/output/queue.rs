//! What waits for the sink, and what is dropped because it would wait too long. No I/O, no clock.
//!
//! | the child's share or the total | since when      | what to do with its output |
//! |--------------------------------|-----------------|----------------------------|
//! | has room                       | -               | Take                       |
//! | is full                        | < patience      | Wait: leave it in the pipe |
//! | is full                        | ≥ patience      | Drop: read and count it    |
//!
//! The sink takes all that waits at once. Then every share is empty, and where lines were dropped the next batch begins
//! with our word about that: after the lines before them and before those after them.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::{CaptureLimits, Piece, Stream};

/// Children that are gone and whose dropped lines are to be told: more than this are not remembered.
const MAX_GONE: usize = 1024;

/// A day: later than anybody looks.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The lines of all children that wait for the sink.
#[derive(Debug)]
pub(super) struct Queue<K> {
    limits: CaptureLimits,
    batch: Batch<K>,
    accounts: HashMap<K, Account>,
    /// How many of `accounts` are of children that are gone.
    gone: usize,
    dropped: u64,
}

/// What may be done with a child's output now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Read it and push it.
    Take,
    /// Leave it unread until then, or until the sink takes a batch.
    Wait(Instant),
    /// Read it and drop it.
    Drop,
}

/// One child's share of the queue.
#[derive(Debug, Default)]
struct Account {
    used: usize,
    full_since: Option<Instant>,
    /// Lines dropped and not told, for each stream.
    dropped: [u64; 2],
    is_gone: bool,
}

impl Account {
    fn tell<K: Copy>(&mut self, source: K, batch: &mut Batch<K>) {
        for stream in Stream::BOTH {
            let lines = mem::take(&mut self.dropped[stream.index()]);
            if lines > 0 {
                batch.push_dropped(source, stream, lines);
            }
        }
    }
}

impl<K: Copy + Eq + Hash> Queue<K> {
    pub(super) fn new(limits: CaptureLimits) -> Self {
        Self { limits, batch: Batch::new(), accounts: HashMap::new(), gone: 0, dropped: 0 }
    }

    /// Says what to do with a child's output before it is read.
    pub(super) fn admit(&mut self, source: K, now: Instant) -> Admission {
        let is_total_used = self.is_total_used();
        let account = self.accounts.entry(source).or_default();
        if account.used < self.limits.per_child && !is_total_used {
            return Admission::Take;
        }
        let since = *account.full_since.get_or_insert(now);
        match since.checked_add(self.limits.patience) {
            Some(until) if until <= now => Admission::Drop,
            Some(until) => Admission::Wait(until),
            // A patience without end: until the sink takes a batch, then.
            None => Admission::Wait(since + FAR),
        }
    }

    /// Says what to do with the last words of a child: they may exceed its share, for they say why it ended.
    ///
    /// What was dropped before them is told before them.
    pub(super) fn admit_last(&mut self, source: K) -> Admission {
        if self.is_total_used() {
            return Admission::Drop;
        }
        if let Some(account) = self.accounts.get_mut(&source) {
            account.tell(source, &mut self.batch);
        }
        Admission::Take
    }

    /// Adds a line of a child.
    pub(super) fn push(&mut self, source: K, stream: Stream, piece: Piece<'_>) {
        self.accounts.entry(source).or_default().used += Batch::<K>::cost(piece.text().len());
        self.batch.push(source, stream, piece);
    }

    /// Counts a line of a child that is dropped.
    pub(super) fn drop_line(&mut self, source: K, stream: Stream) {
        self.accounts.entry(source).or_default().dropped[stream.index()] += 1;
        self.dropped += 1;
    }

    /// Nothing more comes from a child. What was dropped of it is told with the next batch.
    pub(super) fn forget(&mut self, source: K) {
        let Some(account) = self.accounts.get_mut(&source) else { return };
        if account.dropped == [0, 0] || self.gone >= MAX_GONE {
            self.accounts.remove(&source);
        } else if !mem::replace(&mut account.is_gone, true) {
            self.gone += 1;
        }
    }

    /// Begins anew with a child that may have been here before.
    pub(super) fn welcome(&mut self, source: K) {
        let account = self.accounts.entry(source).or_default();
        if mem::replace(&mut account.is_gone, false) {
            self.gone -= 1;
        }
    }

    /// Takes all that waits, and goes on with `spare`, which must be empty.
    pub(super) fn take(&mut self, spare: Batch<K>) -> Batch<K> {
        let taken = mem::replace(&mut self.batch, spare);
        for (source, account) in &mut self.accounts {
            account.tell(*source, &mut self.batch);
            account.used = 0;
            account.full_since = None;
        }
        self.accounts.retain(|_, account| !account.is_gone);
        self.gone = 0;
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// How many lines were dropped since the beginning.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_total_used(&self) -> bool {
        self.batch.size() >= self.limits.total
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
