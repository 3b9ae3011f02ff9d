//! Listening sockets, bound once and shared by all workers.

mod bind;
mod datagrams;
mod inherited;
mod per_slot;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use cluster_balancer::Classes;
use rustix::io::Errno;

use self::bind::SocketFile;
use self::datagrams::Datagrams;
use self::inherited::Inherited;
pub(crate) use self::per_slot::Orphan;
use self::per_slot::PerSlot;
use crate::address::Address;
use crate::listen::{At, Listen, Mode};
use crate::wire::Granted;

/// What is listened on: at most 64 sockets. Failures are not remembered: the next worker that asks tries again.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// By what was asked for: several on port 0 of an address are counted.
    bound: HashMap<(At, u32), Bound>,
    inherited: Inherited,
    /// For those who don't say.
    mode: Mode,
}

#[derive(Debug)]
struct Bound {
    number: u8,
    address: Address,
    kept: Kept,
    _file: Option<SocketFile>,
}

/// Who accepts on a socket.
#[derive(Debug)]
enum Kept {
    /// The acceptor, which has it.
    Handoff,
    /// The workers, each with a copy of this.
    Shared(OwnedFd),
    /// The workers, each with a copy of its slot's socket; for a slot without a worker that is well, the acceptor.
    PerSlot(PerSlot),
    /// Nobody: there are no connections.
    Datagrams(Datagrams),
}

/// The answer to a worker that wants to listen.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) granted: Granted,
    /// The worker's copy of a socket on which it accepts itself.
    pub(crate) copy: Option<OwnedFd>,
    /// A new socket, for the acceptor.
    pub(crate) accept: Option<OwnedFd>,
}

