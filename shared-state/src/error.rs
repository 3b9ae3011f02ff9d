//! Why something was refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Key, LeaseId, Revision};

/// Why a command was refused. Nothing changed, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CommandError {
    /// A key has no bytes.
    #[error("a key must not be empty")]
    EmptyKey,
    /// A key is too long ([`Limits::key_bytes`](crate::Limits::key_bytes)).
    #[error("a key of {length} bytes is longer than the limit of {limit}")]
    KeyTooLong {
        /// Its bytes.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// A value is too long, or would be after appending ([`Limits::value_bytes`](crate::Limits::value_bytes)).
    #[error("a value of {length} bytes is longer than the limit of {limit}")]
    ValueTooLong {
        /// Its bytes.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// There would be too many keys ([`Limits::keys`](crate::Limits::keys)).
    #[error("{keys} keys would be more than the limit of {limit}")]
    TooManyKeys {
        /// How many there would be.
        keys: u64,
        /// The limit.
        limit: u64,
    },
    /// All keys and values together would be too long ([`Limits::total_bytes`](crate::Limits::total_bytes)).
    #[error("{bytes} bytes in all would be more than the limit of {limit}")]
    StoreFull {
        /// How many bytes there would be.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A transaction is too long ([`Limits::operations`](crate::Limits::operations)), or deletes ranges that
    /// together have more than twice as many keys as there may be.
    #[error("{operations} operations or conditions are more than the limit of {limit}")]
    TooManyOperations {
        /// How many it has.
        operations: u64,
        /// The limit.
        limit: u64,
    },
    /// The command is too long ([`Limits::command_bytes`](crate::Limits::command_bytes)).
    #[error("a command of {bytes} bytes is longer than the limit of {limit}")]
    CommandTooLong {
        /// Bytes of its keys and values.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// What the command returns would be too long ([`Limits::answer_bytes`](crate::Limits::answer_bytes)).
    #[error("an answer of {bytes} bytes would be longer than the limit of {limit}")]
    AnswerTooLong {
        /// How many bytes, at least.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The owner has too many leases ([`Limits::leases`](crate::Limits::leases)).
    #[error("more than the limit of {limit} leases")]
    TooManyLeases {
        /// The limit.
        limit: u64,
    },
    /// There is no such lease: it was revoked, was not kept alive, or is of another epoch.
    #[error("there is no lease {lease}")]
    NoSuchLease {
        /// Which.
        lease: LeaseId,
    },
    /// The lease belongs to somebody else.
    #[error("lease {lease} belongs to somebody else")]
    ForeignLease {
        /// Which.
        lease: LeaseId,
    },
    /// The time to live is longer than a clock can count.
    #[error("a time to live of {ttl:?} is too long")]
    TtlTooLong {
        /// How long it was to be.
        ttl: Duration,
    },
    /// The value that was to be counted up is not a number.
    #[error("the value of \"{key}\" is not a number")]
    NotANumber {
        /// Its key.
        key: Key,
    },
    /// The number would overflow.
    #[error("\"{key}\" is {value}, and {by} more would overflow")]
    Overflow {
        /// Its key.
        key: Key,
        /// What it is.
        value: i64,
        /// What was to be added.
        by: i64,
    },
    /// The number would leave its bounds.
    #[error("\"{key}\" is {value}, and {by} more would not be within {min} to {max}")]
    OutOfBounds {
        /// Its key.
        key: Key,
        /// What it is.
        value: i64,
        /// What was to be added.
        by: i64,
        /// The lower bound.
        min: i64,
        /// The upper bound.
        max: i64,
    },
    /// The client has not read so many bytes of answers yet. Try again later.
    #[error("{bytes} bytes of answers were not read yet, more than the limit of {limit}")]
    Busy {
        /// How many.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A repeated request: it *was* carried out, once, but its answer is no longer remembered
    /// ([`Limits::remembered_bytes`](crate::Limits::remembered_bytes)).
    #[error("the request was carried out at revision {revision}, its answer is forgotten")]
    AnswerForgotten {
        /// The revision that was answered.
        revision: Revision,
    },
}

/// What a replica did that it must not: it is cut off, and nobody else notices.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It sent something that is no message.
    #[error("sent something that is no message")]
    Garbage,
    /// It speaks another version of the protocol.
    #[error("speaks version {theirs} of the protocol, not {ours}")]
    Version {
        /// The version it speaks.
        theirs: u32,
        /// The version of the primary.
        ours: u32,
    },
    /// It says it is somebody else.
    #[error("says it is somebody else")]
    WrongName,
    /// It did not say hello first.
    #[error("did not say hello first")]
    NoHello,
    /// It said hello twice.
    #[error("said hello twice")]
    HelloTwice,
    /// It claims to have seen what was not written yet.
    #[error("claims to have seen revision {theirs}, which is after {ours}")]
    Future {
        /// What it claims.
        theirs: Revision,
        /// The last revision.
        ours: Revision,
    },
    /// It has more requests under way than it may ([`Limits::requests`](crate::Limits::requests)).
    #[error("has more than {limit} requests under way")]
    TooManyRequests {
        /// The limit.
        limit: u64,
    },
    /// It repeated a request after it had said that it has the answer, or left it out first.
    #[error("repeated request {number} too late")]
    OldRequest {
        /// Its number.
        number: u64,
    },
}

/// Why a message of the primary could not be taken: the connection is of no use, make a new one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It is no message.
    #[error("the primary sent something that is no message")]
    Garbage,
    /// It must not come now.
    #[error("the primary sent {message} when it must not")]
    Unexpected {
        /// Which message.
        message: &'static str,
    },
    /// The state that was sent is older than what is there already.
    #[error("the primary went back from revision {from} to {to}")]
    Backwards {
        /// What is there.
        from: Revision,
        /// What was sent.
        to: Revision,
    },
}

/// Why a request of a replica did not get an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The primary refused it; nothing changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// It was sent, and then the primary was gone (another one answers, which knows nothing of it): it was
    /// carried out once or not at all.
    #[error("the primary was lost before it answered: it may or may not have been carried out")]
    InDoubt,
    /// What was waited for belongs to a history that is no more.
    #[error("the history of which this was to be reached is no more")]
    NewEpoch,
    /// The primary cut this replica off before the request was sent: it was not carried out.
    #[error("the primary cut this replica off: {0}")]
    CutOff(#[source] Misbehaviour),
}
