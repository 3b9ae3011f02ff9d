//! A frame-level [`Channel`](crate::Channel) that waits, and a descriptor that becomes readable.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watch::{Watch, register};
use crate::{Error, Frame, TrySendError};

/// A descriptor that becomes readable once, like a pidfd, or from time to time, like a pipe's end.
#[derive(Debug)]
pub struct Readable {
    io: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Registers a descriptor with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when epoll cannot watch it.
    pub fn new(fd: OwnedFd) -> Result<Self, Error> {
        Ok(Self { io: register(fd, Interest::READABLE)? })
    }

    /// Waits until it is readable, which includes its end of file. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the runtime is shutting down.
    pub async fn readable(&self) -> Result<(), Error> {
        let mut guard = self.io.readable().await.map_err(Error::os("wait for a descriptor"))?;
        guard.retain_ready();
        Ok(())
    }

    /// Forgets that it was readable: [`readable`](Self::readable) waits for something new from now on. To be called before what it
    /// tells of is looked at, so that nothing is missed.
    pub fn clear(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(mut guard)) = self.io.poll_read_ready(&mut cx) {
            guard.clear_ready();
        }
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// An async channel.
///
/// Not built on tokio's `AsyncRead`: a read on a socket that carries descriptors may stop early although more
/// is waiting; tokio takes such a short read for "drained" and would wait for ever. Readiness is cleared
/// here when the kernel said that it would block, or when a short read brought no descriptors.
///
/// Dropping it closes the socket; frames not yet flushed are lost.
///
/// ```
/// # use cluster_ipc::{Frame, Kind};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cluster_ipc::Error> {
/// let (here, there) = cluster_ipc::Channel::pair()?;
/// let mut here = cluster_ipc::tokio::Channel::new(here)?;
/// let mut there = cluster_ipc::tokio::Channel::new(there)?;
/// here.try_send(Frame::new(Kind::Message, 0, &b"hello"[..])).expect("the outbox is empty");
/// here.flush().await?;
/// assert_eq!(&there.recv().await?.payload()[..], b"hello");
/// # Ok(()) }
/// ```
///
/// It is a [`Stream`] of frames, too, which ends where [`recv`](Self::recv) says that the peer is gone, and a [`Sink`] for them, which is
/// ready while less than the [limit](crate::Outbox::limit) of the outbox waits.
#[derive(Debug)]
pub struct Channel {
    /// Before the channel, which owns the descriptor: dropped first.
    watch: Watch<Lent>,
    inner: crate::Channel,
}

/// The descriptor of a channel's socket.
#[derive(Clone, Debug)]
struct Lent(RawFd);

impl AsRawFd for Lent {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Channel {
    /// Registers a channel with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the descriptor could not be registered.
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime, or in one without its I/O driver, as all of tokio's own types do.
    pub fn new(channel: crate::Channel) -> Result<Self, Error> {
        let watch = Watch::new(Lent(channel.as_fd().as_raw_fd()))?;
        Ok(Self { watch, inner: channel })
    }

    /// Queues a frame. It is written by the next [`recv`](Self::recv) or [`flush`](Self::flush), together with
    /// whatever else was queued by then.
    ///
    /// # Errors
    ///
    /// The frame comes back, as in [`crate::Channel::try_send`].
    pub fn try_send(&mut self, frame: Frame<OwnedFd>) -> Result<(), TrySendError<Frame<OwnedFd>>> {
        self.inner.try_send(frame)
    }

    /// Waits until all that was queued has been taken by the kernel. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] or [`Error::Os`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Waits for the next frame, and meanwhile writes what is queued. Cancel-safe: nothing is lost when the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// As [`crate::Channel::poll_frame`].
    pub async fn recv(&mut self) -> Result<Frame<OwnedFd>, Error> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Returns a frame that has arrived already, without waiting.
    ///
    /// # Errors
    ///
    /// As [`crate::Channel::poll_frame`].
    pub fn try_recv(&mut self) -> Result<Option<Frame<OwnedFd>>, Error> {
        self.inner.poll_frame()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame<OwnedFd>, Error>> {
        // A failed write is no reason to lose the last words of a peer that died: reading reports
        // the same end after them.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx)
            && !matches!(error, Error::PeerGone)
        {
            return Poll::Ready(Err(error));
        }
        if let Some(frame) = self.inner.poll_decoded()? {
            return Poll::Ready(Ok(frame));
        }
        loop {
            let mut guard = ready!(self.watch.poll_readable(cx))?;
            let frame = self.inner.poll_frame()?;
            // Only what the guard saw is cleared: an event that came since keeps the channel ready, and so does the end.
            if frame.is_none() || self.inner.is_drained() {
                guard.clear_ready();
            }
            if let Some(frame) = frame {
                return Poll::Ready(Ok(frame));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.inner.flush()? {
            let mut guard = ready!(self.watch.poll_room(cx))?;
            // Readiness may be old: it is cleared only after the socket said that it would block.
            if self.inner.flush()? {
                break;
            }
            guard.clear_ready();
        }
        Poll::Ready(self.watch.flushed())
    }
}

impl Stream for Channel {
    type Item = Result<Frame<OwnedFd>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(|received| match received {
            Err(Error::PeerGone) => None,
            received => Some(received),
        })
    }
}

impl Sink<Frame<OwnedFd>> for Channel {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.inner.has_room() { Poll::Ready(Ok(())) } else { Self::poll_flush(&mut self, cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame<OwnedFd>) -> Result<(), Error> {
        self.inner.push(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Self::poll_flush(&mut self, cx)
    }

    /// Only flushes: dropping the channel closes it.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Self::poll_flush(&mut self, cx)
    }
}
