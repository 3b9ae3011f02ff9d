//! Connecting, without waiting longer than there is time.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, getpeername, getsockname, socket_with,
    sockopt,
};

use super::reason::{End, shown};
use super::wait::Wait;

/// Connects to an address. The socket doesn't block.
pub(super) fn tcp(address: SocketAddr, wait: &mut Wait<'_>) -> Result<OwnedFd, End> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream(family)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        // Interrupted, it goes on all the same.
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait.until(socket.as_fd(), PollFlags::OUT).map_err(|end| {
                end.or_late(|| format!("no connection to {address} within {}", wait.timeout()))
            })?;
            let error = sockopt::socket_error(&socket).and_then(|error| error);
            error.map_err(|errno| refused(address, errno))?;
        }
        Err(errno) => return Err(refused(address, errno)),
    }
    if is_own_echo(&socket) { Err(refused(address, Errno::CONNREFUSED)) } else { Ok(socket) }
}

/// Connects to the socket at a path.
pub(super) fn unix(path: &Path, wait: &mut Wait<'_>) -> Result<(), End> {
    let name = shown(path.as_os_str().as_bytes());
    let address = SocketAddrUnix::new(path)
        .map_err(|errno| End::of(format_args!("could not connect to {name}"), errno))?;
    let socket = stream(AddressFamily::UNIX)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // Its queue is full. The kernel tells nobody when it no longer is, unless they block.
            Err(Errno::AGAIN) => {
                wait.pause(RETRY).map_err(|end| {
                    end.or_late(|| {
                        format!("no connection to {name} within {}: its queue is full", wait.timeout())
                    })
                })?;
            }
            Err(errno) => return Err(refused(name, errno)),
        }
    }
}

/// How long to wait before a full queue is tried again.
const RETRY: Duration = Duration::from_millis(10);

fn stream(family: AddressFamily) -> Result<OwnedFd, End> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
        .map_err(|errno| End::of("could not make a socket", errno))
}

fn refused(address: impl std::fmt::Display, errno: Errno) -> End {
    match errno {
        Errno::CONNREFUSED => End::Bad(format!("connection refused by {address}")),
        errno => End::of(format_args!("could not connect to {address}"), errno),
    }
}

/// Whether it is connected to itself: the kernel has picked as its own port the very one that nobody listens at, which TCP allows.
/// Whoever asks a dead member often enough would find it well.
fn is_own_echo(socket: &OwnedFd) -> bool {
    match (getsockname(socket), getpeername(socket)) {
        (Ok(own), Ok(Some(peer))) => own == peer,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::bind;

    #[test]
    fn a_socket_connected_to_itself_is_told() {
        let socket = stream(AddressFamily::INET).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let own: SocketAddr = getsockname(&socket).unwrap().try_into().unwrap();
        assert!(matches!(connect(&socket, &own), Ok(()) | Err(Errno::INPROGRESS)));
        assert!(is_own_echo(&socket));
    }
}
