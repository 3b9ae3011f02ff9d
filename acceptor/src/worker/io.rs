//! The kinds of connections, as one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::Address;

/// A connection of TCP or of a Unix socket.
#[derive(Debug)]
pub(super) enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of whichever it is, pinned.
macro_rules! pinned {
    ($io:expr, $method:ident $(, $argument:expr)*) => {
        match $io.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Self::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl Io {
    /// What a descriptor on a listener of this address is.
    pub(super) fn new(stream: OwnedFd, listener: &Address) -> io::Result<Self> {
        // Of tests, under whatever address.
        #[cfg(feature = "test-util")]
        if socket2::SockRef::from(&stream).domain()? == socket2::Domain::UNIX {
            return UnixStream::from_std(stream.into()).map(Self::Unix);
        }
        match listener.ip() {
            Some(_) => TcpStream::from_std(stream.into()).map(Self::Tcp),
            None => UnixStream::from_std(stream.into()).map(Self::Unix),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<Address> {
        Ok(rustix::net::getpeername(self)?.map_or(Address::Unix(None), Address::from))
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        Address::of(self)
    }

    /// A Unix socket has no delay.
    pub(super) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(nodelay),
            Self::Unix(_) => Ok(()),
        }
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pinned!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pinned!(self, poll_write, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pinned!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pinned!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pinned!(self, poll_shutdown, cx)
    }
}
