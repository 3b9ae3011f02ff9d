//! Listening sockets, bound once and shared by all workers.

#[cfg(feature = "test-util")]
pub(crate) mod apart;
mod bind;
mod datagrams;
mod inherited;
mod per_slot;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cluster_balancer::Classes;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::bind::SocketFile;
use self::datagrams::Datagrams;
use self::inherited::Inherited;
pub use self::per_slot::Orphan;
use self::per_slot::PerSlot;
use crate::address::Address;
use crate::listen::{At, Listen, Mode};
use crate::socket::ListeningSocket;

/// What is listened on: at most 64 sockets, each bound when the first worker asks for it. Failures are not remembered: the next worker
/// that asks tries again.
///
/// Dropping it closes its sockets, and removes the files of Unix sockets; what others have copies of goes on.
///
/// ```
/// use cluster_acceptor::{Listen, Listeners, Mode};
///
/// let mut listeners = Listeners::new(Mode::Handoff);
/// let http = Listen::tcp(([127, 0, 0, 1], 0));
/// let [first, second] = [0, 1].map(|slot| listeners.listen(&http, 0, slot));
/// let (first, second) = (first?, second?);
/// assert_eq!(first.granted, second.granted, "all workers share it");
/// assert!(first.accept.is_some() && second.accept.is_none(), "it is bound once");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Listeners {
    /// By what was asked for: several on port 0 of an address are counted.
    bound: HashMap<(At, u32), Bound>,
    /// The number that was given last. All others come before it is given again: something may be on its way with it.
    last: u8,
    inherited: Inherited,
    /// For those who don't say.
    mode: Mode,
    /// See [`apart`](Self::apart).
    #[cfg(feature = "test-util")]
    apart: Option<apart::Dialer>,
}

#[derive(Debug)]
struct Bound {
    number: u8,
    address: Address,
    kept: Kept,
    _file: Option<SocketFile>,
    held: Held,
}

impl Bound {
    /// A slot wants it no more. Returns whether that was the last one.
    fn give_up(&mut self, slot: u32) -> bool {
        if !self.held.slots.remove(&slot) {
            return false;
        }
        if let Kept::Datagrams(sockets) = &mut self.kept {
            sockets.release(slot);
        }
        self.held.slots.is_empty()
    }
}

/// Who wants a listener.
#[derive(Debug, Default)]
struct Held {
    /// These slots' workers, or those that come after them.
    slots: BTreeSet<u32>,
    /// Nobody since then.
    free_since: Option<Instant>,
}

/// Who accepts on a socket.
#[derive(Debug)]
enum Kept {
    /// The acceptor, which has it.
    Handoff,
    /// The workers, each with a copy of this.
    Shared(ListeningSocket),
    /// The workers, each with a copy of its slot's socket; for a slot without a worker that is well, the acceptor.
    PerSlot(PerSlot),
    /// Nobody: there are no connections.
    Datagrams(Datagrams),
    /// The acceptor, which has it; this is where it is to be found.
    #[cfg(feature = "test-util")]
    Apart { _place: std::sync::Arc<apart::Place> },
}

impl Kept {
    fn mode(&self) -> Mode {
        match self {
            Self::Handoff => Mode::Handoff,
            Self::Shared(_) => Mode::Shared,
            Self::PerSlot(_) => Mode::ReusePort,
            Self::Datagrams(sockets) => sockets.mode(),
            #[cfg(feature = "test-util")]
            Self::Apart { .. } => Mode::Handoff,
        }
    }
}

/// The answer to a worker that wants to listen.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// For the worker.
    pub granted: Granted,
    /// The worker's copy of a socket on which it accepts itself.
    pub copy: Option<OwnedFd>,
    /// A new socket, for the acceptor.
    pub accept: Option<ListeningSocket>,
}

/// A listener that a worker may use. Where it accepts itself, the socket comes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Granted {
    /// Its number, below 64, the same for all workers.
    pub listener: u8,
    /// The real one, where port 0 was asked for.
    pub address: Address,
    /// How connections come to the workers: as the first that asked wanted it, as far as that can be had.
    pub mode: Mode,
}

