//! What a command answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Entry, Key, LeaseId, Revision};

/// What came of a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// The revision of the commit; if nothing changed, the one at which that was found.
    pub revision: Revision,
    /// What came of it.
    pub outcome: Outcome,
}

impl Answer {
    /// Whether the condition of the command (of a transaction: all of its conditions) did not hold.
    pub const fn is_conflict(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Conflict(_) | Outcome::Transaction(TransactionOutcome { conflict: Some(_), .. })
        )
    }

    pub(crate) fn size(&self) -> usize {
        self.outcome.size()
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// It was put.
    Put {
        /// What was there before, if asked for.
        previous: Option<Entry>,
    },
    /// It was deleted, or was not there.
    Deleted {
        /// How many keys were deleted.
        keys: u64,
        /// What was there before, if asked for (never of a range).
        previous: Option<Entry>,
    },
    /// The number is now this.
    Number(i64),
    /// The value has now so many bytes.
    Appended {
        /// Bytes of the whole value.
        length: u64,
    },
    /// The condition did not hold; nothing changed.
    Conflict(Conflict),
    /// What came of a transaction.
    Transaction(TransactionOutcome),
    /// The lease is granted.
    Granted(LeaseId),
    /// The lease lives on.
    KeptAlive,
    /// The lease is no more.
    Revoked {
        /// How many keys vanished with it.
        keys: u64,
    },
    /// The replica has everything up to [`Answer::revision`] (of a read level, not of a command).
    Reached,
}

impl Outcome {
    pub(crate) fn size(&self) -> usize {
        let of = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        let payload = match self {
            Self::Put { previous } | Self::Deleted { previous, .. } => of(previous),
            Self::Conflict(conflict) => conflict.size(),
            Self::Transaction(transaction) => {
                transaction.outcomes.iter().map(Self::size).sum::<usize>()
                    + transaction.conflict.as_ref().map_or(0, Conflict::size)
            }
            _ => 0,
        };
        payload + size_of::<Self>()
    }
}

/// Why a condition did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conflict {
    /// The key it was about.
    pub key: Key,
    /// What is there instead.
    pub entry: Option<Entry>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "\"{}\" was written at revision {}", self.key, entry.modified),
            None => write!(f, "\"{}\" is not there", self.key),
        }
    }
}

impl Conflict {
    fn size(&self) -> usize {
        self.key.len() + self.entry.as_ref().map_or(0, |entry| entry.value.len())
    }
}

/// Which way a transaction went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TransactionOutcome {
    /// The first condition that did not hold: `None` means that all did, and the operations of `then` were
    /// carried out; otherwise those of `otherwise` were.
    pub conflict: Option<Conflict>,
    /// What came of each operation, in order.
    pub outcomes: Vec<Outcome>,
}
