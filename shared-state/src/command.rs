//! What can be asked of the store.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ClientId, Key, KeyRange, LeaseId, Revision};

/// What is asked of the store: an operation, a transaction, or something about a lease.
///
/// ```
/// use std::time::Duration;
/// use cluster_shared_state::{Command, Condition, Increment, Put, Transaction};
///
/// let session = Command::put("session/7", "anna").ttl(Duration::from_secs(1800));
/// let lock = Command::put("lock", "me").when(Condition::Absent);
/// let hits: Command = Increment::new("hits", 1).into();
/// let transfer = Transaction::new()
///     .when("paid", Condition::Absent)
///     .then(Increment::new("anna", -10).at_least(0))
///     .then(Increment::new("bert", 10))
///     .then(Put::new("paid", "yes"));
/// # let _ = (session, lock, hits, Command::from(transfer));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// One operation, if the condition holds.
    Apply {
        /// What must hold. Otherwise nothing changes, and the answer is a [`Conflict`](crate::Conflict).
        when: Option<Compare>,
        /// What to do.
        operation: Operation,
    },
    /// Several, all at once.
    Transact(Transaction),
    /// Grants a lease to the client that asks.
    Grant {
        /// How long it lives without being kept alive; `None` as long as its owner.
        ttl: Option<Duration>,
    },
    /// Gives a lease its whole time to live again.
    KeepAlive {
        /// Which.
        lease: LeaseId,
    },
    /// Ends a lease, and with it the keys under it.
    Revoke {
        /// Which.
        lease: LeaseId,
    },
}

impl Command {
    /// Puts a value under a key.
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Put {
        Put::new(key, value)
    }

    /// Deletes a key.
    pub fn delete(key: impl Into<Key>) -> Delete {
        Delete::new(key)
    }

    /// Deletes all of these keys, in one revision.
    pub const fn delete_range(range: KeyRange) -> Self {
        Self::Apply { when: None, operation: Operation::DeleteRange(range) }
    }

    /// Adds to a number; a key that is not there counts as zero.
    pub fn increment(key: impl Into<Key>, by: i64) -> Increment {
        Increment::new(key, by)
    }

    /// Appends to a value; a key that is not there counts as empty.
    pub fn append(key: impl Into<Key>, value: impl Into<Bytes>) -> Append {
        Append::new(key, value)
    }

    /// Grants a lease to the client that asks. With a time to live it must be kept alive; without, it lives
    /// as long as its owner.
    pub const fn grant(ttl: Option<Duration>) -> Self {
        Self::Grant { ttl }
    }

    /// Gives a lease of this client its whole time to live again.
    pub const fn keep_alive(lease: LeaseId) -> Self {
        Self::KeepAlive { lease }
    }

    /// Ends a lease of this client: its keys vanish in one revision.
    pub const fn revoke(lease: LeaseId) -> Self {
        Self::Revoke { lease }
    }

    /// Bytes of its keys and values, as the limit counts them.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Apply { when, operation } => when.as_ref().map_or(0, Compare::bytes) + operation.bytes(),
            Self::Transact(it) => {
                let operations = it.then.iter().chain(&it.otherwise);
                it.when.iter().map(Compare::bytes).chain(operations.map(Operation::bytes)).sum()
            }
            Self::Grant { .. } | Self::KeepAlive { .. } | Self::Revoke { .. } => 0,
        }
    }
}

/// One operation, by itself or in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Operation {
    /// Puts a value under a key.
    Put(Put),
    /// Deletes a key.
    Delete(Delete),
    /// Deletes all of these.
    DeleteRange(KeyRange),
    /// Adds to a number.
    Increment(Increment),
    /// Appends to a value.
    Append(Append),
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(it) => it.key.len() + it.value.len(),
            Self::Append(it) => it.key.len() + it.value.len(),
            Self::Increment(it) => it.key.len(),
            Self::Delete(it) => it.key.len(),
            Self::DeleteRange(range) => range.length(),
        }
    }
}

impl From<Operation> for Command {
    fn from(operation: Operation) -> Self {
        Self::Apply { when: None, operation }
    }
}

/// What must hold for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Condition {
    /// It is not there.
    Absent,
    /// It is there.
    Present,
    /// It has this value.
    Value(Bytes),
    /// It was last written by this commit.
    Modified(Revision),
    /// It is there, and was last written before this commit.
    ModifiedBefore(Revision),
    /// It is there, and was last written after this commit.
    ModifiedAfter(Revision),
    /// It is under this lease.
    Lease(LeaseId),
    /// It is under a lease of this owner.
    Owner(ClientId),
}

impl Condition {
    /// It has this value.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self::Value(value.into())
    }
}

/// A condition, and the key it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Compare {
    /// The key.
    pub key: Key,
    /// What must hold for it.
    pub condition: Condition,
}

impl Compare {
    /// This must hold for that key.
    pub fn new(key: impl Into<Key>, condition: Condition) -> Self {
        Self { key: key.into(), condition }
    }

    fn bytes(&self) -> usize {
        match &self.condition {
            Condition::Value(value) => self.key.len() + value.len(),
            _ => self.key.len(),
        }
    }
}

/// Puts a value under a key. Lease and time to live are those given here: none, if none is given, whatever
/// was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) life: Life,
    pub(crate) returns: Returns,
}

/// Deletes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    pub(crate) key: Key,
    pub(crate) returns: Returns,
}

/// Adds to a number (see [`number`](crate::number)), and answers what it is then.
///
/// A key that is not there counts as [`starting_at`](Self::starting_at); lease and time to live are given to
/// it only when it is made. A key that is there keeps its own: a counter for a minute ends after a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increment {
    pub(crate) key: Key,
    pub(crate) by: i64,
    pub(crate) initial: i64,
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) life: Life,
}

