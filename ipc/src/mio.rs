//! [`Channel`] and [`Connection`] as mio event sources (feature `mio`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::{Channel, Connection};

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

/// Register it for reading and writing. Readiness is edge-triggered: after an event, call [`Connection::read`] until it
/// says [`Drained`](crate::Read::Drained) or [`Ended`](crate::Read::Ended), take the events, and
/// [`flush`](Connection::flush). Let the poll end at [`Connection::poll_timeout`].
///
/// ```
/// use cluster_ipc::session::{Config, Event};
/// use cluster_ipc::{Connection, Lane, Read};
/// use mio::{Events, Interest, Poll, Token};
/// use std::time::Instant;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut here, mut there) = Connection::pair(Config::new())?;
/// let mut poll = Poll::new()?;
/// poll.registry().register(&mut here, Token(0), Interest::READABLE | Interest::WRITABLE)?;
/// poll.registry().register(&mut there, Token(1), Interest::READABLE | Interest::WRITABLE)?;
/// let mut events = Events::with_capacity(8);
/// loop {
///     poll.poll(&mut events, None)?;
///     let now = Instant::now();
///     for connection in [&mut here, &mut there] {
///         while connection.read(now) == Read::Some {}
///     }
///     while let Some(event) = here.poll_event() {
///         if let Event::Opened(_) = event {
///             here.send(Lane::Data, b"hello", vec![]).expect("there is credit");
///         }
///     }
///     while let Some(event) = there.poll_event() {
///         if let Event::Message(message) = event {
///             assert_eq!(&message.bytes()[..], b"hello");
///             return Ok(());
///         }
///     }
///     here.flush(now);
///     there.flush(now);
/// }
/// # }
/// ```
impl<T: AsFd> Source for Connection<T> {
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
