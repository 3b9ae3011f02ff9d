//! What happens to a replica, as it tells it.

use crate::protocol::Join;
use crate::{Cursor, Epoch, Misbehaviour, Revision};

/// What happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaEvent {
    /// The primary answered.
    Welcomed {
        /// Its epoch.
        epoch: Epoch,
        /// How the state comes.
        join: Join,
    },
    /// The state is whole, and follows.
    Live {
        /// As of when.
        revision: Revision,
        /// How many entries came by a snapshot, if one did. Otherwise deltas were enough.
        snapshot: Option<u64>,
    },
    /// The state is that of another history now: what was there before may be gone, and revisions begin anew.
    NewEpoch {
        /// As of when the state was.
        from: Cursor,
        /// As of when it is.
        to: Cursor,
    },
    /// Something is missing in what the primary sent. Nothing of it was applied; a snapshot was asked for.
    Gap {
        /// What was to come.
        expected: Revision,
        /// What came.
        got: Revision,
    },
    /// The broadcast has no longer what comes next. The primary was asked to send it.
    Missed {
        /// What comes next.
        next: Revision,
    },
    /// The primary does not talk to this replica any more. Connecting again is possible, but something is
    /// wrong here.
    CutOff {
        /// Why.
        reason: Misbehaviour,
    },
}
