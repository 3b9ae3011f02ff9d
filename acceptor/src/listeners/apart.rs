//! Listening where only this process connects, under whatever address, for tests (feature `test-util`).
//!
//! Each address is an abstract Unix socket whose name carries it, and so does that of each client: [`Address`] reads it from there.
//! Nothing is bound on any network, so tests beside each other may all listen on the same port. And what is sent over a Unix
//! socket has arrived when the call returns, which is not so for TCP: see [`Turning`](crate::Turning).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::Listeners;
use crate::Address;
use crate::listen::At;

/// What names of ours begin with.
const PREFIX: &str = "cluster-apart/";

/// Where ports begin that are given out for port 0.
const FIRST_PORT: u16 = 49152;

/// What the next socket is called.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A socket whose name carries this address, and that name.
fn named(address: &Address) -> io::Result<(Socket, String)> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{PREFIX}{}-{number}/{address}", process::id());
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&abstracted(&name)?)?;
    Ok((socket, name))
}

fn abstracted(name: &str) -> io::Result<SockAddr> {
    // The leading zero is what makes it one.
    SockAddr::unix(format!("\0{name}"))
}

/// The address in an abstract name, if it is one of these.
pub(crate) fn address_in(name: &[u8]) -> Option<Address> {
    let name = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    name.split_once('/')?.1.parse().ok()
}

/// Connects to listeners [apart](Listeners::apart), without having them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// In the order in which they were bound.
    places: Arc<Mutex<Vec<Weak<Place>>>>,
}

/// Where somebody listens, as long as this is kept.
#[derive(Debug)]
pub(super) struct Place {
    address: Address,
    name: String,
}

impl Dialer {
    /// Connects to the first of these listeners, or to the one on an address. The other side sees the client at `from`.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when nobody listens there (any more); `EAGAIN` when too many wait to be accepted.
    pub fn connect(&self, to: Option<&Address>, from: &Address) -> io::Result<OwnedFd> {
        let is_wanted = |place: &Arc<Place>| to.is_none_or(|to| *to == place.address);
        let place = self.places.lock().iter().filter_map(Weak::upgrade).find(is_wanted);
        let (socket, _) = named(from)?;
        socket.connect(&abstracted(&place.ok_or(Errno::CONNREFUSED)?.name)?)?;
        Ok(socket.into())
    }

    /// Listens under this address.
    pub(super) fn bind(&self, at: &At, number: u8) -> io::Result<(OwnedFd, Address, Arc<Place>)> {
        let address = match at {
            At::Tcp(address) if address.port() == 0 => {
                Address::Ip(SocketAddr::new(address.ip(), FIRST_PORT + u16::from(number)))
            }
            At::Tcp(address) => Address::Ip(*address),
            At::Unix(path) => Address::Unix(Some(path.clone())),
            At::Inherited(_) => return Err(Errno::NOENT.into()),
            At::Udp(_) | At::InheritedUdp(_) => return Err(Errno::OPNOTSUPP.into()),
        };
        let (socket, name) = named(&address)?;
        socket.listen(i32::from(i16::MAX))?;
        let place = Arc::new(Place { address: address.clone(), name });
        let mut places = self.places.lock();
        places.retain(|place| place.strong_count() > 0);
        places.push(Arc::downgrade(&place));
        Ok((socket.into(), address, place))
    }
}

impl Listeners {
    /// Where only who has the [`Dialer`] connects to: nothing is bound that anybody else could see. All of it is for the acceptor
    /// ([`Mode::Handoff`](crate::Mode::Handoff)), whatever mode is asked for; there is no UDP, and nothing inherited.
    pub fn apart() -> (Self, Dialer) {
        let dialer = Dialer::default();
        (Self { apart: Some(dialer.clone()), ..Self::empty(crate::Mode::Handoff) }, dialer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listen;

    #[test]
    fn both_ends_have_the_addresses_that_were_chosen() {
        let (mut listeners, dialer) = Listeners::apart();
        let port_80 = Listen::tcp(([127, 0, 0, 1], 80));
        let answer = listeners.listen(&port_80, 0, 0).unwrap();
        let client = Address::Ip(([192, 0, 2, 7], 4711).into());
        let stream = dialer.connect(None, &client).unwrap();
        let socket = answer.accept.unwrap();
        let (accepted, peer) = rustix::net::acceptfrom(&socket).unwrap();
        assert_eq!(Address::from(peer.unwrap()), client);
        assert_eq!(Address::of(&accepted).unwrap(), answer.granted.address);
        assert_eq!(Address::of(&stream).unwrap(), client);
        // Another one beside it, as if it were another machine.
        assert!(Listeners::apart().0.listen(&port_80, 0, 0).is_ok());
        drop(socket);
        let refused = dialer.connect(Some(&answer.granted.address), &client).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_connects_gets_to_the_first_that_is_left() {
        let (mut listeners, dialer) = Listeners::apart();
        let client = Address::Ip(([192, 0, 2, 7], 4711).into());
        let [first, second] = [80, 81]
            .map(|port| listeners.listen(&Listen::tcp(([127, 0, 0, 1], port)), 0, port.into()).unwrap());
        let reached = || {
            let stream = dialer.connect(None, &client).unwrap();
            Address::from(rustix::net::getpeername(stream).unwrap().unwrap())
        };
        assert_eq!(reached(), first.granted.address);
        assert_eq!(listeners.abandon(80), [first.granted.listener]);
        assert_eq!(reached(), second.granted.address, "nobody wants the first any more");
        listeners.abandon(81);
        let refused = dialer.connect(None, &client).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn no_other_name_is_taken_for_an_address() {
        for name in ["", "cluster-apart/", "cluster-apart/1-1/", "127.0.0.1:80", "cluster-apart/1-1/nonsense"]
        {
            assert_eq!(address_in(name.as_bytes()), None, "{name}");
        }
    }
}
