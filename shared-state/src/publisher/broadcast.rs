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
    /// Bytes of all that was broadcast.
    bytes: u64,
}

/// How far it was, when somebody was woken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Woken {
    next: Revision,
    bytes: u64,
}

/// So many commits, or bytes of them, wait for those who read: little enough that a read which takes them in is no slower than a
/// wake-up would have been, and that none are overwritten meanwhile.
const COMMITS_UNHEARD: u64 = 16;
const BYTES_UNHEARD: u64 = 64 << 10;

impl Broadcast {
    pub(super) const fn new() -> Self {
        Self { from: Revision::ZERO.next(), next: Revision::ZERO.next(), bytes: 0 }
    }

    /// Whether everything from there on was broadcast or will be.
    pub(super) fn reaches(&self, revision: Revision) -> bool {
        self.from <= revision
    }

    /// What is committed up to here is not broadcast: nobody listens, or it is too late.
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
        self.bytes += message.len() as u64;
        Some((revision, message))
    }

    /// Where it is now, for one who is woken now.
    pub(super) const fn here(&self) -> Woken {
        Woken { next: self.next, bytes: self.bytes }
    }

    /// Whether one who was woken then has to be again: if there is anything new, or only if there is much.
    pub(super) fn has_news_since(&self, woken: Woken, is_anything: bool) -> bool {
        let commits = self.next.get().saturating_sub(woken.next.get());
        commits > 0
            && (is_anything || commits >= COMMITS_UNHEARD || self.bytes - woken.bytes >= BYTES_UNHEARD)
    }
}
