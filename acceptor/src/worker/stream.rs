//! A connection in the application's hands.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cluster_ipc::board::WorkerBoard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::connection::Connection;
use super::drain::Pass;
use super::intake::Place;
use super::io::Io;
use crate::Address;

/// A connection that this worker has taken.
///
/// Reads and writes like a [`TcpStream`](tokio::net::TcpStream), of a Unix socket too. Dropping it shuts the connection down for every process that may still
/// hold a copy of its descriptor (a stopped worker's stale one, say), so that the client sees the end at once, and
/// counts the connection as finished.
///
/// It ends by itself, as if the client had gone, at its [deadline](super::Deadlines) when the worker leaves.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    /// The writing side was shut down in good order, so the client has been told.
    told: bool,
    pass: Arc<Pass>,
    account: Account,
}

/// Counts the connection on the board, once, at the end.
#[derive(Debug)]
pub(super) struct Account {
    board: Arc<WorkerBoard>,
    bell: Arc<Notify>,
    _place: Place,
    /// By which the connection can be cut.
    #[cfg(feature = "test-util")]
    pub(super) copy: Option<Arc<std::os::fd::OwnedFd>>,
}

impl Account {
    pub(super) fn new(board: Arc<WorkerBoard>, bell: Arc<Notify>, place: Place) -> Self {
        Self {
            board,
            bell,
            _place: place,
            #[cfg(feature = "test-util")]
            copy: None,
        }
    }

    /// Rings if the primary waits to hear of something taken or finished.
    pub(super) fn ring_if_wanted(&self) {
        if self.board.doorbell_wanted() {
            self.bell.notify_one();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.board.finish();
        self.ring_if_wanted();
    }
}

impl Stream {
    pub(super) fn new(io: Io, pass: Pass, account: Account) -> Self {
        let pass = Arc::new(pass);
        pass.remember(&io);
        Self { io, told: false, pass, account }
    }

    /// The same connection for others: for a handler that is to say that it is a long-lived one.
    pub fn connection(&self) -> Connection {
        Connection::new(Arc::downgrade(&self.pass))
    }

    /// The client's address.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.io.peer_addr()
    }

    /// The address the client connected to.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.io.local_addr()
    }

    /// Sets `TCP_NODELAY`: send small writes at once. Off by default, as in the kernel.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.set_nodelay(nodelay)
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.pass.handle_read();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        self.told |= done.is_ok();
        Poll::Ready(done)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pass.forget(&self.io);
        if !self.told {
            // It may be broken already, which is as good.
            let _ = socket2::SockRef::from(&self.io).shutdown(Shutdown::Both);
        }
    }
}