impl Listeners {
    /// None yet, of this mode if a worker doesn't say. The sockets that this process was started with (sd_listen_fds(3)) are taken over
    /// and can be asked for by name: make one of these in a process.
    pub fn new(mode: Mode) -> Self {
        Self { inherited: Inherited::take(), ..Self::empty(mode) }
    }

    fn empty(mode: Mode) -> Self {
        Self {
            bound: HashMap::new(),
            last: Classes::COUNT - 1,
            inherited: Inherited::default(),
            mode,
            #[cfg(feature = "test-util")]
            apart: None,
        }
    }

    /// Finds the socket that the worker in `slot` asks for, or makes it. `nth` counts the listeners on port 0 that this worker asked for on
    /// that address before, as [`Claims`](crate::Claims) does: the n-th of every worker is the same one. It is 0 for any other port.
    ///
    /// # Errors
    ///
    /// What the system says; `EMFILE` when there are 64, `ENOENT` for an inherited socket that is not there, `EOPNOTSUPP` for a mode
    /// that can't be had.
    pub fn listen(&mut self, listen: &Listen, nth: u32, slot: u32) -> io::Result<Answer> {
        let key = self.shared_datagrams(listen).unwrap_or_else(|| (listen.at.clone(), nth));
        let mut accept = None;
        if !self.bound.contains_key(&key) {
            let bound = match self.take_over(listen) {
                Some(bound) => bound,
                None => {
                    let (bound, socket) = self.bind(listen, slot)?;
                    self.last = bound.number;
                    accept = socket;
                    bound
                }
            };
            self.bound.insert(key.clone(), bound);
        }
        // It was found or made.
        let bound = self.bound.get_mut(&key).ok_or(Errno::BADF)?;
        let copy = match &mut bound.kept {
            Kept::Handoff => None,
            Kept::Shared(socket) => Some(socket.try_clone()?.into()),
            Kept::PerSlot(sockets) => Some(sockets.copy(slot)?),
            Kept::Datagrams(sockets) => Some(sockets.copy(slot)?),
            #[cfg(feature = "test-util")]
            Kept::Apart { .. } => None,
        };
        let mode = bound.kept.mode();
        let granted = Granted { listener: bound.number, address: bound.address.clone(), mode };
        bound.held.slots.insert(slot);
        bound.held.free_since = None;
        Ok(Answer { granted, copy, accept })
    }

    /// Datagrams of one address are one socket, by whatever name it was asked for.
    fn shared_datagrams(&self, listen: &Listen) -> Option<(At, u32)> {
        let At::Udp(address) = &listen.at else { return None };
        let same =
            |bound: &Bound| matches!(bound.kept, Kept::Datagrams(_)) && bound.address.ip() == Some(*address);
        self.bound.iter().find(|(_, bound)| same(bound)).map(|(key, _)| key.clone())
    }

    /// A socket on that very address that was asked for by another name, and that nobody wants any more.
    fn take_over(&mut self, listen: &Listen) -> Option<Bound> {
        let At::Tcp(address) = &listen.at else { return None };
        let wanted = listen.mode.unwrap_or(self.mode);
        let same = |bound: &Bound| {
            bound.address.ip() == Some(*address)
                && bound.kept.mode() == wanted
                && !matches!(bound.kept, Kept::Datagrams(_))
                && bound.held.slots.is_empty()
        };
        let key = self.bound.iter().find(|(_, bound)| same(bound)).map(|(key, _)| key.clone())?;
        self.bound.remove(&key)
    }

    /// The worker in `slot` wants this listener no more, nor will one that comes after it. When nobody wants it it stays
    /// for a moment, until [`expire`](Self::expire) closes it: somebody may listen there again at once.
    pub fn release(&mut self, listener: u8, slot: u32, now: Instant) {
        if let Some(bound) = self.bound.values_mut().find(|bound| bound.number == listener)
            && bound.give_up(slot)
        {
            bound.held.free_since = Some(now);
        }
    }

