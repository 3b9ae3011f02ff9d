//! Sockets on which a worker accepts by itself.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, UnixListener};

use super::io::Io;
use crate::Address;

/// A listening socket of this process.
#[derive(Debug)]
pub(super) enum Direct {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Direct {
    /// What a descriptor is that listens on this address.
    pub(super) fn new(socket: OwnedFd, address: &Address) -> io::Result<Self> {
        match address.ip() {
            Some(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            None => UnixListener::from_std(socket.into()).map(Self::Unix),
        }
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Io, Address)>> {
        Poll::Ready(match self {
            Self::Tcp(socket) => {
                ready!(socket.poll_accept(cx)).map(|(stream, peer)| (Io::Tcp(stream), peer.into()))
            }
            Self::Unix(socket) => ready!(socket.poll_accept(cx)).map(|(stream, peer)| {
                let peer = Address::Unix(peer.as_pathname().map(Into::into));
                (Io::Unix(stream), peer)
            }),
        })
    }
}
