//! Decides which member (a worker, a thread, a host) gets the next item (a connection, a task).
//!
//! Whoever hands out work itself knows exactly how much each member has. This crate keeps those counts,
//! asks a [`Strategy`] who is next, and owns every item until the member took it, so that the untaken work
//! of a member that died or hangs goes back to the head of the queue instead of being lost.
//!
//! There is no I/O in here, no clock, no thread: a driver moves the items and reports what happened.
//!
//! ```text
//!  what the user wants                                                   what to do next
//!    admit(key, limits) ──┐      ┌───────────────────────────────┐
//!    withdraw(key)        ├─────▶│          Dispatcher           │──▶ room(): accept so many more
//!    offer, retract(item) │      │                               │
//!    pause / resume(key) ─┘      │  queue ──Strategy──▶ in flight│──▶ poll_batch(): send these to that
//!  what happened                 │    ▲                    │     │    member, each with its ticket
//!    handle_taken         ──┐    │    └─ recalled, refused ┘     │──▶ item(key, ticket): what to send
//!    handle_recalled        │    │                               │
//!    handle_refused         ├───▶│                               │──▶ poll_expired(): nobody had room
//!    handle_finished        │    │                               │
//!    handle_timeout       ──┘    └───────────────────────────────┘──▶ poll_timeout(): when to look again
//! ```
//!
//! The life of an item: it waits (one queue, in order of arrival), is *assigned* to a member, handed out
//! with a [`Ticket`] by [`Dispatcher::poll_batch`] (*in flight*), and then either *taken* for good, or back in
//! its place since it was *recalled* or *refused*. One that finds no place in time *expires*. Taken work counts as outstanding until the member reports it finished.
//!
//! ```
//! use cluster_balancer::{Dispatcher, LeastLoaded, Limits};
//!
//! let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 16);
//! dispatcher.admit("anna", Limits::new());
//! dispatcher.admit("bert", Limits::new());
//! for item in ["a", "b", "c"] {
//!     dispatcher.offer(item).expect("there is room");
//! }
//!
//! let mut sent = Vec::new();
//! while let Some(batch) = dispatcher.poll_batch() {
//!     for &ticket in batch.tickets() {
//!         sent.push((batch.key(), ticket, *dispatcher.item(batch.key(), ticket).expect("in flight")));
//!     }
//! }
//! let shown: Vec<_> = sent.iter().map(|(key, _, item)| (*key, *item)).collect();
//! assert_eq!(shown, [("anna", "a"), ("anna", "c"), ("bert", "b")]);
//!
//! // Anna took "a" and then died; "c" goes to Bert.
//! assert_eq!(dispatcher.handle_taken("anna", sent[0].1), Some("a"));
//! for ticket in dispatcher.withdraw("anna") {
//!     dispatcher.handle_recalled("anna", ticket);
//! }
//! assert!(dispatcher.remove("anna").is_empty(), "nothing was left unsettled");
//! let batch = dispatcher.poll_batch().expect("bert has room");
//! assert_eq!((batch.key(), dispatcher.item("bert", batch.tickets()[0])), ("bert", Some(&"c")));
//! ```
//!
//! For work that has a result there are [`tasks`]: with deadlines, and an end that is told to who submitted it.
//!
//! A strategy works without a dispatcher, too: see [`strategy`].
//!
//! # Features
//!
//! * `key`: `key`, what makes connections belong together, from a client's address or its first bytes.
//! * `serde`: status as a serialisable snapshot.

#![forbid(unsafe_code)]

#[cfg(feature = "key")]
pub mod key;
pub mod strategy;
pub mod tasks;

mod candidate;
mod candidates;
mod class;
mod decorators;
mod dispatcher;
mod hash;
mod index;
mod limits;
mod members;
mod pool;
mod status;
mod strategies;
mod sync;

pub use class::Classes;
pub use dispatcher::{Arrival, Batch, Dispatcher, Overloaded, Ticket};
pub use hash::hash_of;
pub use limits::Limits;
pub use pool::{Guard, MemberId, Pool, SharedPool};
pub use status::{DispatcherStatus, MemberStatus, Status, Totals};
pub use strategy::{
    Candidate, Candidates, Ended, Figures, LeastLoaded, Request, RoundRobin, Strategy, UnknownStrategy,
};

/// Runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
