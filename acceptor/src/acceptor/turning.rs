//! An acceptor without a thread, for tests (feature `test-util`).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use mio::{Events, Poll, Waker};

use super::run::{EVENTS, Run};
use super::{Acceptor, COMMANDS, Settings, Stats, WAKER, WorkerKey};
use crate::Error;

/// What the acceptor's thread does otherwise, to be done turn by turn, with a clock of one's own.
///
/// Whoever turns it waits until its [descriptor](Self::readable) is readable or the time is over that [`turn`](Self::turn)
/// returned. Commands are carried out in a turn; each makes the descriptor readable.
pub struct Turning<K> {
    run: Run<K>,
    events: Events,
}

impl<K> std::fmt::Debug for Turning<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turning").finish_non_exhaustive()
    }
}

impl<K: WorkerKey> Acceptor<K> {
    /// The same without a thread: it does something only when it is turned.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: no descriptors.
    pub fn turned(settings: Settings, now: Instant) -> Result<(Self, Turning<K>), Error> {
        let poll = Poll::new().map_err(Error::os("make an epoll for the acceptor"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(Error::os("make a waker for the acceptor"))?;
        let (commands, inbox) = bounded(COMMANDS);
        let stats = Arc::new(Stats::default());
        let run = Run::new(poll, inbox, settings, Arc::clone(&stats), now);
        let acceptor = Self { commands: Some(commands), waker: Arc::new(waker), stats, thread: None };
        Ok((acceptor, Turning { run, events: Events::with_capacity(EVENTS) }))
    }
}

impl<K: WorkerKey> Turning<K> {
    /// A copy of the descriptor that is readable while there is something to do.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: no descriptors.
    pub fn readable(&self) -> Result<OwnedFd, Error> {
        let registry = self.run.poll.registry();
        let copy = std::os::fd::AsFd::as_fd(registry).try_clone_to_owned();
        copy.map_err(Error::os("duplicate the acceptor's epoll"))
    }

    /// Does all there is to do now. Returns when something is to be done next, whatever happens until then.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when it can't see any more what happens.
    pub fn turn(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        loop {
            let polled = self.run.poll_events(&mut self.events, Some(Duration::ZERO));
            polled.map_err(Error::os("wait for events"))?;
            let goes_on = self.run.handle_all(&self.events, now);
            let timeout = self.run.timeout(now);
            if !goes_on || (self.events.is_empty() && timeout != Some(Duration::ZERO)) {
                return Ok(timeout.map(|timeout| now + timeout));
            }
        }
    }
}
