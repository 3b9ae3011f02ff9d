//! Messages by name among many processes, by way of the one that has a connection to each (features `tokio` and `postcard`).
//!
//! ```text
//!   worker ── Port ═══╗                        ╔═══ Port ── worker
//!                     ║  primary: Switch, Port ║
//!   worker ── Port ═══╝                        ╚═══ Port ── worker
//! ```
//!
//! Each process has a [`Port`]: it sends to the primary, to one worker, to all others, and asks any of them; what comes is for the
//! [handlers](Port::on) of that name. The primary's [`Switch`] passes on what is not for itself.
//!
//! | Node's cluster managers | here |
//! |---|---|
//! | `worker.send(message)`, `process.send(message)` | [`Port::send`], which ends when the other side has room for it |
//! | `worker.send(message, handle)` | [`Port::send_with`] descriptors |
//! | `request(type, data)`, 5 s | [`Port::request`], 5 s |
//! | `respond(id, value)`, `respond(id, null, error)` | what the handler of [`Port::answer`] returns |
//! | `broadcast(type, data)` | [`Port::broadcast`] |
//! | `on('message', handler)` | [`Port::on`], [`Port::stream`]: by name and type |
//! | the sender's id and a timestamp in each message | [`Letter::from`], [`Letter::sent_at`] |
//!
//! # What is promised
//!
//! * What one process sends to another one after the other arrives in that order.
//! * Nobody can send in another's name: the primary says who a letter is from.
//! * Bounded in each place, in bytes, number and descriptors, by [`Limits`]: a process that does not take what comes to it is not read any
//!   more, and who sends to it waits, or is [told](crate::Error::NotTaken). It holds up nobody else.
//! * Fair: nobody has more than a share of the calls that another process has open, however many it asks.
//! * A [`request`](Port::request) ends exactly once. That the one who was asked has died is an [error of its own](crate::Error::Gone): whether it acted on
//!   the request can't be known.
//! * Letters that nobody handles yet wait for their handler, the last ones of them, as [many](Limits::unhandled) as may.
//!
//! ```
//! use cluster_ipc::events::{Call, Event};
//! use cluster_ipc::session::Config;
//! use cluster_ipc::switch::{Port, Switch, To};
//! use cluster_ipc::tokio::Endpoint;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add(u32, u32);
//! impl Event for Add {
//!     const NAME: &'static str = "add";
//! }
//! impl Call for Add {
//!     type Reply = u32;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cluster_ipc::Error> {
//! // All in one process here; a worker's endpoint is usually in a process of its own.
//! let switch: Switch<u32> = Switch::new();
//! let worker = |key| -> Result<Port<u32>, cluster_ipc::Error> {
//!     let (here, there) = Endpoint::pair(Config::new())?;
//!     tokio::spawn(switch.attach(key, here));
//!     let (port, serving) = Port::new(there);
//!     tokio::spawn(serving);
//!     Ok(port)
//! };
//! let (one, two) = (worker(1)?, worker(2)?);
//! two.answer(async |add: cluster_ipc::switch::Letter<Add, u32>| {
//!     add.message.0.checked_add(add.message.1).ok_or_else(|| "too much".to_owned())
//! });
//! assert_eq!(one.request(To::Worker(2), &Add(1, 2)).await?, 3);
//! # Ok(()) }
//! ```

mod budget;
mod callee;
mod envelope;
mod exchange;
mod letters;
mod limits;
mod mailbox;
mod port;
mod routes;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::exchange::Switch;
pub use self::letters::Letters;
pub use self::limits::Limits;
pub use self::port::{AnswersCall, Port};

/// What workers are known by. It must not be given to another one later.
pub trait Key:
    Copy + Ord + fmt::Debug + fmt::Display + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Key for K where
    K: Copy + Ord + fmt::Debug + fmt::Display + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// One of the processes that talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "there is nobody else")]
pub enum Peer<K> {
    /// The one with a connection to each.
    Primary,
    /// One of the others.
    Worker(K),
}

/// Whom something is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum To<K> {
    /// The primary.
    Primary,
    /// This worker and no other.
    Worker(K),
    /// Whoever has this number [at the time](Switch::assign).
    Slot(u32),
}

impl<K> From<Peer<K>> for To<K> {
    fn from(peer: Peer<K>) -> Self {
        match peer {
            Peer::Primary => Self::Primary,
            Peer::Worker(key) => Self::Worker(key),
        }
    }
}

impl<K: fmt::Display> fmt::Display for Peer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("the primary"),
            Self::Worker(key) => write!(f, "worker {key}"),
        }
    }
}

impl<K: fmt::Display> fmt::Display for To<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("the primary"),
            Self::Worker(key) => write!(f, "worker {key}"),
            Self::Slot(slot) => write!(f, "the worker of slot {slot}"),
        }
    }
}

/// A message as it arrives.
#[derive(Debug)]
#[non_exhaustive]
pub struct Letter<E, K> {
    /// Who sent it: the primary vouches for that.
    pub from: Peer<K>,
    /// When, by the sender's clock.
    pub sent_at: SystemTime,
    /// What it says.
    pub message: E,
    /// The descriptors that came with it; closed when dropped.
    pub descriptors: Vec<OwnedFd>,
}

/// What became of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reached<K> {
    /// How many it is on its way to.
    pub workers: usize,
    /// Those who didn't get it: they take nothing, and too much waits for them already.
    pub missed: Vec<K>,
}