    /// Nobody will come in this slot any more: gives up all that its workers wanted. Closes at once what nobody else wants, and returns the
    /// numbers. What others have [released](Self::release) stays for its moment.
    pub fn abandon(&mut self, slot: u32) -> Vec<u8> {
        self.bound.extract_if(|_, bound| bound.give_up(slot)).map(|(_, bound)| bound.number).collect()
    }

    /// The numbers of the listeners that workers in this slot want.
    pub fn held_by(&self, slot: u32) -> Vec<u8> {
        let held = self.bound.values().filter(|bound| bound.held.slots.contains(&slot));
        held.map(|bound| bound.number).collect()
    }

    /// Closes what nobody has wanted for `linger`, and returns the numbers: their connections are nobody's any more.
    pub fn expire(&mut self, linger: Duration, now: Instant) -> Vec<u8> {
        let is_over = |bound: &Bound| bound.held.free_since.is_some_and(|since| since + linger <= now);
        self.bound.extract_if(|_, bound| is_over(bound)).map(|(_, bound)| bound.number).collect()
    }

    /// When to call [`expire`](Self::expire) next.
    pub fn poll_timeout(&self, linger: Duration) -> Option<Instant> {
        self.bound.values().filter_map(|bound| bound.held.free_since).min().map(|since| since + linger)
    }

    /// A number that has not been given for the longest time.
    fn number(&self) -> io::Result<u8> {
        let numbers = (1..=Classes::COUNT).map(|step| (self.last + step) % Classes::COUNT);
        let mut free = numbers.filter(|number| self.bound.values().all(|bound| bound.number != *number));
        Ok(free.next().ok_or(Errno::MFILE)?)
    }

    /// Makes a socket. What is the acceptor's is returned beside it.
    fn bind(&self, listen: &Listen, slot: u32) -> io::Result<(Bound, Option<ListeningSocket>)> {
        let number = self.number()?;
        let bound = |address, kept, file| Bound { number, address, kept, _file: file, held: Held::default() };
        #[cfg(feature = "test-util")]
        if let Some(dialer) = &self.apart {
            let (socket, address, place) = dialer.bind(&listen.at, number)?;
            return Ok((bound(address, Kept::Apart { _place: place }, None), Some(socket.into())));
        }
        let mode = match (listen.mode.unwrap_or(self.mode), &listen.at) {
            (mode, At::Udp(address)) => {
                let sockets = Datagrams::bind(*address, listen, mode)?;
                let address = Address::Ip(sockets.address());
                return Ok((bound(address, Kept::Datagrams(sockets), None), None));
            }
            (_, At::InheritedUdp(name)) => {
                let (_, socket) = self.inherited.find(name).ok_or(Errno::NOENT)?;
                let sockets = Datagrams::inherited(socket.try_clone()?)?;
                let address = Address::Ip(sockets.address());
                return Ok((bound(address, Kept::Datagrams(sockets), None), None));
            }
            (Mode::ReusePort, At::Tcp(address)) if self.inherited.on(&Address::Ip(*address)).is_none() => {
                let sockets = PerSlot::bind(*address, listen, slot)?;
                let address = Address::Ip(sockets.address());
                return Ok((bound(address, Kept::PerSlot(sockets), None), None));
            }
            // Such a socket can't be had once more for each slot.
            (Mode::ReusePort, _) if listen.mode.is_some() => return Err(Errno::OPNOTSUPP.into()),
            (Mode::ReusePort, _) => Mode::Handoff,
            (mode, _) => mode,
        };
        let (socket, file) = match &listen.at {
            At::Tcp(address) => match self.inherited.on(&Address::Ip(*address)) {
                Some(inherited) => (ListeningSocket::inherited(inherited.try_clone()?), None),
                None => (bind::tcp(*address, listen)?.into(), None),
            },
            At::Unix(path) => match self.inherited.on(&Address::Unix(Some(path.clone()))) {
                Some(inherited) => (ListeningSocket::inherited(inherited.try_clone()?), None),
                None => {
                    let (socket, file) = bind::unix(path, listen)?;
                    (socket.into(), Some(file))
                }
            },
            // Made above.
            At::Udp(_) | At::InheritedUdp(_) => return Err(Errno::OPNOTSUPP.into()),
            At::Inherited(name) => {
                let (_, socket) = self.inherited.find(name).ok_or(Errno::NOENT)?;
                (ListeningSocket::inherited(socket.try_clone()?), None)
            }
        };
        let address = match &listen.at {
            // Its name may be a shorter one.
            At::Unix(path) => Address::Unix(Some(path.clone())),
            _ => Address::of(&socket)?,
        };
        let (kept, accept) = match mode {
            Mode::Handoff => (Kept::Handoff, Some(socket)),
            _ => (Kept::Shared(socket), None),
        };
        Ok((bound(address, kept, file), accept))
    }

