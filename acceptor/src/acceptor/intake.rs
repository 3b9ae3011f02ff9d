//! Listening sockets, and what to do when the system has nothing left to accept with.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::{Address, ListeningSocket};

/// How long accepting pauses when there are no descriptors or no memory; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A listening socket. Readiness is edge-triggered, so it is remembered here until the kernel says it would block.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) listener: u8,
    /// Whose it is, if it is one of a slot's.
    pub(super) slot: Option<u32>,
    pub(super) socket: ListeningSocket,
    pub(super) token: Token,
    pub(super) ready: bool,
}

/// What one attempt to accept gave.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(OwnedFd, Address),
    /// This one was gone before it was accepted; try the next.
    Aborted,
    /// No more are waiting.
    Drained,
    /// There are no descriptors or no memory, or something is wrong that trying again at once won't mend: wait. Those
    /// waiting stay in the kernel's queue.
    Exhausted(Errno),
}

impl Intake {
    /// Begins to watch a socket.
    pub(super) fn new(
        listener: u8,
        slot: Option<u32>,
        socket: ListeningSocket,
        token: Token,
        registry: &Registry,
    ) -> io::Result<Self> {
        registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        // One may be waiting already.
        Ok(Self { listener, slot, socket, token, ready: true })
    }

    /// Closes it. Others may have copies: without this the poll would go on to tell of it.
    pub(super) fn close(self, registry: &Registry) {
        if let Err(error) = registry.deregister(&mut SourceFd(&self.socket.as_fd().as_raw_fd())) {
            tracing::error!(%error, "could not stop watching a listening socket");
        }
    }

    pub(super) fn accept(&mut self) -> Accepted {
        loop {
            return match acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((stream, Some(peer))) => Accepted::Connection(stream, peer.into()),
                Ok((stream, None)) => Accepted::Connection(stream, Address::Unix(None)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.ready = false;
                    Accepted::Drained
                }
                Err(errno) if is_of_the_connection(errno) => Accepted::Aborted,
                Err(errno) => Accepted::Exhausted(errno),
            };
        }
    }
}

/// accept(2): Linux passes pending network errors of the new connection on as errors of `accept`.
fn is_of_the_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP
            | Errno::PERM
    )
}

/// A pause that doubles each time and is over after a success.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    last: Option<Duration>,
}

impl Pause {
    pub(super) fn begin(&mut self, now: Instant) -> Duration {
        let length = self.last.map_or(FIRST_PAUSE, |last| (last * 2).min(MAX_PAUSE));
        self.last = Some(length);
        self.until = Some(now + length);
        length
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// When it ends, if it is not over.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_limit_and_a_success_ends_it() {
        let now = Instant::now();
        let mut pause = Pause::default();
        let lengths: Vec<_> = (0..6).map(|_| pause.begin(now).as_millis()).collect();
        assert_eq!(lengths, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pause.until(now), Some(now + MAX_PAUSE));
        assert_eq!(pause.until(now + MAX_PAUSE), None);
        pause.reset();
        assert_eq!(pause.until(now), None);
        assert_eq!(pause.begin(now), FIRST_PAUSE);
    }
}
