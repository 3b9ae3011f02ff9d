//! A listening socket, and how it ends: nobody is let in who would then find nobody.
//!
//! Closing a listening socket resets whoever is in its queue. Until the last copy is closed, on the other hand, the kernel goes on to let
//! clients in, whether anybody accepts or not. So it ends in four steps:
//!
//! | step | TCP | Unix |
//! |------|-----|------|
//! | nobody new is let in ([`refuse`](ListeningSocket::refuse)) | [a filter](filter) drops the first packet of new connections | shut down: connecting fails at once |
//! | who is half in comes in | [handshakes](handshakes) that are under way end | (there is nothing between in and out) |
//! | who is in is accepted, to EAGAIN | | |
//! | it ends ([`end`](ListeningSocket::end)) | shut down: connecting fails at once | |
//!
//! All of these work on what the copies of a socket share, in whichever process they are: it does not matter who holds one still.
//!
//! # What the kernel does
//!
//! Found by experiment on Linux 6.18.
//!
//! * To *shut down* a listening TCP socket is to disconnect it (`inet_shutdown`, `tcp_disconnect`): it is taken off the port at once, for all
//!   who have a copy, and whoever is in its queue is reset. Accepting fails with EINVAL from then on, and who waits is told (EPOLLHUP). Others may
//!   listen on the port, if both set SO_REUSEADDR.
//! * To shut down a Unix one loses nobody: its queue can still be accepted, and then there is EAGAIN. Connecting fails with ECONNREFUSED at
//!   once, also for who waits for a place in the queue.
//! * A filter (SO_ATTACH_FILTER) sees each packet before the listening socket does, and also those that end a handshake which this socket
//!   began (`tcp_v4_rcv` asks that of `rsk_listener`). So it lets through all but bare SYNs. One that drops everything keeps the client's last step
//!   out: he believes that he is connected, and is reset later.
//! * Who is dropped tries again after 1 s (RFC 6298), and is refused then. There is no way to refuse him before those in the queue are accepted:
//!   a socket that refuses has none.
//! * A connection inherits the filter of its socket. It never sees a bare SYN of its own.
//!
//! # What can't be had
//!
//! * With SYN cookies (the queue of half-open connections has overflowed) the kernel itself does not know who is half in.
//! * A packet that passed the filter's place on another processor just before the filter came is waited for by time: 5 ms, see `FIRST_LOOK`
//!   in the acceptor.
//! * Where filters are forbidden (seccomp, gVisor) whoever connects between the last EAGAIN and the end is reset.

mod filter;
mod handshakes;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockRef;

pub(crate) use self::handshakes::Port;

/// A listening socket of a [`Listeners`](crate::Listeners), or a copy of one.
///
/// It may be made to refuse clients for all who have a copy. One that is inherited never is: whoever passed it on goes on to listen, and
/// clients wait there for the next that is started with it.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: OwnedFd,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    /// Who started this process.
    Another,
}

impl ListeningSocket {
    /// One that this process was started with, or a copy of it.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self { socket, owner: Owner::Another }
    }

    /// A copy.
    ///
    /// # Errors
    ///
    /// No descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, owner: self.owner })
    }

    /// Lets nobody in any more who has not begun to come in.
    pub(crate) fn refuse(&self) -> io::Result<()> {
        match (self.owner, self.port()?) {
            (Owner::Another, _) => Ok(()),
            (Owner::Us, Some(_)) => filter::drop_new(&self.socket),
            (Owner::Us, None) => SockRef::from(&self.socket).shutdown(Shutdown::Read),
        }
    }

    /// Where clients may be half in, if it is a socket of ours where that can be.
    pub(crate) fn half_open(&self) -> Option<Port> {
        let port = self.port().ok().flatten();
        port.filter(|_| self.owner == Owner::Us)
    }

    /// Refuses everybody, and resets who is in its queue.
    pub(crate) fn end(&self) {
        if self.owner == Owner::Us {
            // It fails only when it does not listen any more, which is what we want.
            let _ = SockRef::from(&self.socket).shutdown(Shutdown::Read);
        }
    }

    /// `None` for a Unix socket.
    fn port(&self) -> io::Result<Option<Port>> {
        // Of the socket and not of the address: one of tests has an address of another kind.
        let address = SockRef::from(&self.socket).local_addr()?;
        Ok(address.as_socket().map(|address| Port::of(&address)))
    }
}

impl From<OwnedFd> for ListeningSocket {
    /// One that this process has bound.
    fn from(socket: OwnedFd) -> Self {
        Self { socket, owner: Owner::Us }
    }
}

impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> Self {
        socket.socket
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
