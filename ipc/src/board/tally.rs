//! How many connections a worker has taken, and how many of them it is done with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::word::Word;

/// The words in shared memory. A connection counts in `taken` first.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Tally<A = AtomicU64> {
    taken: A,
    finished: A,
}

impl<A: Word<u64>> Tally<A> {
    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::SeqCst);
    }

    /// `(taken, finished)`. `finished` is read first: the difference may be too high for a moment, never too low.
    pub(super) fn read(&self) -> (u64, u64) {
        let finished = self.finished.load(Ordering::SeqCst);
        (self.taken.load(Ordering::SeqCst), finished)
    }
}
