//! What primary and worker say to each other, beside the connections themselves.
//!
//! Three wires per worker. That of the shared state is `cluster_shared_state`'s. On the *control* channel: the greeting in the Welcome, then messages and requests. On
//! the *data* channel: batches of connections one way, empty frames ("the bell") the other way, see
//! [`Batch`].

use std::net::SocketAddr;
use std::time::Duration;

use cluster_ipc::board::Ticket;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::address::Address;
use crate::listen::{Listen, Mode};
use crate::status::ClusterStatus;

/// The application's part of the Welcome. Four descriptors come with it: the data channel, the
/// board, the lifeline (a pipe that ends when the primary does), and the socket of the shared state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// How often to beat.
    pub(crate) heartbeat: Duration,
    /// How long idle connections stay open in the first phase of a drain.
    pub(crate) linger: Duration,
    /// How long the process may outlive the primary.
    pub(crate) orphan_timeout: Duration,
    /// The soft limit of open files that the primary had before it raised its own.
    pub(crate) open_files: u64,
    /// How many connections it may have at a time.
    pub(crate) connections: Option<u32>,
}

/// A message from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToPrimary {
    /// The application accepts connections on this listener, and can hold so many of all.
    Accepting {
        /// Which.
        listener: u8,
        /// How many connections it can hold before it comes near its limit of open files.
        capacity: u32,
    },
    /// The application has dropped this listener.
    Dropped {
        /// Which.
        listener: u8,
    },
    /// The application is ready.
    Ready,
    /// The worker was told to leave by somebody else, or can receive no more: it drains and ends.
    Leaving,
    /// The application can take work now, or can't.
    Readiness(bool),
    /// What the application counts, by its names: those that were said since the last time.
    Gauges(Vec<(String, f64)>),
}

/// A message to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// Finish what you have and exit.
    Drain,
}

/// A request of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Share a listening socket. `nth` counts the listeners on port 0 that this worker asked for on
    /// that address before: the n-th of every worker share one port.
    Listen {
        /// Which.
        listen: Listen,
        /// See above; 0 for any other port.
        nth: u32,
    },
    /// How is everybody?
    Status,
}

/// The answer to [`Request::Listen`], or the `errno` of what failed.
pub(crate) type ListenReply = Result<Granted, i32>;

/// A listener that a worker may use. Where it accepts itself, the socket comes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) listener: u8,
    /// The real one.
    pub(crate) address: Address,
    pub(crate) mode: Mode,
}

/// The answer to [`Request::Status`].
pub(crate) type StatusReply = ClusterStatus;

/// Connections on their way to a worker, each with its descriptor, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) offers: Vec<Offer>,
}

/// One connection of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    listener: u8,
    index: u16,
    sequence: u64,
    /// None at a Unix socket's client, who has no name.
    peer: Option<SocketAddr>,
}

impl Offer {
    pub(crate) fn new(listener: u8, ticket: Ticket, peer: Option<SocketAddr>) -> Self {
        Self { listener, index: ticket.index(), sequence: ticket.sequence(), peer }
    }

    pub(crate) fn listener(&self) -> u8 {
        self.listener
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::new(self.index, self.sequence)
    }

    pub(crate) fn peer(&self) -> Address {
        self.peer.map_or(Address::Unix(None), Address::Ip)
    }
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(message).map_err(|source| Error::Encode { source })
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    postcard::from_bytes(bytes).map_err(|source| Error::Decode { what: std::any::type_name::<T>(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_from_the_other_side_is_an_error() {
        for length in 0..64 {
            let garbage = vec![0xff; length];
            drop(decode::<Batch>(&garbage));
            assert!(decode::<ToPrimary>(&garbage).is_err());
            assert!(decode::<Request>(&garbage).is_err());
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        // A batch of 2³⁵ offers, in six bytes.
        assert!(decode::<Batch>(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).is_err());
    }
}
