//! Who owns a connection that was sent but not yet taken: one atomic word, one winner.
//!
//! | state \ who  | primary offers | worker takes | worker refuses | primary recalls |
//! |--------------|----------------|--------------|----------------|-----------------|
//! | anything old | Offered        | -            | -              | -               |
//! | Offered      | (never)        | Taken        | Refused        | Recalled        |
//! | Taken        | Offered'       | -            | -              | -               |
//! | Refused      | Offered'       | -            | -              | -               |
//! | Recalled     | Offered'       | -            | -              | -               |
//!
//! The word holds a sequence number beside the state. A cell is used again (Offered') with a higher number, so a
//! descriptor that lay in a stopped worker's socket meanwhile finds that its ticket is gone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::word::Word;

const STATE_BITS: u32 = 3;
const OFFERED: u64 = 1;
const TAKEN: u64 = 2;
const RECALLED: u64 = 3;
const REFUSED: u64 = 4;

/// Names one hand-off of one connection to one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u16,
    sequence: u64,
}

impl Ticket {
    /// The ticket at place `index` of the worker's board, used for the `sequence`-th time (any number that never repeats
    /// for this board, below 2⁶¹).
    pub fn new(index: u16, sequence: u64) -> Self {
        Self { index, sequence }
    }

    /// Its place on the board.
    pub fn index(self) -> u16 {
        self.index
    }

    /// Which use of that place it is.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

/// What became of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketState {
    /// The worker may still take it.
    Offered,
    /// The worker's application has the connection; also what a nonsensical word counts as, so that a
    /// connection is never given to two.
    Taken,
    /// The primary has it back.
    Recalled,
    /// The worker could not take it and gave it back.
    Refused,
}

/// The word in shared memory.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(super) struct TicketCell<A = AtomicU64>(A);

fn word(sequence: u64, state: u64) -> u64 {
    sequence << STATE_BITS | state
}

impl<A: Word<u64>> TicketCell<A> {
    pub(super) fn offer(&self, sequence: u64) {
        self.0.store(word(sequence, OFFERED), Ordering::SeqCst);
    }

    pub(super) fn take(&self, sequence: u64) -> bool {
        self.settle(sequence, TAKEN).is_ok()
    }

    pub(super) fn refuse(&self, sequence: u64) {
        // Losing to a recall is as good: the connection is the primary's either way.
        let _ = self.settle(sequence, REFUSED);
    }

    pub(super) fn recall(&self, sequence: u64) -> TicketState {
        match self.settle(sequence, RECALLED) {
            Ok(_) => TicketState::Recalled,
            Err(found) => Self::read(found, sequence),
        }
    }

    pub(super) fn state(&self, sequence: u64) -> TicketState {
        Self::read(self.0.load(Ordering::SeqCst), sequence)
    }

    fn settle(&self, sequence: u64, state: u64) -> Result<u64, u64> {
        let (offered, settled) = (word(sequence, OFFERED), word(sequence, state));
        self.0.compare_exchange(offered, settled, Ordering::SeqCst, Ordering::SeqCst)
    }

    fn read(found: u64, sequence: u64) -> TicketState {
        match found {
            found if found == word(sequence, OFFERED) => TicketState::Offered,
            found if found == word(sequence, RECALLED) => TicketState::Recalled,
            found if found == word(sequence, REFUSED) => TicketState::Refused,
            _ => TicketState::Taken,
        }
    }
}
