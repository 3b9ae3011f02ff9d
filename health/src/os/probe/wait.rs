//! Waiting for descriptors, with one deadline for all of a probe.

use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::reason::{End, Shown};

/// The time that a probe has, all in all, and what may end it early.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    timeout: Duration,
    /// `None` if there is no such instant.
    deadline: Option<Instant>,
    interrupt: Option<BorrowedFd<'a>>,
    has_looked_last: bool,
}

/// A system call waits at most so long; then it is made again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl<'a> Wait<'a> {
    /// Has so much time from `now` on, unless `interrupt` becomes readable.
    pub(super) fn new(timeout: Duration, now: Instant, interrupt: Option<BorrowedFd<'a>>) -> Self {
        Self { timeout, deadline: now.checked_add(timeout), interrupt, has_looked_last: false }
    }

    /// The whole of it, for people.
    pub(super) fn timeout(&self) -> Shown {
        Shown(self.timeout)
    }

    /// Waits until one of `fds` is ready; which, they know then.
    ///
    /// When time is up there is one last look, without waiting: if it was us who stood still, what came meanwhile counts. There is
    /// only one, so that whoever has always something for us doesn't get around the deadline.
    pub(super) fn until_any<'f>(&mut self, fds: &mut Vec<PollFd<'f>>) -> Result<(), End>
    where
        'a: 'f,
    {
        let interrupt = self.interrupt;
        fds.extend(interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let waited = self.poll(fds);
        let is_interrupted =
            interrupt.is_some() && fds.pop().is_some_and(|interrupt| !interrupt.revents().is_empty());
        waited.and(if is_interrupted { Err(End::Interrupted) } else { Ok(()) })
    }

    /// Waits until this one is.
    pub(super) fn until(&mut self, fd: BorrowedFd<'_>, flags: PollFlags) -> Result<(), End> {
        self.until_any(&mut vec![PollFd::from_borrowed_fd(fd, flags)])
    }

    /// Lets a little time pass.
    pub(super) fn pause(&mut self, pause: Duration) -> Result<(), End> {
        let now = now();
        let whole = self.deadline.take();
        self.deadline = now.checked_add(pause).into_iter().chain(whole).min();
        let waited = self.until_any(&mut Vec::new());
        (self.deadline, self.has_looked_last) = (whole, false);
        match waited {
            Err(End::TimedOut) if self.left() > Duration::ZERO => Ok(()),
            waited => waited,
        }
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(LONGEST, |deadline| deadline.saturating_duration_since(now()))
    }

    fn poll(&mut self, fds: &mut [PollFd<'_>]) -> Result<(), End> {
        loop {
            let left = self.left().min(LONGEST);
            if left.is_zero() && mem::replace(&mut self.has_looked_last, true) {
                return Err(End::TimedOut);
            }
            let timeout = Timespec::try_from(left).unwrap_or_default();
            match poll(fds, Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(End::Unasked(format!("could not wait: {errno}"))),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver has a clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn what_came_while_we_stood_still_counts_once() {
        let ready = eventfd(1, EventfdFlags::empty()).unwrap();
        let mut wait = Wait::new(Duration::ZERO, now(), None);
        assert_eq!(wait.until(ready.as_fd(), PollFlags::IN), Ok(()));
        assert_eq!(
            wait.until(ready.as_fd(), PollFlags::IN),
            Err(End::TimedOut),
            "there is no other last look"
        );
        let never = eventfd(0, EventfdFlags::empty()).unwrap();
        let mut wait = Wait::new(Duration::from_millis(1), now(), None);
        assert_eq!(wait.until(never.as_fd(), PollFlags::IN), Err(End::TimedOut));
    }

    #[test]
    fn an_interrupt_ends_every_wait() {
        let (ready, interrupt) =
            (eventfd(1, EventfdFlags::empty()).unwrap(), eventfd(1, EventfdFlags::empty()).unwrap());
        for timeout in [Duration::ZERO, Duration::MAX] {
            let mut wait = Wait::new(timeout, now(), Some(interrupt.as_fd()));
            let mut fds = vec![PollFd::new(&ready, PollFlags::IN)];
            assert_eq!(wait.until_any(&mut fds), Err(End::Interrupted));
            assert_eq!(fds.len(), 1, "the caller's are as before");
        }
        let mut wait = Wait::new(Duration::MAX, now(), Some(interrupt.as_fd()));
        assert_eq!(wait.pause(Duration::MAX), Err(End::Interrupted));
    }

    #[test]
    fn a_pause_is_not_longer_than_the_time_that_is_left() {
        let mut wait = Wait::new(Duration::MAX, now(), None);
        assert_eq!(wait.pause(Duration::from_millis(1)), Ok(()));
        let ready = eventfd(1, EventfdFlags::empty()).unwrap();
        wait.deadline = Some(now());
        assert_eq!(
            wait.until(ready.as_fd(), PollFlags::IN),
            Ok(()),
            "a pause takes nothing of the last look"
        );
        let mut wait = Wait::new(Duration::from_millis(1), now(), None);
        assert_eq!(wait.pause(Duration::MAX), Err(End::TimedOut));
    }
}
