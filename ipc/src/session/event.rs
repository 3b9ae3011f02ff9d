//! What a session reports.

use std::time::Instant;

use bytes::Bytes;

use super::calls::{CallId, RequestId};
use super::message::Failure;
use crate::Error;

/// What happened, in the order in which it did. `M` is the form of a message: [`Incoming`](super::Incoming) for a
/// [`Session`](super::Session), [`Message`](crate::Message) for a [`Connection`](crate::Connection).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<M, F> {
    /// The handshake is done: messages may be sent.
    Opened(Opened<F>),
    /// A message that expects no answer.
    Message(M),
    /// A message that expects one: [`respond`](super::Session::respond), [`fail`](super::Session::fail).
    Request {
        /// Whose answer it will be.
        id: RequestId,
        /// When the peer will have given up, if it ever does.
        deadline: Option<Instant>,
        /// The request itself.
        message: M,
    },
    /// The peer no longer waits for the answer to this request. It must be answered all the same, so that its place
    /// becomes free; what the answer says doesn't matter.
    Cancelled(RequestId),
    /// A request of this side ended; each does exactly once.
    Completed(CallId, Outcome<M>),
    /// So many messages of a broadcast were left out here, because this side took them too slowly.
    Gap {
        /// How many.
        missed: u64,
    },
    /// Something was refused as `Full` before; it may fit now.
    Writable,
    /// The peer will send no more messages and requests; its replies still come.
    Finished,
    /// The end, and why. Nothing comes after it; everything the peer sent came before.
    Closed(Error),
}

impl<M, F> Event<M, F> {
    /// Whether it is something from the peer's application, in the order of its lane.
    pub(super) fn is_arrival(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Request { .. } | Self::Gap { .. })
    }
}

/// How a request of this side ended.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<M> {
    /// With an answer.
    Reply(M),
    /// The other side said that there is no answer, and why.
    Failed(Failure),
    /// The deadline came first. The peer was told that nobody waits any more.
    TimedOut,
    /// It was cancelled on this side. The peer was told.
    Cancelled,
    /// The connection ended first. Whether the peer has acted on the request can't be known.
    PeerGone,
}

/// What the peer said in the handshake.
#[derive(Debug)]
pub struct Opened<F> {
    pub(super) payload: Bytes,
    pub(super) descriptors: Vec<F>,
    pub(super) schema: u32,
}

impl<F> Opened<F> {
    /// What the peer's application put into its part of the handshake.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The same for one more who asks; the descriptors go to the first.
    #[cfg(any(feature = "blocking", feature = "tokio"))]
    pub(crate) fn share(&mut self) -> Self {
        Self { payload: self.payload.clone(), descriptors: self.take_descriptors(), schema: self.schema }
    }

    /// Takes the descriptors that came with the Welcome.
    pub fn take_descriptors(&mut self) -> Vec<F> {
        std::mem::take(&mut self.descriptors)
    }

    /// The number of the peer's set of messages. See [the version rule](crate::codec#the-version-rule).
    pub fn schema(&self) -> u32 {
        self.schema
    }
}
