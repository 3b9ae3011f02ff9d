//! The sockets of one address, in the kernel's order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use rustix::net::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};

use super::program;
use crate::listen;

/// The listening sockets of one address, one per slot.
///
/// The kernel numbers the sockets of a group in the order in which they began to listen, and when one leaves, the last
/// takes its number. `members` is kept in exactly that order; a program speaks of these numbers.
///
/// # Who else is on the port
///
/// The first socket is bound *without* SO_REUSEPORT and gets it before it listens. So somebody who listens there
/// already is an error (EADDRINUSE), as for any other server, also if it is another group of the same user, which
/// plain SO_REUSEPORT would join without a word, and get the numbers wrong. Not noticed:
///
/// * Two that bind at the very same time, both before either listens.
/// * Processes of the same user that join *later* with SO_REUSEPORT. While a program is in force they get no
///   connections, for their numbers are above ours. But as soon as a socket of ours is added or removed, our numbers are
///   wrong: some connections go to them, or to a slot that should have none.
///
/// All sockets of a group must be made under one user id. So a primary that gives up root after `bind` cannot
/// [`add`](Self::add): EADDRINUSE.
///
/// Workers must not shut their copy down, or listen on it again: both change the order.
#[derive(Debug)]
pub(crate) struct Group {
    address: SocketAddr,
    backlog: i32,
    only_v6: Option<bool>,
    members: Vec<Member>,
    /// Whether a program of ours is in force.
    steered: bool,
}

#[derive(Debug)]
struct Member {
    slot: u32,
    socket: TcpListener,
    eligible: bool,
}

/// What became of the wish to steer.
#[derive(Debug)]
#[must_use]
pub(crate) enum Steering {
    /// The next connection goes where it should.
    InForce,
    /// This system does not have it, or does not allow it: new connections are spread over all sockets by a hash, also
    /// over those nobody accepts from. They wait there; none is lost. It won't be different next time.
    Unsupported(io::Error),
}

impl Group {
    /// Binds and listens, one socket for each of `slots`. Port 0 is one random port for all.
    ///
    /// Until [`steer`](Self::steer) is called, connections go to all of them, by the kernel's hash.
    pub(crate) fn bind(
        address: SocketAddr,
        backlog: i32,
        only_v6: Option<bool>,
        slots: impl IntoIterator<Item = u32>,
    ) -> io::Result<Self> {
        let mut group = Self { address, backlog, only_v6, members: Vec::new(), steered: false };
        // First bind all, then listen: if one fails, nobody has been let in yet.
        let mut bound: Vec<(u32, Socket)> = Vec::new();
        for slot in slots {
            if bound.iter().any(|(other, _)| *other == slot) {
                return Err(Errno::EEXIST.into());
            }
            let socket = bind(group.address, group.only_v6, bound.is_empty())?;
            if bound.is_empty() {
                group.address = local_address(&socket)?;
            }
            bound.push((slot, socket));
        }
        for (slot, socket) in bound {
            group.join(slot, socket)?;
        }
        Ok(group)
    }

    /// The address, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket of a slot, to be lent to its worker.
    pub(crate) fn socket(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.members.iter().find(|member| member.slot == slot).map(|member| member.socket.as_fd())
    }

    /// Adds a socket for a slot. If the group is steered, it gets nothing until it is steered to.
    pub(crate) fn add(&mut self, slot: u32) -> io::Result<()> {
        if self.socket(slot).is_some() {
            return Err(Errno::EEXIST.into());
        }
        let socket = bind(self.address, self.only_v6, self.members.is_empty())?;
        self.join(slot, socket)
    }

