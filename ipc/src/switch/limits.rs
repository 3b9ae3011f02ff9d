//! How much may wait in each of the switch's queues.

use tokio::sync::Semaphore;

use super::budget::Budget;
use crate::session::Window;

/// How much may wait among processes: in bytes, letters or calls, and descriptors, whichever is used up first.
///
/// Each process has its own, and nobody is told of them. Those of the [`Switch`](super::Switch) bound what workers can make the primary
/// keep, those of a [`Port`](super::Port) what the others can make a worker keep. Something larger than a place's bytes, though not
/// larger than [a message may be](crate::session::Config::max_message), takes the whole place: it goes in when nothing else is there.
///
/// | place | one for | default | when it is full |
/// |---|---|---|---|
/// | [`outbox`](Self::outbox) | each worker, in the primary | 16 MiB, 64 letters, 256 descriptors | the primary's own letters wait; those of other workers are refused: [`NotTaken`](crate::Error::NotTaken) |
/// | [`queue`](Self::queue) | each name with a handler | 16 MiB, 256 letters, 256 descriptors | nothing more is read from who sends the next |
/// | [`unhandled`](Self::unhandled) | all names without a handler | 4 MiB, 64 letters, 256 descriptors | the oldest are [lost](super::Port::lost) |
/// | [`calls`](Self::calls) | each process that asks | 16 MiB, 64 calls of each other process, 256 descriptors | the next call waits |
/// | [`answers`](Self::answers) | each worker that asks, in the primary | 64 MiB | the answer is dropped, and who asked is told: [`AnswerNotTaken`](crate::Error::AnswerNotTaken) |
///
/// ```
/// use cluster_ipc::session::Window;
/// use cluster_ipc::switch::{Limits, Switch};
///
/// let limits = Limits::new().outbox(Window { bytes: 1 << 20, messages: 1000, descriptors: 16 }).answers(4 << 20);
/// let switch: Switch<u32> = Switch::with_limits(limits);
/// # let _ = switch;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub(super) outbox: Window,
    pub(super) queue: Window,
    pub(super) unhandled: Window,
    pub(super) calls: Window,
    pub(super) answers: u64,
}

/// So many processes that use up their room may have it all at one that they ask.
const CALLERS: u64 = 4;

/// How many letters may wait in a place: at least one.
pub(super) fn capacity(most: Window) -> usize {
    usize::try_from(most.messages).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox: Window { bytes: 16 * MIB, messages: 64, descriptors: 256 },
            queue: Window { bytes: 16 * MIB, messages: 256, descriptors: 256 },
            unhandled: Window { bytes: 4 * MIB, messages: 64, descriptors: 256 },
            calls: Window { bytes: 16 * MIB, messages: 64, descriptors: 256 },
            answers: 64 * MIB,
        }
    }
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What may wait in the primary for one worker that has no room for it.
    #[must_use]
    pub fn outbox(mut self, most: Window) -> Self {
        self.outbox = most;
        self
    }

    /// What may wait here for one handler that is busy.
    #[must_use]
    pub fn queue(mut self, most: Window) -> Self {
        self.queue = most;
        self
    }

    /// What is kept here of the letters that nobody handles yet; of none more than of those in a [`queue`](Self::queue).
    #[must_use]
    pub fn unhandled(mut self, most: Window) -> Self {
        self.unhandled = most;
        self
    }

    /// What one process may have asked that is not answered: bytes and descriptors in all, calls of one other process. Of one that is
    /// asked, four times the bytes may be open in all, so that nobody who asks much keeps others from asking.
    ///
    /// A call that waits for room is in its [time](super::Port::timeout). Handlers that ask others in turn do so out of the same
    /// room: where it is used up by calls that wait for them, it is the time-out that ends it.
    #[must_use]
    pub fn calls(mut self, most: Window) -> Self {
        self.calls = most;
        self
    }

    /// How many bytes of answers may wait in the primary for one worker that does not read them.
    #[must_use]
    pub fn answers(mut self, bytes: u64) -> Self {
        self.answers = bytes;
        self
    }

    /// Room for what may be open at one process.
    pub(super) fn asked(&self) -> Budget {
        let Window { bytes, messages, descriptors } = self.calls;
        let (bytes, descriptors) = (bytes.saturating_mul(CALLERS), descriptors.saturating_mul(CALLERS));
        Budget::new(Window { bytes, messages, descriptors })
    }

    /// Room for answers; they carry no descriptors.
    pub(super) fn unread(&self) -> Budget {
        Budget::new(Window { bytes: self.answers, messages: 0, descriptors: 0 })
    }
}
