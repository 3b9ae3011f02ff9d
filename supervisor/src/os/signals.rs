//! Signals to this process, as values from a descriptor.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal as Number;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::Error;

/// A signal that a supervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGTERM`: stop.
    Term,
    /// `SIGINT`: stop, from the terminal (Ctrl-C).
    Int,
    /// `SIGQUIT`: stop, from the terminal (Ctrl-\\).
    Quit,
    /// `SIGHUP`: read the configuration again; or the terminal is gone.
    Hup,
    /// `SIGCHLD`: a child has ended. Several may be behind one signal.
    Child,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
    /// `SIGTTIN`: by custom, one worker more.
    Ttin,
    /// `SIGTTOU`: by custom, one worker fewer.
    Ttou,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Term,
        Self::Int,
        Self::Quit,
        Self::Hup,
        Self::Child,
        Self::Usr1,
        Self::Usr2,
        Self::Ttin,
        Self::Ttou,
    ];

    /// Its number on this machine.
    pub fn number(self) -> i32 {
        self.to_number().as_raw()
    }

    pub(super) fn to_number(self) -> Number {
        match self {
            Self::Term => Number::TERM,
            Self::Int => Number::INT,
            Self::Quit => Number::QUIT,
            Self::Hup => Number::HUP,
            Self::Child => Number::CHILD,
            Self::Usr1 => Number::USR1,
            Self::Usr2 => Number::USR2,
            Self::Ttin => Number::TTIN,
            Self::Ttou => Number::TTOU,
        }
    }

    /// Whether this process ignores it, by inheritance say. Without `/proc` it is taken not to.
    pub(super) fn is_ignored(self) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        ignored & (1 << (self.number() - 1)) != 0
    }

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Child => "SIGCHLD",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Ttin => "SIGTTIN",
            Self::Ttou => "SIGTTOU",
        })
    }
}

/// Signals that have arrived. Its descriptor becomes readable when there are some; then [`take`](Self::take) them.
///
/// While it lives, these signals have no other effect: `SIGTERM` doesn't end this process any more. For a PID 1 it is the
/// only way to be reached by them at all, since the kernel drops what init has no handler for.
/// Several of these, and tokio's, may watch the same signal; each gets all.
/// A signal that comes twice before it is taken is one, as it is to the kernel.
/// A `poll` that a signal interrupts ends with `EINTR`, as ever: then take them as well.
///
/// Children are not affected: a handler ends at exec. What would pass on is a signal that is ignored or blocked, and
/// here none is. `SIGPIPE`, which Rust's runtime ignores, the standard library sets back to its default in each child that it
/// starts, and it unblocks all signals there.
///
/// Dropping it stops the delivery and leaves the signals without effect: the earlier handling does not come back.
///
/// ```
/// use cluster_supervisor::os::{Signal, Signals};
///
/// let mut signals = Signals::new([Signal::Usr1, Signal::Hup])?;
/// assert_eq!(signals.take(), []);
/// # let me = rustix::process::getpid();
/// # rustix::process::kill_process(me, rustix::process::Signal::USR1).unwrap();
/// // … `kill -USR1` of this process, and its descriptor becomes readable:
/// # rustix::event::poll(&mut [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)], None).unwrap();
/// assert_eq!(signals.take(), [Signal::Usr1]);
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct Signals {
    // Flags, and a pair of sockets that only wakes: a child of somebody's plain fork that is hit by a signal before its exec
    // runs our handler, and writes into our socket. It sets its own copy of the flag, so here nothing is made up.
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Watches these signals from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], at the limit of open files.
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> Result<Self, Error> {
        let (read, write) = UnixStream::pair().map_err(Error::os("open a socket pair for signals"))?;
        // A handler must never wait, nor may whoever takes the socket for readable in vain.
        for end in [&read, &write] {
            end.set_nonblocking(true).map_err(Error::os("prepare a socket pair for signals"))?;
        }
        let numbers = signals.into_iter().map(Signal::number);
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, numbers);
        Ok(Self { delivery: delivery.map_err(Error::os("install a signal handler"))? })
    }

    /// Takes those that have arrived, each once, in no particular order. It does not wait; often there are none.
    pub fn take(&mut self) -> Vec<Signal> {
        self.delivery.pending().filter_map(Signal::from_number).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_is_found_by_its_number_and_has_its_name() {
        for signal in Signal::ALL {
            assert_eq!(Signal::from_number(signal.number()), Some(signal));
        }
        assert_eq!((Signal::Child.to_string(), Signal::Child.number()), ("SIGCHLD".to_owned(), 17));
        assert_eq!(Signal::from_number(Number::KILL.as_raw()), None);
    }
}
