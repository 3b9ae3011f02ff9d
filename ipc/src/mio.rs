//! A [`Channel`] as a mio event source (feature `mio`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::Channel;

/// Register it for reading, and for writing while [`Channel::wants_flush`] or after
/// [`Handed::WouldBlock`](crate::Handed::WouldBlock). Readiness is edge-triggered: after an event, call
/// [`Channel::poll_frame`] until it returns `None`.
impl Source for Channel {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_fd().as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.as_fd().as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.as_fd().as_raw_fd()).deregister(registry)
    }
}
