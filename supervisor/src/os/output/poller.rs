//! Waiting for many pipes at once (epoll).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use super::super::Error;

/// How many pipes are told of at once; the kernel tells of the others next time.
const EVENTS: usize = 64;

/// The kernel takes no more than some 24 days, and nobody needs them.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The token of the bell.
const BELL: u64 = u64::MAX;

/// A set of pipes that are waited for, and a bell that ends the wait.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    bell: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> Result<Self, Error> {
        let poller = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(Error::os("create an epoll instance"))?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(Error::os("create an eventfd"))?,
        };
        poller.add(&poller.bell, BELL).map_err(Error::os("watch an eventfd"))?;
        Ok(poller)
    }

    /// Waits for `pipe`, too, until it is [removed](Self::remove).
    pub(super) fn add(&self, pipe: &OwnedFd, token: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, pipe, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
    }

    /// Waits for `pipe` no more. To be called before it is closed: while another process has a copy, as between fork
    /// and exec, epoll would go on to tell of it.
    pub(super) fn remove(&self, pipe: impl AsFd) {
        // It fails for what is not in the set, which is what is wanted.
        let _ = epoll::delete(&self.epoll, pipe);
    }

    /// Waits and puts the tokens of pipes that can be read into `ready`.
    pub(super) fn wait(&self, ready: &mut Vec<u64>, timeout: Option<Duration>) {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(LONGEST)).ok());
        // It fails when a signal comes in between: then nothing is ready, and the caller is back soon.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
        ready.extend(events.iter().map(|event| event.data.u64()).filter(|token| *token != BELL));
    }

    /// Ends the wait, this one and all that follow.
    pub(super) fn ring(&self) {
        // It can't be full: it is rung once in its life.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}
