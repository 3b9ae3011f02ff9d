//! A running child, watched and signalled through a pidfd.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};

use super::Error;
use super::stdio::OurEnds;
use crate::{Exit, StopSignal};

/// A child process. Its pidfd becomes readable when it exits; then [`try_reap`](Self::try_reap) it.
///
/// The pid can't be reused before it is reaped, so signals can't hit a stranger. Nobody else in this process may
/// reap it (no `waitpid(-1)`), and `SIGCHLD` must not be ignored.
///
/// Dropping it leaves the process running and unreaped; whoever started it decides how it ends.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
    ends: OurEnds,
}

impl Child {
    /// Takes over a child that was just started, or ends it if it can't be watched.
    pub(super) fn watch(mut process: std::process::Child, ends: OurEnds) -> io::Result<Self> {
        let pidfd = i32::try_from(process.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
        match pidfd {
            Ok(pidfd) => Ok(Self { process, pidfd, ends }),
            Err(errno) => {
                process.kill()?;
                process.wait()?;
                Err(unwatchable(errno))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Our end of its stdin, if that is [`Piped`](super::Stdio::Piped): non-blocking. `None` the second time.
    ///
    /// Its stdin ends when this is dropped.
    pub fn take_stdin(&mut self) -> Option<PipeWriter> {
        self.ends.stdin.take()
    }

    /// Our end of its stdout, if that is [`Piped`](super::Stdio::Piped): non-blocking. `None` the second time.
    ///
    /// It ends when all who inherited the other end have closed it, which may be later than the child's exit.
    /// Once it is dropped, whoever writes to the other end gets `SIGPIPE`.
    pub fn take_stdout(&mut self) -> Option<PipeReader> {
        self.ends.stdout.take()
    }

    /// Our end of its stderr, as [`take_stdout`](Self::take_stdout).
    pub fn take_stderr(&mut self) -> Option<PipeReader> {
        self.ends.stderr.take()
    }

    /// Sends a signal. A child that has exited already is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], for example when the child has changed its user.
    pub fn signal(&self, signal: StopSignal) -> Result<(), Error> {
        let signal = match signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Kill => Signal::KILL,
        };
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::os("signal a child")(errno)),
        }
    }

    /// Whether it has ended, reaped or not. One that a debugger holds may have ended and be no one's to reap.
    pub(super) fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&now)), Ok(1))
    }

    /// Returns how it exited, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when somebody else has reaped it.
    pub fn try_reap(&mut self) -> Result<Option<Exit>, Error> {
        Ok(self.process.try_wait().map_err(Error::os("reap a child"))?.map(Exit::from))
    }

    /// Waits until it has ended, and returns how. Closes our end of its stdin first, which it may be waiting for.
    ///
    /// For a program that does nothing else meanwhile; others wait for the pidfd.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when somebody else has reaped it.
    pub fn wait(mut self) -> Result<Exit, Error> {
        drop(self.ends.stdin.take());
        Ok(self.process.wait().map_err(Error::os("reap a child"))?.into())
    }

    /// Kills it, with all of its process group if that began with it, and waits until it is gone: for a child that nobody
    /// can look after.
    ///
    /// # Errors
    ///
    /// [`Error::Unkillable`] when it may not be killed: it is given back, and still has to be waited for.
    /// [`Error::Os`] when somebody else has reaped it.
    pub fn kill_and_reap(mut self) -> Result<Exit, Error> {
        // Nobody else would find them when the child is gone. If there is no group, or no permission, the child is tried.
        let _ = signal_group_of(self.pid(), self.pidfd.as_fd(), Signal::KILL);
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(self.process.wait().map_err(Error::os("reap a child"))?.into()),
            // Not even somebody else's zombie may be signalled, but a child of ours be reaped.
            Err(errno) => match self.try_reap()? {
                Some(exit) => Ok(exit),
                None => Err(Error::Unkillable { child: Box::new(self), source: errno.into() }),
            },
        }
    }

    /// Another descriptor for the same process, for an event loop to wait on.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] at the limit of open files.
    pub fn try_clone_pidfd(&self) -> Result<OwnedFd, Error> {
        self.pidfd.try_clone().map_err(Error::os("duplicate a pidfd"))
    }

    /// Whether a debugger is attached: a worker that stands at a breakpoint is no hung one.
    pub fn is_traced(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    }
}

/// The process group of a process, or with 0 of this one: 0 if it began outside of our pid namespace.
///
/// It takes no descriptor, and not even `/proc`.
pub(super) fn group_of(pid: u32) -> Option<u32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    nix::unistd::getpgid(Some(pid)).ok()?.as_raw().try_into().ok()
}

/// The process group of a child's number, if there can be one and it can only have begun with the child.
///
/// A group's number is the pid of the one with whom it began; and until the child is reaped, nobody else can get its pid,
/// nor a group of this number.
pub(super) fn own_group(child: u32, pidfd: BorrowedFd<'_>) -> Option<Pid> {
    let is_ours = group_of(0) == Some(child);
    let group = i32::try_from(child).ok().and_then(Pid::from_raw);
    group.filter(|_| !is_ours && is_unreaped(pidfd))
}

/// Signals that group. Nobody in it, or nobody whom we may signal, is no error.
pub(super) fn signal_group_of(child: u32, pidfd: BorrowedFd<'_>, signal: Signal) -> rustix::io::Result<()> {
    match own_group(child, pidfd).map(|group| kill_process_group(group, signal)) {
        None | Some(Err(Errno::SRCH | Errno::PERM)) => Ok(()),
        Some(result) => result,
    }
}

/// Whether a child, alive or dead, still has its pid.
pub(super) fn is_unreaped(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd), options).is_ok()
}

/// Why there is no pidfd for a child: an older kernel doesn't know the call, or not that it may be non-blocking.
fn unwatchable(errno: Errno) -> io::Error {
    match errno {
        Errno::NOSYS | Errno::INVAL => {
            let what = format!("watching a process takes Linux 5.10 or later (pidfd_open: {errno})");
            io::Error::new(io::ErrorKind::Unsupported, what)
        }
        errno => errno.into(),
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named_as_the_cause() {
        for errno in [Errno::NOSYS, Errno::INVAL] {
            let error = unwatchable(errno);
            assert!(error.to_string().contains("Linux 5.10"), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        }
        assert_eq!(unwatchable(Errno::MFILE).raw_os_error(), Some(24), "others speak for themselves");
    }
}
