//! UDP sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::Address;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::listen::{self, Listen, Mode};

/// Sockets on one address: one for all, or one for each slot.
///
/// The primary keeps them, so datagrams that arrive while a worker is away wait for its successor, as far as the buffer goes. They
/// are not steered: the kernel's hash keeps one peer at one socket, and a random choice for each datagram would not.
#[derive(Debug)]
pub(super) struct Datagrams {
    address: SocketAddr,
    only_v6: Option<bool>,
    mode: Mode,
    /// By slot; one for all is at 0.
    sockets: BTreeMap<u32, OwnedFd>,
}

impl Datagrams {
    pub(super) fn bind(address: SocketAddr, listen: &Listen, mode: Mode) -> io::Result<Self> {
        let only_v6 = listen.only_v6;
        let mode = if mode == Mode::ReusePort { mode } else { Mode::Shared };
        let socket = open(address, only_v6, mode)?;
        let address = socket.local_addr()?.as_socket().ok_or(Errno::AFNOSUPPORT)?;
        Ok(Self { address, only_v6, mode, sockets: BTreeMap::new() }.with_first(socket))
    }

    /// One that was there before, for all.
    pub(super) fn inherited(socket: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&socket)? != rustix::net::SocketType::DGRAM {
            return Err(Errno::PROTOTYPE.into());
        }
        let address = Address::of(&socket)?.ip().ok_or(Errno::AFNOSUPPORT)?;
        let sockets = BTreeMap::from([(0, socket)]);
        Ok(Self { address, only_v6: None, mode: Mode::Shared, sockets })
    }

    /// It is nobody's yet: the first slot that asks gets it.
    fn with_first(mut self, socket: Socket) -> Self {
        let place = if self.mode == Mode::ReusePort { u32::MAX } else { 0 };
        self.sockets.insert(place, socket.into());
        self
    }

    /// The real one.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// A copy of the socket of a slot. A successor gets the same socket as its predecessor.
    pub(super) fn copy(&mut self, slot: u32) -> io::Result<OwnedFd> {
        let place = if self.mode == Mode::ReusePort { slot } else { 0 };
        if let Some(first) = self.sockets.remove(&u32::MAX) {
            self.sockets.insert(place, first);
        }
        if !self.sockets.contains_key(&place) {
            self.sockets.insert(place, open(self.address, self.only_v6, self.mode)?.into());
        }
        self.sockets.get(&place).ok_or(Errno::BADF)?.try_clone()
    }

    /// A slot wants its socket no more: peers whose datagrams came there come to others. The last one stays, for the next who asks.
    pub(super) fn release(&mut self, slot: u32) {
        if self.mode == Mode::ReusePort
            && let Some(socket) = self.sockets.remove(&slot)
            && self.sockets.is_empty()
        {
            self.sockets.insert(u32::MAX, socket);
        }
    }
}

fn open(address: SocketAddr, only_v6: Option<bool>, mode: Mode) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    listen::choose_families(&socket, address, only_v6)?;
    socket.set_reuse_port(mode == Mode::ReusePort)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port(mode: Mode) -> Datagrams {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Datagrams::bind(address, &Listen::udp(address), mode).unwrap()
    }

    fn inode(socket: &OwnedFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn in_reuseport_each_slot_has_its_own_socket_and_keeps_it() {
        let mut sockets = any_port(Mode::ReusePort);
        let [first, second, again] = [3, 4, 3].map(|slot| inode(&sockets.copy(slot).unwrap()));
        assert_ne!(first, second);
        assert_eq!(first, again);
    }

    #[test]
    fn nobody_receives_for_a_slot_that_wants_its_socket_no_more() {
        let mut sockets = any_port(Mode::ReusePort);
        let [_, second] = [3, 4].map(|slot| inode(&sockets.copy(slot).unwrap()));
        sockets.release(3);
        assert_eq!(sockets.sockets.len(), 1);
        sockets.release(4);
        assert_eq!(inode(&sockets.copy(5).unwrap()), second, "the last one is the next one's");
        assert_eq!(sockets.sockets.len(), 1);
    }

    #[test]
    fn otherwise_all_share_one() {
        let mut sockets = any_port(Mode::Handoff);
        let [first, second] = [3, 4].map(|slot| inode(&sockets.copy(slot).unwrap()));
        assert_eq!((first, sockets.mode()), (second, Mode::Shared));
    }
}
