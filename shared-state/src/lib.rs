//! A replicated key-value map: one primary orders all writes, every replica reads its own copy without asking.
//!
//! The semantics are those of etcd: each write takes the next revision, a transaction one for all it does;
//! compare-and-set, leases, times to live, and watches that leave nothing out. Everything in here is a state
//! machine without I/O, clock or threads: a driver hands in messages and the time, and polls for what is to be
//! sent and told. So it runs over any transport that keeps messages whole and in order.
//!
//! ```text
//!            replica                                              primary
//!  ┌───────────────────────────┐                     ┌──────────────────────────────────┐
//!  │ Replica                   │  requests           │ Publisher                        │
//!  │  submit ──▶ requests ─────┼────────────────────▶│  Store: orders, expires, answers │
//!  │                           │                     │    │ commits, each encoded once  │
//!  │  state ◀── deltas in order│◀────────────────────┤  History: the last of them       │
//!  │    │       (or a snapshot)│  deltas, replies,   │    │ a place in it for each      │
//!  │  Watchers                 │  in one lane        │  feeds           Watchers        │
//!  └───────────────────────────┘                     └──────────────────────────────────┘
//! ```
//!
//! - [`Store`]: the map of the primary by itself, with [`Command`]s and [`Answer`]s.
//! - [`Publisher`]: the store and everyone who follows it. [`Replica`]: one who does.
//! - [`Watchers`]: who is told of which changes; each side has its own.
//! - [`State`]: what a replica keeps its copy in.
//! - [`protocol`]: what they say to each other.
//! - `witness` (feature `test-util`): judges what clients of a run say they saw.

#![forbid(unsafe_code)]

mod answer;
mod client;
mod command;
mod commit;
mod entry;
mod error;
#[cfg(feature = "test-faults")]
#[doc(hidden)]
pub mod faults;
#[cfg(not(feature = "test-faults"))]
#[allow(unreachable_pub, reason = "public only for tests")]
mod faults;
mod key;
mod limits;
pub mod number;
mod revision;
mod view;

mod history;
mod store;

mod watch;

pub mod protocol;
mod publisher;
mod replica;

#[cfg(feature = "json")]
pub mod dump;
#[cfg(feature = "map")]
pub mod map;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(any(test, feature = "test-util"))]
pub mod witness;

pub use answer::{Answer, Conflict, Outcome, TransactionOutcome};
pub use client::{ClientId, LeaseId};
pub use command::{Append, Command, Compare, Condition, Delete, Increment, Operation, Put, Transaction};
pub use commit::{Change, ChangeKind, Commit};
pub use entry::Entry;
pub use error::{CommandError, Misbehaviour, ProtocolError, RequestError};
pub use history::History;
pub use key::{Key, KeyBounds, KeyRange};
pub use limits::Limits;
pub use publisher::{Publisher, PublisherConfig, PublisherEvent, Sent};
pub use replica::{Cancelled, Full, PlainReplica, Replica, ReplicaConfig, ReplicaEvent, RequestId};
pub use revision::{Cursor, Epoch, Revision};
pub use store::Store;
pub use view::{State, View};
pub use watch::{
    Batch, Notice, Overflow, Start, TooManyWatchers, Watch, WatchEvent, WatchId, WatchLimits, Watchers,
    differences,
};

/// Runs the example in the README.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