/// Appends to a value. A key that is not there counts as empty; one that is there keeps its lease and its
/// time to live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) life: Life,
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) lease: Option<LeaseId>,
    pub(crate) ttl: Option<Duration>,
}

/// Whether the entry that was there before is part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Returns {
    Nothing,
    Previous,
}

impl Put {
    /// Puts this value under that key.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), life: Life::default(), returns: Returns::Nothing }
    }

    /// Answers what was there before: get and set.
    #[must_use]
    pub fn returning_previous(self) -> Self {
        Self { returns: Returns::Previous, ..self }
    }
}

impl Delete {
    /// Deletes that key.
    pub fn new(key: impl Into<Key>) -> Self {
        Self { key: key.into(), returns: Returns::Nothing }
    }

    /// Answers what was there before: get and delete.
    #[must_use]
    pub fn returning_previous(self) -> Self {
        Self { returns: Returns::Previous, ..self }
    }
}

impl Increment {
    /// Adds so much (or takes it away) to that key. No bounds but those of the type.
    pub fn new(key: impl Into<Key>, by: i64) -> Self {
        Self { key: key.into(), by, initial: 0, min: i64::MIN, max: i64::MAX, life: Life::default() }
    }

    /// What a key counts as that is not there. Default 0.
    #[must_use]
    pub fn starting_at(self, initial: i64) -> Self {
        Self { initial, ..self }
    }

    /// Refuses, rather than let the number become less than that.
    #[must_use]
    pub fn at_least(self, min: i64) -> Self {
        Self { min, ..self }
    }

    /// Refuses, rather than let the number become more than that.
    #[must_use]
    pub fn at_most(self, max: i64) -> Self {
        Self { max, ..self }
    }
}

impl Append {
    /// Appends this to that key.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), life: Life::default() }
    }
}

macro_rules! lives {
    ($($type:ident),*) => {$(
        impl $type {
            /// Under this lease, which must be the client's: the key vanishes with it.
            #[must_use]
            pub fn lease(mut self, lease: LeaseId) -> Self {
                self.life.lease = Some(lease);
                self
            }

            /// For so long: then the key is deleted by itself.
            #[must_use]
            pub fn ttl(mut self, ttl: Duration) -> Self {
                self.life.ttl = Some(ttl);
                self
            }
        }
    )*};
}

lives!(Put, Increment, Append);

macro_rules! operations {
    ($($type:ident),*) => {$(
        impl $type {
            /// Only if this holds for the key.
            pub fn when(self, condition: Condition) -> Command {
                let when = Some(Compare { key: self.key.clone(), condition });
                Command::Apply { when, operation: Operation::$type(self) }
            }
        }

        impl From<$type> for Operation {
            fn from(operation: $type) -> Self {
                Self::$type(operation)
            }
        }

        impl From<$type> for Command {
            fn from(operation: $type) -> Self {
                Self::Apply { when: None, operation: Operation::$type(operation) }
            }
        }
    )*};
}

operations!(Put, Delete, Increment, Append);

impl From<KeyRange> for Operation {
    /// Deletes all of these.
    fn from(range: KeyRange) -> Self {
        Self::DeleteRange(range)
    }
}

/// Conditions, and what is done if all of them hold, or if not: all at once, in one revision, or (if any of
/// it is refused) not at all.
///
/// Operations see what those before them did. Each key that was changed shows up once, as it is at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    #[serde(deserialize_with = "bounded::deserialize")]
    pub(crate) when: Vec<Compare>,
    #[serde(deserialize_with = "bounded::deserialize")]
    pub(crate) then: Vec<Operation>,
    #[serde(deserialize_with = "bounded::deserialize")]
    pub(crate) otherwise: Vec<Operation>,
}

/// Operations that a transaction can have at all, whatever [`Limits::operations`](crate::Limits::operations)
/// says. On the wire they are small, in memory they are not: what has more is not even read.
pub(crate) const MOST_OPERATIONS: usize = 4096;

/// Lists that end before they use up the memory.
mod bounded {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

    use super::MOST_OPERATIONS;

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(Bounded(PhantomData))
    }

    struct Bounded<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_OPERATIONS} of them")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let length = seq.size_hint().unwrap_or(0);
            if length > MOST_OPERATIONS {
                return Err(A::Error::invalid_length(length, &self));
            }
            let mut list = Vec::new();
            while let Some(item) = seq.next_element()? {
                if list.len() >= MOST_OPERATIONS {
                    return Err(A::Error::invalid_length(list.len(), &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
}

impl Transaction {
    /// Nothing to do, yet.
    pub const fn new() -> Self {
        Self { when: Vec::new(), then: Vec::new(), otherwise: Vec::new() }
    }

    /// This must hold for that key.
    #[must_use]
    pub fn when(mut self, key: impl Into<Key>, condition: Condition) -> Self {
        self.when.push(Compare::new(key, condition));
        self
    }

    /// To do if all conditions hold.
    #[must_use]
    pub fn then(mut self, operation: impl Into<Operation>) -> Self {
        self.then.push(operation.into());
        self
    }

    /// To do if one does not.
    #[must_use]
    pub fn otherwise(mut self, operation: impl Into<Operation>) -> Self {
        self.otherwise.push(operation.into());
        self
    }
}

impl Transaction {
    /// How long the longest of its lists is.
    pub(crate) fn longest(&self) -> usize {
        self.when.len().max(self.then.len()).max(self.otherwise.len())
    }
}

impl From<Transaction> for Command {
    fn from(transaction: Transaction) -> Self {
        Self::Transact(transaction)
    }
}
