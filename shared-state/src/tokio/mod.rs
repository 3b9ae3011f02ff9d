//! Drivers for tokio: who has the state as a whole, and who follows.
//!
//! ```text
//!   primary's process                                        any process that follows
//!   Hub ── serve(client, link) ─────── link ─────── Follower::follow(link)
//!    │                                                            │
//!    └── one Publisher, a feed for each link                      └── SharedState, as often as wanted:
//!                                                                     get, view | set, … | watch
//! ```
//!
//! A link is anything that carries whole messages in order: a [`Stream`](futures_core::Stream) of what comes and a
//! [`Sink`](futures_sink::Sink) for what goes ([`Link`]). [`memory`] makes two that are connected,
//! `cluster_ipc` channels become one by [`ipc::link`] (feature `ipc`), and a socket by a length-delimited codec.
//! When a sink is not ready nothing is made for it: so a peer that does not read costs no memory.
//!
//! Those on the same machine can have what is new by a [`Broadcast`] besides, memory that all of them read ([`ipc::broadcast`]): it is
//! written once for all, and a read there sees it as soon as it is, without waiting for the link's turn.

mod broadcast;
mod follower;
mod garbage;
mod handle;
mod hub;
#[cfg(feature = "ipc")]
pub mod ipc;
mod link;
mod memory;
mod node;
#[cfg(feature = "ipc")]
mod ring;
mod typed;
mod watch;

pub use broadcast::{Bell, Broadcast, Heard, Listen};
pub use follower::Follower;
pub use handle::{Pending, SharedState, StateError};
pub use hub::Hub;
pub use link::{Link, LinkError};
pub use memory::{Memory, memory};
pub use typed::{Typed, TypedError};
pub use watch::{Callback, Watching};
