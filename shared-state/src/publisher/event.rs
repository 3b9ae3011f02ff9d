//! What happens to replicas, as the primary tells it.

use crate::protocol::Join;
use crate::{ClientId, Cursor, Misbehaviour, Revision};

/// What happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublisherEvent {
    /// It said hello.
    Joined {
        /// Who.
        client: ClientId,
        /// What it had.
        cursor: Option<Cursor>,
        /// How it comes to the state.
        join: Join,
    },
    /// It was sent the whole state, for the first time on this connection.
    Live {
        /// Who.
        client: ClientId,
        /// As of when.
        revision: Revision,
        /// By which way, with figures.
        sent: Sent,
    },
    /// It was too slow: what it needs next is no longer kept. A snapshot begins when its transport has room.
    FellBehind {
        /// Who.
        client: ClientId,
        /// What it needs next.
        next: Revision,
        /// The last revision.
        revision: Revision,
    },
    /// It was sent the whole state after it had fallen behind, or had asked for it.
    Resynchronised {
        /// Who.
        client: ClientId,
        /// As of when.
        revision: Revision,
        /// With figures.
        sent: Sent,
    },
    /// It missed something and asks for the whole state.
    AskedAgain {
        /// Who.
        client: ClientId,
    },
    /// It was too slow for the broadcast. What it missed is sent to it alone, if the history has it still (otherwise it has fallen
    /// behind, too).
    Missed {
        /// Who.
        client: ClientId,
        /// What it needs next.
        next: Revision,
        /// The last revision.
        revision: Revision,
    },
    /// It did what it must not. Nothing of it is read any more; close the connection when there is nothing to
    /// transmit.
    CutOff {
        /// Who.
        client: ClientId,
        /// Why.
        reason: Misbehaviour,
    },
}

/// How much it took to bring a replica up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Entries of the snapshot; 0 if there was none.
    pub entries: u64,
    /// Bytes of its chunks.
    pub chunk_bytes: u64,
    /// Deltas, between the chunks or instead of them.
    pub deltas: u64,
}
