//! The primary's wish to be woken: one word that the primary sets and a worker's thread clears when it rings.
//!
//! ```text
//!   primary                          worker
//!   want(true)                       something is taken or finished
//!     store 1                        wanted()
//!     ── fence ──                      ── fence ──
//!   look at tickets and figures        load: 1? swap 0, ring
//! ```
//!
//! Of the two fences one comes first. If it is the worker's, the primary's look sees what was taken or finished; if it
//! is the primary's, the worker sees the wish. Without either fence both could miss, and the primary would sleep on.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::word::Word;

/// The word in shared memory.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(super) struct Doorbell<A = AtomicU32>(A);

impl<A: Word<u32>> Doorbell<A> {
    /// Sets the wish or takes it back. The caller's next look at the board comes after it.
    pub(super) fn want(&self, wanted: bool) {
        self.0.store(u32::from(wanted), Ordering::SeqCst);
        A::fence(Ordering::SeqCst);
    }

    /// Whether there is a wish. Asking clears it, so of several threads one is told so. What the caller wrote to the
    /// board before comes before the look.
    pub(super) fn wanted(&self) -> bool {
        A::fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::SeqCst) != 0
    }
}
