//! What a connection needs of the thing that carries its bytes.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{Error, Received, Sent, Socket};

/// A stream of bytes and descriptors that never waits. [`Socket`] is the real one; `memory` (feature `test-util`)
/// has one for tests.
///
/// The contract is that of a Unix stream socket: descriptors arrive with, or before, the first byte they were sent
/// with; never later, and never those of two writes in one read.
pub trait Transport {
    /// Writes as much as can be taken now; the descriptors go with the first byte.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the other end is closed.
    fn send(&mut self, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<Sent, Error>;

    /// Reads once, and appends the descriptors that came along.
    ///
    /// # Errors
    ///
    /// What went wrong; final.
    fn receive(&mut self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<Received, Error>;

    /// Ends the stream in both directions, whoever else holds a part of it: the other end reads what was written, then
    /// the end.
    fn close(&mut self) {}
}

impl Transport for Socket {
    fn send(&mut self, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<Sent, Error> {
        Self::send(self, bytes, descriptors)
    }

    fn receive(&mut self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<Received, Error> {
        Self::receive(self, buffer, descriptors)
    }

    fn close(&mut self) {
        Self::shutdown(self);
    }
}

impl Transport for std::sync::Arc<Socket> {
    fn send(&mut self, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<Sent, Error> {
        Socket::send(self, bytes, descriptors)
    }

    fn receive(&mut self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<Received, Error> {
        Socket::receive(self, buffer, descriptors)
    }

    fn close(&mut self) {
        Socket::shutdown(self);
    }
}
