//! Sockets on which a worker accepts by itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, getpeername};
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixStream};

use super::io::Io;
use crate::Address;

/// A listening socket of this process, and of others.
#[derive(Debug)]
pub(super) enum Direct {
    Tcp(TcpListener),
    /// It is a stream by name only. tokio's listener would try again and again on one that was shut down, which is readable for ever.
    Unix(UnixStream),
}

impl Direct {
    /// What a descriptor is that listens on this address. It must be non-blocking.
    pub(super) fn new(socket: OwnedFd, address: &Address) -> io::Result<Self> {
        match address.ip() {
            Some(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            None => UnixStream::from_std(socket.into()).map(Self::Unix),
        }
    }

    /// Pending for ever once the primary has [ended](crate::ListeningSocket) it for all: nobody comes any more.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Io, Address)>> {
        match self {
            Self::Tcp(socket) => match ready!(socket.poll_accept(cx)) {
                Ok((stream, peer)) => Poll::Ready(Ok((Io::Tcp(stream), peer.into()))),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            Self::Unix(socket) => poll_accept_unix(socket, cx),
        }
    }
}

fn poll_accept_unix(socket: &UnixStream, cx: &mut Context<'_>) -> Poll<io::Result<(Io, Address)>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let accept = || Ok(accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?);
        match socket.try_io(Interest::READABLE, accept) {
            Ok(stream) => {
                let peer = getpeername(&stream)?.map_or(Address::Unix(None), Address::from);
                return Poll::Ready(Ok((Io::Unix(UnixStream::from_std(stream.into())?), peer)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Otherwise somebody else was faster: it is waited for again.
                if is_shut_down(socket) {
                    return Poll::Pending;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn is_shut_down(socket: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&at_once)).is_ok()
        && polled.iter().any(|polled| polled.revents().contains(PollFlags::RDHUP))
}
