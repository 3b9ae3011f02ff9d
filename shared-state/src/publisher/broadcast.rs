//! What is said to all who listen at once.

use bytes::Bytes;

use crate::{History, Revision};

/// How far the history was broadcast.
#[derive(Debug)]
pub(super) struct Broadcast {
    /// The first of those that were broadcast one after the other, without a gap.
    from: Revision,
    /// The next.
    next: Revision,
}

impl Broadcast {
    pub(super) const fn new() -> Self {
        Self { from: Revision::ZERO.next(), next: Revision::ZERO.next() }
    }

    /// Whether everything from there on was broadcast or will be.
    pub(super) fn reaches(&self, revision: Revision) -> bool {
        self.from <= revision
    }

    /// Nobody listens: what is committed up to here is not broadcast.
    pub(super) const fn skip(&mut self, here: Revision) {
        self.from = here.next();
        self.next = here.next();
    }

    /// Which revision is to be broadcast next.
    pub(super) const fn next(&self) -> Revision {
        self.next
    }

    /// What is to be broadcast next, if there is something.
    pub(super) fn poll(&mut self, history: &History) -> Option<(Revision, Bytes)> {
        let message = history.message(self.next)?.clone();
        let revision = self.next;
        self.next = revision.next();
        Some((revision, message))
    }
}
