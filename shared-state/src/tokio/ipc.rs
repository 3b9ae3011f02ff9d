//! A channel of `cluster_ipc` as a link.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use cluster_ipc::tokio::Channel;
use cluster_ipc::{Error, Frame, Kind, Outbox, Socket};
use futures_core::Stream;
use futures_sink::Sink;

use crate::command::MOST_OPERATIONS;

/// Bytes of a message that go in one frame; a longer one takes several.
const PIECE: usize = 256 << 10;

/// Bytes that may wait here before the link is no longer ready: what the kernel takes in a few writes.
const WAITING: usize = 64 << 10;

/// Pieces that are handed on before others get their turn.
const TURN: usize = 16;

/// What an operation or a condition takes on the wire at most, beside its keys and values.
const OPERATION: usize = 96;

/// The id of a frame that is not the last of its message.
const MORE: u64 = 1;

/// A [link](super::Link) over one end of a socket pair. Messages of any length go in pieces; those that come may have so many bytes
/// at most ([`max_request`] says what a primary needs, a replica trusts its primary and takes `usize::MAX`).
///
/// # Errors
///
/// As [`Channel::new`].
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn link(socket: Socket, max_message: usize) -> Result<Pieces, Error> {
    let channel = cluster_ipc::Channel::new(socket).outbox(Outbox::new().limit(WAITING)).max_frame(PIECE);
    let channel = Channel::new(channel)?;
    Ok(Pieces { channel, message: BytesMut::new(), max_message, going: Bytes::new() })
}

pub use super::ring::{Bell, Broadcast, Listening, Ring, accept, broadcast, offer};

/// What a primary with these limits has to take of a replica.
pub const fn max_request(limits: &crate::Limits) -> usize {
    // Of two bounds of a range the longer one counts. What has more operations than it may is taken, too, to be refused.
    let operations = 3 * MOST_OPERATIONS * OPERATION;
    limits.command_bytes.saturating_mul(2).saturating_add(operations)
}

/// A channel that carries messages of any length, in pieces. Made by [`link`].
#[derive(Debug)]
pub struct Pieces {
    channel: Channel,
    /// What has come of a message that is not whole.
    message: BytesMut,
    max_message: usize,
    /// What the channel has not got yet of a message: shared with all who are sent the same, while the channel copies.
    going: Bytes,
}

impl Pieces {
    /// Says that before anything else.
    pub(super) fn begin_with(&mut self, frame: Frame<OwnedFd>) -> Result<(), Error> {
        Pin::new(&mut self.channel).start_send(frame)
    }

    /// What the peer says before anything else.
    pub(super) async fn first(&mut self) -> Result<Frame<OwnedFd>, Error> {
        self.channel.recv().await
    }

    /// Hands the channel what goes, as it takes it.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        for _ in 0..TURN {
            if self.going.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut self.channel).poll_ready(cx))?;
            self.send_piece()?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn send_piece(&mut self) -> Result<(), Error> {
        let (id, piece) = if self.going.len() > PIECE {
            (MORE, self.going.split_to(PIECE))
        } else {
            (0, std::mem::take(&mut self.going))
        };
        Pin::new(&mut self.channel).start_send(Frame::new(Kind::Message, id, piece))
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.channel).poll_next(cx)).transpose()? else {
                return Poll::Ready(None);
            };
            let piece = frame.payload();
            let len = self.message.len().saturating_add(piece.len());
            if len > self.max_message {
                return Poll::Ready(Some(Err(Error::FrameTooLarge { len, max: self.max_message })));
            }
            if frame.id() == MORE {
                self.message.extend_from_slice(piece);
            } else if self.message.is_empty() {
                return Poll::Ready(Some(Ok(piece.clone())));
            } else {
                self.message.extend_from_slice(piece);
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.message).freeze())));
            }
        }
    }
}

impl Sink<Bytes> for Pieces {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pieces(cx))?;
        Pin::new(&mut self.channel).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Error> {
        self.going = message;
        self.send_piece()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pieces(cx))?;
        Sink::poll_flush(Pin::new(&mut self.channel), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pieces(cx))?;
        Pin::new(&mut self.channel).poll_close(cx)
    }
}
