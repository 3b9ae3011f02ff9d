//! Listening sockets, bound once and shared by all workers.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use cluster_balancer::Classes;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait in the kernel for the acceptor; the kernel cuts it to `net.core.somaxconn`, 4096 by default.
const BACKLOG: i32 = 4096;

/// What is listened on: at most 64 sockets. Failures are not remembered: the next worker that asks tries again.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    bound: HashMap<(SocketAddr, u32), (u8, SocketAddr)>,
}

/// The answer to a worker that wants to listen.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: u8,
    pub(super) address: SocketAddr,
    /// Present when the socket is new: it has yet to be accepted on.
    pub(super) socket: Option<TcpListener>,
}

impl Listeners {
    pub(super) fn listen(&mut self, address: SocketAddr, nth: u32) -> io::Result<Bound> {
        if let Some((listener, address)) = self.bound.get(&(address, nth)) {
            return Ok(Bound { listener: *listener, address: *address, socket: None });
        }
        let listener = u8::try_from(self.bound.len()).ok().filter(|number| *number < Classes::COUNT);
        let listener = listener.ok_or(Errno::MFILE)?;
        let socket = bind(address)?;
        let real = socket.local_addr()?;
        self.bound.insert((address, nth), (listener, real));
        Ok(Bound { listener, address: real, socket: Some(socket) })
    }

    /// The real addresses, in the order in which they were asked for.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let mut bound: Vec<_> = self.bound.values().copied().collect();
        bound.sort_unstable_by_key(|(listener, _)| *listener);
        bound.into_iter().map(|(_, address)| address).collect()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // As every server does: a restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn the_nth_listener_on_port_zero_is_the_same_for_every_worker() {
        let mut listeners = Listeners::default();
        let first = listeners.listen(any_port(), 0).unwrap();
        let second = listeners.listen(any_port(), 1).unwrap();
        let again = listeners.listen(any_port(), 0).unwrap();
        assert_ne!(first.address, second.address);
        assert_eq!((again.listener, again.address), (first.listener, first.address));
        assert!(first.socket.is_some() && again.socket.is_none());
        assert_eq!(listeners.addresses(), [first.address, second.address]);
    }

    #[test]
    fn a_failure_is_reported_and_not_remembered() {
        let mut listeners = Listeners::default();
        let taken = TcpListener::bind(any_port()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = listeners.listen(address, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        assert_eq!(listeners.listen(address, 0).unwrap().address, address);
    }
}
