//! What wakes a reader that sleeps.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::Error;

/// The writer's end: wakes one reader. A pipe, and not an eventfd: its end is this side's alone, so whatever the reader does with the
/// other, to ring never waits.
#[derive(Debug)]
pub struct Bell {
    rung: OwnedFd,
    /// So that nobody who rings for a reader that is gone gets SIGPIPE.
    _heard: OwnedFd,
}

/// The reader's end, to be watched by what waits for descriptors.
#[derive(Debug)]
pub struct Hearing {
    heard: OwnedFd,
}

impl Bell {
    /// A bell that was not rung yet, and a descriptor for the reader, which makes a [`Hearing`] of it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: too many files are open.
    pub fn new() -> Result<(Self, OwnedFd), Error> {
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (heard, rung) = pipe.map_err(Error::os("make a bell"))?;
        let theirs = heard.try_clone().map_err(Error::os("duplicate a bell"))?;
        Ok((Self { rung, _heard: heard }, theirs))
    }

    /// Wakes the reader. Never waits, and rings that nobody heard yet are one.
    pub fn ring(&self) {
        // Full is rung.
        let _ = rustix::io::write(&self.rung, &[0]);
    }
}

impl Hearing {
    /// Of what the writer gave as the reader's descriptor.
    pub const fn new(descriptor: OwnedFd) -> Self {
        Self { heard: descriptor }
    }

    /// What rang until now is heard: the descriptor is readable again when it rings anew. To be called before the reader looks what
    /// there is, so that nothing is missed.
    pub fn hear(&self) {
        // More than fits here was rung: then it is no news that it was.
        let _ = rustix::io::read(&self.heard, &mut [0; 512]);
    }
}

impl AsFd for Hearing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

impl AsRawFd for Hearing {
    fn as_raw_fd(&self) -> RawFd {
        self.heard.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::epoll;

    use super::*;

    fn pair() -> (Bell, Hearing) {
        let (bell, theirs) = Bell::new().unwrap();
        (bell, Hearing::new(theirs))
    }

    #[test]
    fn who_has_heard_is_woken_again() {
        let (bell, hearing) = pair();
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, &hearing, epoll::EventData::new_u64(7), edges).unwrap();
        let woken = || {
            let mut events = Vec::with_capacity(4);
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&now)).unwrap()
        };
        assert_eq!(woken(), 0);
        for rings in [1, 3, 600, 1] {
            (0..rings).for_each(|_| bell.ring());
            assert_eq!((woken(), woken()), (1, 0), "{rings}");
            hearing.hear();
        }
    }

    #[test]
    fn nobody_who_rings_waits_whatever_the_reader_does() {
        let (bell, hearing) = pair();
        rustix::io::ioctl_fionbio(&hearing, false).unwrap();
        // More than a pipe holds.
        (0..100_000).for_each(|_| bell.ring());
        drop(hearing);
        (0..100_000).for_each(|_| bell.ring());
    }
}
