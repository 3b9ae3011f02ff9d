//! What primary and worker say to each other, beside the connections themselves.
//!
//! Four wires per worker. The *data* channel, with the connections, is `cluster_acceptor`'s; that of the shared state is `cluster_shared_state`'s, that of the application's messages `cluster_ipc::switch`'s. On the *control* channel: the greeting in the Welcome, then messages and requests.

use std::time::Duration;

use cluster_acceptor::Granted;
use cluster_acceptor::worker::Deadlines;
use cluster_supervisor::WorkerId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::status::ClusterStatus;
use crate::{Error, Listen, Settings};

/// Names of gauges of one worker that are listened to.
pub(crate) const GAUGES: usize = 64;

/// Bytes of the name of a gauge or a counter.
pub(crate) const LONGEST_NAME: usize = 64;

/// The application's part of the Welcome. Five descriptors come with it: the data channel, the
/// board, the lifeline (a pipe that ends when the primary does), the socket of the shared state, and that of the messages.
/// Those of the settings follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// How often to beat.
    pub(crate) heartbeat: Duration,
    /// How long it takes to leave.
    pub(crate) deadlines: Deadlines,
    /// How long the process may outlive the primary.
    pub(crate) orphan_timeout: Duration,
    /// The soft limit of open files that the primary had before it raised its own.
    pub(crate) open_files: u64,
    /// How many connections it may have at a time.
    pub(crate) connections: Option<u32>,
    /// The names of the descriptors that come after those.
    pub(crate) descriptors: Vec<String>,
}

impl Greeting {
    /// The same for this worker, with what the settings say of it and hand to it.
    pub(crate) fn to(&self, id: WorkerId, settings: &Settings) -> Self {
        let (connections, descriptors) = (settings.max_connections_per_worker, settings.descriptors.names());
        Self { slot: id.slot(), generation: id.generation(), connections, descriptors, ..self.clone() }
    }
}

/// A message from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToPrimary {
    /// The application accepts connections on this listener, and can hold so many of all.
    Accepting {
        /// Which.
        listener: u8,
        /// How many connections it can hold before it comes near its limit of open files, or is at its own; with 0 it gets none.
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
    /// What the application calls one of the counters on its board.
    Counter {
        /// Which.
        number: u8,
        /// Its name.
        name: String,
    },
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
    /// The application ends by itself. The answer, which says nothing, comes when that is known, so that it is no crash.
    Leave,
    /// How is everybody?
    Status,
}

/// The answer to [`Request::Listen`], or the `errno` of what failed.
pub(crate) type ListenReply = Result<Granted, i32>;

/// The answer to [`Request::Status`].
pub(crate) type StatusReply = ClusterStatus;

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
            assert!(decode::<ToPrimary>(&garbage).is_err());
            assert!(decode::<Request>(&garbage).is_err());
        }
    }
}
