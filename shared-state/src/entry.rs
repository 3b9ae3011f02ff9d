//! What is stored under a key.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{CommandError, Key, LeaseId, Revision, number};

/// What is stored under a key. Cheap to clone: the value is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The commit that made the key; a key that was deleted and written again is made anew.
    pub created: Revision,
    /// The commit that wrote it last.
    pub modified: Revision,
    /// How often it was written since it was made, from 1.
    pub version: u64,
    /// The lease with which it vanishes.
    pub lease: Option<LeaseId>,
    /// The time to live that it was given when it was last set. Only the primary's store counts it.
    pub ttl: Option<Duration>,
}

impl Entry {
    /// What a key has that was made with this value by that commit.
    pub fn new(value: impl Into<Bytes>, at: Revision) -> Self {
        Self { value: value.into(), created: at, modified: at, version: 1, lease: None, ttl: None }
    }

    /// The value as a number, if it is one: what [`Increment`](crate::Increment) works on.
    pub fn number(&self) -> Option<i64> {
        number::decode(&self.value)
    }

    pub(crate) fn number_of(&self, key: &Key) -> Result<i64, CommandError> {
        self.number().ok_or_else(|| CommandError::NotANumber { key: key.clone() })
    }
}

/// How many bytes key and value are: what limits count.
pub(crate) fn size(key: &[u8], entry: &Entry) -> usize {
    key.len() + entry.value.len()
}

/// About how much an entry is on the wire beside key and value.
pub(crate) const OVERHEAD: usize = 32;
