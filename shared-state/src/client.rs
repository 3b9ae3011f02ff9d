//! Who writes, and what lives as long as its writer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Epoch;

/// One life of one client: a worker's slot and generation, say.
///
/// The incarnation must never repeat for the same client: what a dead one left behind (leases, answers that
/// it did not read) would be taken for that of the living.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId {
    client: u64,
    incarnation: u64,
}

impl ClientId {
    /// The primary itself. No replica may have this name.
    pub const PRIMARY: Self = Self::new(u64::MAX, 0);

    /// This life of that client.
    pub const fn new(client: u64, incarnation: u64) -> Self {
        Self { client, incarnation }
    }

    /// Which client.
    pub const fn client(self) -> u64 {
        self.client
    }

    /// Which of its lives.
    pub const fn incarnation(self) -> u64 {
        self.incarnation
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::PRIMARY {
            return f.write_str("primary");
        }
        write!(f, "{}.{}", self.client, self.incarnation)
    }
}

/// A lease: what is written under it vanishes with it, or with its owner.
///
/// It never repeats, so it serves as a fencing token. Granted by [`Command::grant`](crate::Command::grant).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    epoch: Epoch,
    number: u64,
}

impl LeaseId {
    pub(crate) const fn new(epoch: Epoch, number: u64) -> Self {
        Self { epoch, number }
    }

    /// The epoch in which it was granted: it is worth nothing in any other.
    pub const fn epoch(self) -> Epoch {
        self.epoch
    }

    /// The how many-th of its epoch it is. Later leases have higher numbers.
    pub const fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.number)
    }
}
