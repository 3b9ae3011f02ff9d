//! A socket that children notify, as those of systemd do.

use std::ffi::{OsStr, OsString};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::ancestry::{descends, parent_of};
use super::fields::{Field, parse};
use crate::os::Error;

/// The longest datagram that counts, in bytes; systemd's limit, too.
const MAX_DATAGRAM: usize = 4096;

/// How many refused datagrams one [`receive`](NotifySocket::receive) passes over before others get their turn.
const MAX_REFUSED: usize = 32;

/// Receives what a program tells by `sd_notify`: that it is ready, how it is, that it stops.
///
/// The child learns the address from its environment variable `NOTIFY_SOCKET`. Its descriptor
/// ([`AsFd`]) is readable when there may be something to [`receive`](Self::receive).
///
/// The socket has a name that the kernel chose in the abstract namespace: nothing is left on disk, and a child of
/// another user, or in another directory tree, reaches it, unless it lives in a network namespace of its own. So does
/// every local process: that is why the kernel tells who sent a datagram, and [`Senders`] decides whose count.
/// Strangers can fill its queue, though, and make a child wait for room.
///
/// Datagrams longer than 4096 bytes and those that carry descriptors are dropped, their descriptors closed; so
/// `systemd-notify`, which waits until one is closed (`BARRIER=1`), goes on.
///
/// Dropping it closes the socket; who notifies then gets `ECONNREFUSED`.
///
/// ```
/// use cluster_supervisor::os::{Field, NotifySocket, Senders};
///
/// let socket = NotifySocket::bind()?;
/// // spec.clone().env("NOTIFY_SOCKET", socket.address()).spawn()?, and in the child:
/// # #[cfg(target_os = "linux")]
/// # fn sd_notify(address: &std::ffi::OsStr) -> std::io::Result<()> {
/// use std::os::linux::net::SocketAddrExt;
/// use std::os::unix::net::{SocketAddr, UnixDatagram};
/// let name = &address.as_encoded_bytes()[1..];
/// UnixDatagram::unbound()?.send_to_addr(b"READY=1\nSTATUS=Hello", &SocketAddr::from_abstract_name(name)?)?;
/// # Ok(())
/// # }
/// # sd_notify(socket.address()).unwrap();
///
/// let notification = socket.receive(Senders::Child(std::process::id()))?.unwrap();
/// assert_eq!(notification.fields(), [Field::Ready, Field::Status("Hello".into())]);
/// assert!(socket.receive(Senders::Anyone)?.is_none());
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    address: OsString,
}

/// Whose notifications count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Senders {
    /// Those of the process with this pid.
    Child(u32),
    /// Those of the process with this pid and of its descendants. A sender that has ended before its datagram is
    /// received can't be placed, and doesn't count: a script's `systemd-notify` waits for that (unless `--no-block`).
    Tree(u32),
    /// Those of everybody on this machine.
    Anyone,
}

impl Senders {
    fn include(self, pid: u32) -> bool {
        match self {
            Self::Child(child) => pid == child,
            Self::Tree(child) => descends(pid, child, parent_of),
            Self::Anyone => true,
        }
    }
}

/// One datagram that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pid: u32,
    fields: Vec<Field>,
}

impl Notification {
    /// Who sent it; 0 is somebody outside of our pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it says that we know, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

impl NotifySocket {
    /// Opens a socket, non-blocking and closed on exec.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], for example at the limit of open files.
    pub fn bind() -> Result<Self, Error> {
        const OPERATION: &str = "open a socket for notifications";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).map_err(Error::os(OPERATION))?;
        // Before it has an address: from the first datagram on the kernel notes who sent it.
        sockopt::set_socket_passcred(&socket, true).map_err(Error::os(OPERATION))?;
        // No name: the kernel chooses a free one.
        bind(&socket, &SocketAddrUnix::new_unnamed()).map_err(Error::os(OPERATION))?;
        let socket = UnixDatagram::from(socket);
        let local = socket.local_addr().map_err(Error::os(OPERATION))?;
        let mut address = OsString::from("@");
        address.push(OsStr::from_bytes(local.as_abstract_name().unwrap_or_default()));
        Ok(Self { socket: socket.into(), address })
    }

    /// The value of `NOTIFY_SOCKET` for the child.
    pub fn address(&self) -> &OsStr {
        &self.address
    }

    /// Returns the next notification that counts, or `None` if there is none now.
    ///
    /// It passes over at most 32 that don't count; then it returns `None` with the socket still readable.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn receive(&self, senders: Senders) -> Result<Option<Notification>, Error> {
        for _ in 0..MAX_REFUSED {
            match self.receive_one() {
                Ok(Some((pid, datagram))) if senders.include(pid) => {
                    return Ok(Some(Notification { pid, fields: parse(&datagram) }));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(Error::os("receive a notification")(errno)),
            }
        }
        Ok(None)
    }

    /// One datagram and its sender, or `None` for one that never counts.
    fn receive_one(&self) -> Result<Option<(u32, Vec<u8>)>, Errno> {
        let mut buffer = [0; MAX_DATAGRAM];
        // Room for the credentials alone, which the kernel puts first: descriptors behind them it closes, and says so.
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let mut bytes = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut bytes, Some(&mut control), flags)?;
        if received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Ok(None);
        }
        let sender = received.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid().unsigned_abs()),
            _ => None,
        });
        let length = received.bytes;
        Ok(sender.map(|pid| (pid, buffer[..length].to_vec())))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
