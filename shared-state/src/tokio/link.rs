//! What carries messages.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use thiserror::Error;

use crate::{Misbehaviour, ProtocolError};

/// What carries whole messages in order, both ways: what comes is a stream of bytes, what goes a sink for them.
///
/// Implemented for whatever is both. The sink should be ready only while little waits in it.
pub trait Link:
    Stream<Item = Result<Self::Message, Self::Failure>> + Sink<Bytes, Error = Self::Failure>
{
    /// What the stream gives.
    type Message: Into<Bytes>;
    /// How it fails.
    type Failure: Into<Box<dyn Error + Send + Sync>>;
}

impl<T, M, E> Link for T
where
    T: Stream<Item = Result<M, E>> + Sink<Bytes, Error = E>,
    M: Into<Bytes>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Message = M;
    type Failure = E;
}

/// Why a link is of no use any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It ended.
    #[error("the link ended")]
    Ended,
    /// It failed.
    #[error("the link failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The other side said what makes no sense.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The primary does not talk to this replica any more: something is wrong with the replica.
    #[error("the primary cut the replica off: {0}")]
    CutOff(#[source] Misbehaviour),
    /// The replica is gone for good.
    #[error("the replica is gone")]
    Gone,
}

/// Messages that are taken, and that are given, before others get their turn.
const BATCH: usize = 64;

/// Bytes of those that are taken, after which no more are: they are all in memory before the first is handled.
const BATCH_BYTES: usize = 1 << 20;

/// What has come over a link, and is to be handled.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) messages: Vec<Bytes>,
    /// Why nothing comes after these. The stream is not asked again.
    pub(super) end: Option<LinkError>,
}

/// Takes what has come, up to a bound. Says whether there may be more at once.
pub(super) fn receive<L: Link>(mut link: Pin<&mut L>, cx: &mut Context<'_>, inbox: &mut Inbox) -> bool {
    let mut bytes = 0;
    while inbox.end.is_none() && inbox.messages.len() < BATCH && bytes < BATCH_BYTES {
        match link.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                let message = message.into();
                bytes += message.len();
                inbox.messages.push(message);
            }
            Poll::Ready(Some(Err(error))) => inbox.end = Some(LinkError::Failed(error.into())),
            Poll::Ready(None) => inbox.end = Some(LinkError::Ended),
            Poll::Pending => return false,
        }
    }
    inbox.end.is_none()
}

/// Hands over what is to go, as long as the link is ready for it, up to a bound. Ready when it was reached (`true`), or when there is
/// nothing more to go, all of it handed over (`false`).
pub(super) fn send<L: Link>(
    mut link: Pin<&mut L>,
    cx: &mut Context<'_>,
    mut next: impl FnMut(&mut Context<'_>) -> Result<Option<Bytes>, LinkError>,
) -> Poll<Result<bool, LinkError>> {
    let failed = |error: L::Failure| LinkError::Failed(error.into());
    for _ in 0..BATCH {
        ready!(link.as_mut().poll_ready(cx)).map_err(failed)?;
        match next(cx)? {
            Some(message) => link.as_mut().start_send(message).map_err(failed)?,
            None => return link.poll_flush(cx).map(|flushed| flushed.map(|()| false).map_err(failed)),
        }
    }
    match link.poll_flush(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(true)),
    }
}
