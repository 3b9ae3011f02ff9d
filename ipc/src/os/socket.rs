//! A non-blocking Unix stream socket that carries file descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};

use crate::{Error, MAX_DESCRIPTORS};

const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// One end of a `SOCK_STREAM` Unix socket pair: non-blocking, closed on exec.
///
/// A stream and not `SOCK_SEQPACKET`: only a stream can carry many messages in one write.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// What one write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// So many bytes were taken, and with the first of them the descriptors.
    Bytes(usize),
    /// Nothing was taken: the buffer is full.
    WouldBlock,
    /// Nothing was taken: too many of this user's descriptors are in flight (`ETOOMANYREFS`). No event tells when that
    /// is over: try again after a while.
    TooManyInFlight,
}

/// What one read returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now.
    WouldBlock,
    /// The peer is gone and all it sent has been read. A peer that died with unread input shows up as a
    /// reset connection rather than as an end of file; both mean this.
    PeerGone,
}

/// Whether a read of so many bytes took all that was there. Linux stops early only behind bytes that came with descriptors; others may
/// do so before them.
pub(crate) const fn took_all(bytes: usize, buffer: &[u8], came_alone: bool) -> bool {
    bytes < buffer.len() && came_alone && cfg!(target_os = "linux")
}

impl Socket {
    /// Makes a connected pair, close-on-exec and non-blocking from birth.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], for example at the limit of open files.
    pub fn pair() -> Result<(Self, Self), Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(Error::os("make a socket pair"))?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// Wraps a descriptor that is one end of a Unix stream socket. Whether it is non-blocking doesn't matter here: every
    /// call asks not to wait. (`O_NONBLOCK` belongs to the open file, so any process that holds a copy may change it.)
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Gives the descriptor up, for example to become a child's stdin.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Writes as much as the kernel takes now. The descriptors go out with the first byte, so `bytes`
    /// together must not be empty (the kernel would report success and lose the descriptors: `EINVAL` here), and at most
    /// [`MAX_DESCRIPTORS`] are allowed.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the other end is closed (no `SIGPIPE` is raised), or [`Error::Os`].
    pub fn send(&self, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<Sent, Error> {
        let mut space = [MaybeUninit::<u8>::uninit(); CONTROL_LEN];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Error::os("attach more than 253 descriptors")(Errno::INVAL));
        }
        if !descriptors.is_empty() && bytes.iter().all(|slice| slice.is_empty()) {
            return Err(Error::os("send descriptors without a byte")(Errno::INVAL));
        }
        loop {
            return match sendmsg(&self.fd, bytes, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => Ok(Sent::Bytes(sent)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Sent::WouldBlock),
                Err(Errno::TOOMANYREFS) => Ok(Sent::TooManyInFlight),
                Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::PeerGone),
                Err(errno) => Err(Error::os("send to the peer")(errno)),
            };
        }
    }

    /// Reads once. Descriptors that came along are appended to `descriptors`, close-on-exec.
    ///
    /// A read may stop before the buffer is full although more is waiting (at a message that
    /// carries descriptors): only [`Received::WouldBlock`] means drained.
    ///
    /// # Errors
    ///
    /// [`Error::DescriptorsLost`] when the kernel had to drop some (all that came with this read are closed), or [`Error::Os`].
    pub fn receive(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<Received, Error> {
        let mut space = [MaybeUninit::<u8>::uninit(); CONTROL_LEN];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = loop {
            match recvmsg(&self.fd, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
                Ok(message) => break message,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::WouldBlock),
                Err(Errno::CONNRESET) => return Ok(Received::PeerGone),
                Err(errno) => return Err(Error::os("receive from the peer")(errno)),
            }
        };
        if message.flags.contains(ReturnFlags::CTRUNC) {
            // Dropping the control buffer closes what did arrive.
            return Err(Error::DescriptorsLost);
        }
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                descriptors.extend(received);
            }
        }
        Ok(match message.bytes {
            0 => Received::PeerGone,
            bytes => Received::Bytes(bytes),
        })
    }
}

impl Socket {
    /// Ends the stream in both directions.
    pub(crate) fn shutdown(&self) {
        // It fails only when the peer has done so before.
        shutdown(&self.fd, Shutdown::Both).ok();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