    /// The real addresses, in the order in which they were asked for.
    pub fn addresses(&self) -> Vec<Address> {
        self.addresses_of(Classes::all())
    }

    /// The same of these listeners.
    pub fn addresses_of(&self, listeners: Classes) -> Vec<Address> {
        let mut bound: Vec<_> =
            self.bound.values().filter(|bound| listeners.contains(bound.number)).collect();
        bound.sort_unstable_by_key(|bound| bound.number);
        bound.into_iter().map(|bound| bound.address.clone()).collect()
    }

    /// Steers new connections to the slots whose worker `is_well` on a listener. Returns the sockets that the acceptor shall accept on
    /// from now on, or no longer.
    pub fn steer(&mut self, is_well: impl Fn(u8, u32) -> bool) -> Vec<Orphan> {
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
    /// like the rest, and then they are [shut down](crate::Command::Close) for all.
    pub fn leftovers(&mut self) -> Vec<Orphan> {
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
    fn a_listener_stays_while_a_slot_wants_it_and_a_moment_longer() {
        const LINGER: Duration = Duration::from_secs(1);
        let mut listeners = Listeners::new(Mode::Shared);
        let (now, mut numbers) = (Instant::now(), BTreeSet::new());
        let first = listeners.listen(&any_port(), 0, 0).unwrap().granted;
        assert_eq!(listeners.listen(&any_port(), 0, 1).unwrap().granted, first);
        listeners.release(first.listener, 0, now);
        listeners.release(first.listener, 0, now);
        assert_eq!(listeners.poll_timeout(LINGER), None, "the other slot wants it");
        listeners.release(first.listener, 1, now);
        assert_eq!(listeners.poll_timeout(LINGER), Some(now + LINGER));
        assert_eq!(listeners.expire(LINGER, now), []);
        // By another name it is the same socket, and wanted again.
        let by_number = listeners.listen(&first.address.ip().unwrap().into(), 0, 5).unwrap().granted;
        assert_eq!(by_number, first);
        assert_eq!((listeners.poll_timeout(LINGER), listeners.held_by(5)), (None, vec![first.listener]));
        for round in 0..2 * u32::from(Classes::COUNT) {
            let granted = listeners.listen(&any_port(), 0, round).unwrap().granted;
            listeners.release(granted.listener, round, now);
            assert_eq!(listeners.expire(LINGER, now + LINGER), [granted.listener]);
            numbers.insert(granted.listener);
        }
        assert_eq!(numbers.len(), usize::from(Classes::COUNT) - 1, "each number has its turn");
        let [released, abandoned] =
            [0, 1].map(|slot| listeners.listen(&any_port(), slot, slot).unwrap().granted.listener);
        listeners.release(released, 0, now);
        assert_eq!(listeners.abandon(1), [abandoned], "nobody comes who could want it");
        assert_eq!(listeners.poll_timeout(LINGER), Some(now + LINGER), "the other one has its time");
        assert_eq!(listeners.expire(LINGER, now + LINGER), [released]);
        let nobody = listeners.expire(Duration::ZERO, now + LINGER);
        assert!(nobody.is_empty() && listeners.poll_timeout(LINGER).is_none());
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