impl Listeners {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { bound: HashMap::new(), inherited: Inherited::take(), mode }
    }

    /// Finds the socket that the worker in `slot` asks for, or makes it.
    pub(crate) fn listen(&mut self, listen: &Listen, nth: u32, slot: u32) -> io::Result<Answer> {
        let key = (listen.at.clone(), nth);
        let mut accept = None;
        if !self.bound.contains_key(&key) {
            let (bound, socket) = self.bind(listen, slot)?;
            accept = socket;
            self.bound.insert(key.clone(), bound);
        }
        // It was found or made.
        let bound = self.bound.get_mut(&key).ok_or(Errno::BADF)?;
        let (mode, copy) = match &mut bound.kept {
            Kept::Handoff => (Mode::Handoff, None),
            Kept::Shared(socket) => (Mode::Shared, Some(socket.try_clone()?)),
            Kept::PerSlot(sockets) => (Mode::ReusePort, Some(sockets.copy(slot)?)),
            Kept::Datagrams(sockets) => (sockets.mode(), Some(sockets.copy(slot)?)),
        };
        let granted = Granted { listener: bound.number, address: bound.address.clone(), mode };
        Ok(Answer { granted, copy, accept })
    }

    /// Makes a socket. What is the acceptor's is returned beside it.
    fn bind(&self, listen: &Listen, slot: u32) -> io::Result<(Bound, Option<OwnedFd>)> {
        let number = u8::try_from(self.bound.len()).ok().filter(|number| *number < Classes::COUNT);
        let number = number.ok_or(Errno::MFILE)?;
        let mode = match (listen.mode.unwrap_or(self.mode), &listen.at) {
            (mode, At::Udp(address)) => {
                let sockets = Datagrams::bind(*address, listen, mode)?;
                let address = Address::Ip(sockets.address());
                return Ok((Bound { number, address, kept: Kept::Datagrams(sockets), _file: None }, None));
            }
            (Mode::ReusePort, At::Tcp(address)) if self.inherited.on(&Address::Ip(*address)).is_none() => {
                let sockets = PerSlot::bind(*address, listen, slot)?;
                let address = Address::Ip(sockets.address());
                return Ok((Bound { number, address, kept: Kept::PerSlot(sockets), _file: None }, None));
            }
            // Such a socket can't be had once more for each slot.
            (Mode::ReusePort, _) if listen.mode.is_some() => return Err(Errno::OPNOTSUPP.into()),
            (Mode::ReusePort, _) => Mode::Handoff,
            (mode, _) => mode,
        };
        let (socket, file) = match &listen.at {
            At::Tcp(address) => match self.inherited.on(&Address::Ip(*address)) {
                Some(inherited) => (inherited.try_clone()?, None),
                None => (bind::tcp(*address, listen)?, None),
            },
            At::Unix(path) => match self.inherited.on(&Address::Unix(Some(path.clone()))) {
                Some(inherited) => (inherited.try_clone()?, None),
                None => {
                    let (socket, file) = bind::unix(path, listen)?;
                    (socket, Some(file))
                }
            },
            // Made above.
            At::Udp(_) => return Err(Errno::OPNOTSUPP.into()),
            At::Inherited(name) => {
                let (_, socket) = self.inherited.find(name).ok_or(Errno::NOENT)?;
                (socket.try_clone()?, None)
            }
        };
        let address = Address::of(&socket)?;
        let (kept, accept) = match mode {
            Mode::Handoff => (Kept::Handoff, Some(socket)),
            _ => (Kept::Shared(socket), None),
        };
        Ok((Bound { number, address, kept, _file: file }, accept))
    }

    /// The real addresses, in the order in which they were asked for.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let mut bound: Vec<_> = self.bound.values().collect();
        bound.sort_unstable_by_key(|bound| bound.number);
        bound.into_iter().map(|bound| bound.address.clone()).collect()
    }

    /// Steers new connections to the slots whose worker `is_well` on a listener. Returns the sockets that the acceptor shall accept on
    /// from now on, or no longer.
    pub(crate) fn steer(&mut self, is_well: impl Fn(u8, u32) -> bool) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for bound in self.bound.values_mut() {
            if let Kept::PerSlot(sockets) = &mut bound.kept {
                let number = bound.number;
                orphans.extend(sockets.steer(number, |slot| is_well(number, slot)));
            }
        }
        orphans
    }

    /// Copies of all sockets on which workers accept themselves: what has connected when the cluster stops is handed out
    /// like the rest.
    pub(crate) fn leftovers(&mut self) -> Vec<Orphan> {
        let mut leftovers = self.steer(|_, _| false);
        leftovers.extend(self.bound.values().filter_map(|bound| match &bound.kept {
            Kept::Shared(socket) => {
                Some(Orphan::Adopt { listener: bound.number, slot: None, socket: socket.try_clone().ok()? })
            }
            _ => None,
        }));
        leftovers
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    fn any_port() -> Listen {
        Listen::tcp(([127, 0, 0, 1], 0))
    }

    #[test]
    fn the_nth_listener_on_port_zero_is_the_same_for_every_worker() {
        let mut listeners = Listeners::new(Mode::Handoff);
        let first = listeners.listen(&any_port(), 0, 0).unwrap();
        let second = listeners.listen(&any_port(), 1, 0).unwrap();
        let again = listeners.listen(&any_port(), 0, 0).unwrap();
        assert_ne!(first.granted.address, second.granted.address);
        assert_eq!(again.granted, first.granted);
        assert!(first.accept.is_some() && again.accept.is_none());
        assert_eq!(listeners.addresses(), [first.granted.address, second.granted.address]);
    }

    #[test]
    fn a_failure_is_reported_and_not_remembered() {
        let mut listeners = Listeners::new(Mode::Handoff);
        let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = taken.local_addr().unwrap();
        let error = listeners.listen(&address.into(), 0, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        assert_eq!(listeners.listen(&address.into(), 0, 0).unwrap().granted.address, address);
    }

    #[test]
    fn the_first_to_ask_decides_the_mode() {
        let mut listeners = Listeners::new(Mode::Shared);
        let first = listeners.listen(&any_port(), 0, 0).unwrap();
        let second = listeners.listen(&any_port().mode(Mode::Handoff), 0, 0).unwrap();
        assert_eq!((first.granted.mode, second.granted.mode), (Mode::Shared, Mode::Shared));
        assert!(first.copy.is_some() && second.copy.is_some() && first.accept.is_none());
        assert_eq!(listeners.leftovers().len(), 1);
    }

    #[test]
    fn an_inherited_socket_that_is_not_there_is_an_error() {
        let error = Listeners::new(Mode::Handoff).listen(&Listen::inherited("http"), 0, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
