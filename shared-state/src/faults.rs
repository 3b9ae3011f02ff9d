//! Faults to be planted by tests, to see whether the tests find them.
//!
//! With the feature `test-faults` a test chooses one for its thread; without it, `is` is a constant and all
//! of this is gone.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not a part of the public interface")]
pub enum Fault {
    /// The primary leaves out a delta.
    DropDelta,
    /// A replica takes a delta, and forgets what it changes.
    ForgetDelta,
    /// An answer goes before its delta, and is believed.
    ReplyBeforeDelta,
    /// A key that is overwritten keeps its old time to live, too.
    TtlSurvives,
    /// What belongs to a client that is gone stays.
    LeaseOutlivesOwner,
    /// A client that comes anew is taken for the one before.
    IncarnationReused,
    /// Who comes back goes on one revision too late, and does not notice.
    ResumeOffByOne,
    /// Watchers get each change of a transaction by itself.
    SplitTransaction,
    /// Who comes back with a cursor of another epoch goes on from there.
    NoEpochCheck,
    /// What is committed while a snapshot is sent is not in it.
    SnapshotWithoutDeltas,
    /// A request that comes again is carried out again.
    RetryTwice,
    /// When changes of a key become one, a delete is lost.
    CoalesceLosesDelete,
    /// When changes of a key become one, what was before the last is told as what was before.
    WrongPrevious,
    /// After a snapshot the cursor is before the state.
    CursorBack,
    /// A sync is answered from memory.
    StaleSync,
    /// A watcher that was woken once is not woken again.
    LostWakeup,
    /// Who missed what was broadcast is sent it from one revision too late on.
    MissedOffByOne,
    /// Nobody is woken for what is broadcast.
    BellForgotten,
    /// Who misses what was broadcast does not say so.
    MissedInSilence,
}

#[cfg(feature = "test-faults")]
mod planted {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// From now on this goes wrong in this thread.
    pub fn plant(fault: Option<Fault>) {
        FAULT.set(fault);
    }

    pub(crate) fn is(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }
}

#[cfg(feature = "test-faults")]
pub(crate) use planted::is;
#[cfg(feature = "test-faults")]
pub use planted::plant;

/// Whether this goes wrong: no.
#[cfg(not(feature = "test-faults"))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}