    /// Takes the socket of a slot out of the group and closes it. The program follows the new order; when only this
    /// slot was eligible, all others are.
    ///
    /// It is shut down first. Otherwise it would stay in the group as long as a worker has a copy, and nobody could
    /// tell when the order changes. Accepting from a copy fails (EINVAL) from now on. Connections on it that nobody has
    /// accepted are reset: steer away, wait, and accept to EAGAIN before.
    ///
    /// The socket is gone even if this fails; what failed is to attach the new program. Then the one in force speaks
    /// of the old order: no connection is lost, but some go to the wrong slot until the next `steer`.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "a slot keeps its socket for its next worker, until there is scaling down"
        )
    )]
    pub(crate) fn remove(&mut self, slot: u32) -> io::Result<()> {
        let Some(index) = self.members.iter().position(|member| member.slot == slot) else {
            return Ok(());
        };
        if let Some(member) = self.members.get_mut(index) {
            member.eligible = false;
        }
        if self.steered && self.members.len() > 1 {
            // A program that is right before and after, so one that speaks neither of this number nor of the last. It
            // is only for the moment between; that one fails shows again below.
            let _ = self.attach(self.meanwhile(index));
        }
        let member = self.members.swap_remove(index);
        // It fails only when it does not listen any more, which is what we want.
        let _ = rustix::net::shutdown(&member.socket, Shutdown::Read);
        drop(member);
        if self.steered { self.attach(self.eligible()) } else { Ok(()) }
    }

    /// Lets only the `eligible` slots have new connections, each as many as the others. Slots that are not in the group
    /// are ignored. If none remains, all are eligible: somewhere the connections have to wait.
    ///
    /// What is queued already stays where it is. A connection whose handshake is under way still arrives at the socket
    /// that got its first packet.
    pub(crate) fn steer(&mut self, eligible: impl IntoIterator<Item = u32>) -> io::Result<Steering> {
        self.members.iter_mut().for_each(|member| member.eligible = false);
        for slot in eligible {
            if let Some(member) = self.members.iter_mut().find(|member| member.slot == slot) {
                member.eligible = true;
            }
        }
        match self.attach(self.eligible()) {
            Ok(()) => {
                self.steered = true;
                Ok(Steering::InForce)
            }
            Err(error) if is_unsupported(&error) => Ok(Steering::Unsupported(error)),
            Err(error) => Err(error),
        }
    }

    fn join(&mut self, slot: u32, socket: Socket) -> io::Result<()> {
        // This is where it gets its number.
        socket.listen(self.backlog)?;
        self.members.push(Member { slot, socket: socket.into(), eligible: false });
        Ok(())
    }

    /// The numbers of the eligible sockets.
    fn eligible(&self) -> Vec<u32> {
        (0..).zip(&self.members).filter(|(_, member)| member.eligible).map(|(index, _)| index).collect()
    }

    /// Numbers that mean an eligible socket both before and after the one with number `leaving` goes. If there is none,
    /// the best there is.
    fn meanwhile(&self, leaving: usize) -> Vec<u32> {
        let stays = |index: &u32| *index as usize != leaving;
        let mut numbers = self.eligible();
        if numbers.is_empty() {
            numbers = (0..).zip(&self.members).map(|(index, _)| index).collect();
        }
        numbers.retain(stays);
        if let [.., last] = numbers.as_slice()
            && numbers.len() > 1
            && *last as usize == self.members.len() - 1
        {
            numbers.pop();
        }
        numbers
    }

    /// Attaches a program that picks among these numbers. One for all sockets: the kernel keeps it with the group.
    fn attach(&self, eligible: Vec<u32>) -> io::Result<()> {
        let Some(member) = self.members.first() else {
            return Ok(());
        };
        let sockets = u32::try_from(self.members.len()).map_err(|_| Errno::E2BIG)?;
        let mut code: Vec<sock_filter> = program::choose(sockets, eligible).ok_or(Errno::E2BIG)?;
        let len = u16::try_from(code.len()).map_err(|_| Errno::E2BIG)?;
        // nix wants the bare C struct. The kernel only reads, and `code` outlives the call.
        let program = sock_fprog { len, filter: code.as_mut_ptr() };
        setsockopt(&member.socket, AttachReusePortCbpf, &program)?;
        Ok(())
    }
}

fn bind(address: SocketAddr, only_v6: Option<bool>, first: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // As every server does: a restart must not wait for connections in TIME_WAIT. SO_REUSEPORT alone would do only if
    // those had it too, which is not so when the one before shared a single socket.
    socket.set_reuse_address(true)?;
    listen::choose_families(&socket, address, only_v6)?;
    // For the first one see `Group`. To listen checks for conflicts again, then with SO_REUSEPORT.
    if !first {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if first {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| Errno::EAFNOSUPPORT.into())
}

/// ENOPROTOOPT: before Linux 4.6, or not Linux underneath (gVisor). EPERM: forbidden by seccomp, or filters are locked.
fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOPROTOOPT | Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP))
}

#[cfg(test)]
mod tests;
