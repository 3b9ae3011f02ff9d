//! What wakes a reader that sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::Error;

/// The writer's end: wakes one reader. An eventfd, which a reader watches for edges and never reads: one system call to ring, and
/// none to hear it but the wait itself.
#[derive(Debug)]
pub struct Bell {
    eventfd: OwnedFd,
}

/// The reader's end, to be watched by what waits for descriptors (epoll with `EPOLLET`; tokio and mio do): each ring makes it readable
/// anew. It need not be read.
#[derive(Debug)]
pub struct Hearing {
    eventfd: OwnedFd,
}

impl Bell {
    /// A bell that was not rung yet.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: too many files are open.
    pub fn new() -> Result<Self, Error> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { eventfd: eventfd.map_err(Error::os("make a bell"))? })
    }

    /// A descriptor for the reader, which makes a [`Hearing`] of it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: too many files are open.
    pub fn descriptor(&self) -> Result<OwnedFd, Error> {
        self.eventfd.try_clone().map_err(Error::os("duplicate a bell"))
    }

    /// Wakes the reader. Never waits, and rings that nobody heard yet are one.
    pub fn ring(&self) {
        let ring = || rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
        if ring().is_err() {
            // It is full: 2^64 rings, or a reader that plays with it. Emptied, it can be rung.
            let _ = rustix::io::read(&self.eventfd, &mut [0; 8]);
            let _ = ring();
        }
    }
}

impl Hearing {
    /// What a peer sent as a bell's descriptor. It is made not to block, so that nothing here can wait for it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn new(descriptor: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&descriptor, true).map_err(Error::os("make a bell that does not block"))?;
        Ok(Self { eventfd: descriptor })
    }
}

impl AsFd for Hearing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl std::os::fd::AsRawFd for Hearing {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.eventfd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::epoll;

    use super::*;

    #[test]
    fn each_ring_is_an_edge_though_nobody_reads_and_also_when_it_is_full() {
        let bell = Bell::new().unwrap();
        let hearing = Hearing::new(bell.descriptor().unwrap()).unwrap();
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, &hearing, epoll::EventData::new_u64(7), edges).unwrap();
        let heard = || {
            let mut events = Vec::with_capacity(4);
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&now)).unwrap()
        };
        assert_eq!(heard(), 0);
        for _ in 0..3 {
            bell.ring();
            assert_eq!((heard(), heard()), (1, 0));
        }
        rustix::io::write(&hearing, &(u64::MAX - 1 - 3).to_ne_bytes()).unwrap();
        assert_eq!(heard(), 1);
        bell.ring();
        assert_eq!((heard(), heard()), (1, 0), "a full bell can be rung");
    }
}
