//! Who accepts on which port, and how a connection gets to a process.
//!
//! ```text
//!        primary                                                              worker, one of several
//!  Listen ─▶ Listeners ─socket─▶ Acceptor (a thread)                          worker::Intake (a task)
//!              │                  accept ─▶ Dispatcher ─▶ sendmsg ═══ data channel ═══▶ recvmsg ─▶ queues
//!              │                  keeps its copy until the ticket ┄┄┄┄┄┄ board ┄┄┄┄┄┄┄┄┄ says "taken" │
//!              └─Granted, perhaps a socket, by a channel of the caller's ─▶ worker::Listener::accept ◀┘─▶ Stream
//! ```
//!
//! | part | what it is |
//! |------|------------|
//! | [`Listen`], [`Mode`], [`Address`] | what is listened on, and who accepts there |
//! | [`Listeners`] | the sockets: each bound once, for all workers or one for each slot, steered away from slots whose worker is not well |
//! | [`Claims`] | the worker's side of it: what it listens on already |
//! | [`Acceptor`], [`Command`], [`Settings`] | a thread that accepts, and hands each connection to the worker that a strategy of [`cluster_balancer`] picks |
//! | `worker` (feature `tokio`) | where a worker gets them from, and the gate that it drains by |
//!
//! Who the workers are, how they are started, and who is well is the caller's to know: it tells the acceptor by commands, under keys of its
//! own ([`WorkerKey`]). What a worker asks for and is [granted](Granted) travels by the caller's own channel.
//!
//! # What is promised
//!
//! * **A connection belongs to one process at a time.** It is the worker's when its ticket on the worker's [board](cluster_ipc::board)
//!   says "taken", and until then the acceptor has a copy: what a worker that died, hangs, is withdrawn or doesn't listen any more has not
//!   taken goes to another, and the client doesn't notice.
//! * **Nothing is accepted that nobody has room for.** It stays in the kernel's queue, or is closed, as [`WhenFull`] says.
//! * **Nobody waits for a busy worker**: what it leaves lying for a millisecond goes to one that is free, unless the strategy insists.
//! * **The acceptor never blocks**: not for a worker, not for a client whose first bytes a [key](cluster_balancer::key::Key) needs. Without
//!   descriptors it pauses.
//! * **A worker can harm only itself**: nothing that it says can make the acceptor panic, wait, or allocate without bound.
//! * **Nobody is let in at the end who then finds nobody**: new clients are kept out first, then those who are in the queues are accepted, and
//!   only then the sockets are shut down, for all who have a copy. See [`Listeners::leftovers`] and [`Command::Close`].
//!
//! # Two workers
//!
//! `cargo run -p cluster-acceptor --features tokio --example two_workers` is this program:
//!
#![cfg_attr(feature = "tokio", doc = "```no_run")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
#![doc = include_str!("../examples/two_workers.rs")]
//! ```
//!
//! # Features
//!
//! * `tokio`: `worker`, the worker's side, on tokio's runtime. Without it none is needed: of tokio, only what tells that something is over.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cluster-acceptor needs Linux (5.10 or later)");

mod acceptor;
mod address;
mod claims;
mod error;
mod listen;
mod listeners;
mod reuseport;
mod socket;
mod wire;
#[cfg(feature = "tokio")]
pub mod worker;

pub use self::acceptor::{AcceptStatus, Acceptor, Command, Peek, Settings, WhenFull, WorkerKey};
pub use self::address::Address;
pub use self::claims::Claims;
pub use self::error::Error;
pub use self::listen::{Listen, Mode, UnknownMode};
pub use self::listeners::{Answer, Granted, Listeners, Orphan};
pub use self::socket::ListeningSocket;
#[cfg(feature = "test-util")]
pub use self::{acceptor::Turning, listeners::apart::Dialer};
