//! How a worker went.

use std::fmt;

use cluster_supervisor::{Exit, ExitCause};

/// How a worker went, and who wanted it: where Node has `exitedAfterDisconnect`, a bool that is sometimes neither, with `code` and `signal`.
///
/// ```
/// use cluster::Departure;
/// use cluster::supervisor::Exit;
///
/// let departure = Departure::Asked { exit: Exit::Code(0) };
/// assert!(departure.is_after_disconnect());
/// assert_eq!(departure.to_string(), "exited with code 0 as asked");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Departure {
    /// The primary asked it to: somebody disconnected or stopped it, it was replaced, or all were to end.
    Asked {
        /// How it ended.
        exit: Exit,
    },
    /// The same, but it did not go in time and was killed.
    Overdue {
        /// How it ended.
        exit: Exit,
    },
    /// It said that it would: [`Worker::disconnect`](crate::Worker::disconnect), [`Worker::exit`](crate::Worker::exit).
    ByItself {
        /// How it ended.
        exit: Exit,
    },
    /// By a signal of [`WorkerHandle::kill`](crate::WorkerHandle::kill), or in order after that was SIGTERM.
    Killed {
        /// How it ended.
        exit: Exit,
    },
    /// Unasked: by a fault, a panic, a signal of somebody else, or since its `main` returned.
    Crashed {
        /// How it ended.
        exit: Exit,
    },
    /// The primary ended it, since it was not ready in time, hung, or could not be led any more.
    Removed {
        /// How it ended.
        exit: Exit,
        /// Why.
        cause: ExitCause,
    },
    /// Its process could not be started, or it was stopped before its turn came.
    NeverStarted,
}

impl Departure {
    /// `killed` is whether its end is the work of [`WorkerHandle::kill`](crate::WorkerHandle::kill).
    pub(crate) fn new(exit: Exit, cause: ExitCause, killed: bool) -> Self {
        match cause {
            ExitCause::Asked => Self::Asked { exit },
            ExitCause::StopTimeout => Self::Overdue { exit },
            ExitCause::Left => Self::ByItself { exit },
            ExitCause::Crash | ExitCause::BootFailure if killed => Self::Killed { exit },
            ExitCause::Crash | ExitCause::BootFailure => Self::Crashed { exit },
            cause => Self::Removed { exit, cause },
        }
    }

    /// How its process ended; `None` if there was none.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Self::Asked { exit }
            | Self::Overdue { exit }
            | Self::ByItself { exit }
            | Self::Killed { exit }
            | Self::Crashed { exit }
            | Self::Removed { exit, .. } => Some(exit),
            Self::NeverStarted => None,
        }
    }

    /// Whether it was asked to go, or said so itself: Node's `exitedAfterDisconnect`.
    pub fn is_after_disconnect(self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Overdue { .. } | Self::ByItself { .. })
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { exit } => write!(f, "{exit} {}", ExitCause::Asked),
            Self::Overdue { exit } => write!(f, "{exit} {}", ExitCause::StopTimeout),
            Self::ByItself { exit } => write!(f, "{exit} {}", ExitCause::Left),
            Self::Killed { exit } => write!(f, "{exit} on demand"),
            Self::Crashed { exit } => write!(f, "{exit} unasked"),
            Self::Removed { exit, cause } => write!(f, "{exit} {cause}"),
            Self::NeverStarted => f.write_str("was never started"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_asked_or_said_so_is_gone_after_a_disconnect() {
        let exit = Exit::Signal(9);
        for (cause, killed, expected, after) in [
            (ExitCause::Asked, true, Departure::Asked { exit }, true),
            (ExitCause::StopTimeout, false, Departure::Overdue { exit }, true),
            (ExitCause::Left, false, Departure::ByItself { exit }, true),
            (ExitCause::Crash, true, Departure::Killed { exit }, false),
            (ExitCause::BootFailure, false, Departure::Crashed { exit }, false),
            (ExitCause::Unhealthy, false, Departure::Removed { exit, cause: ExitCause::Unhealthy }, false),
        ] {
            let departure = Departure::new(exit, cause, killed);
            assert_eq!((departure, departure.is_after_disconnect()), (expected, after));
            assert_eq!(departure.exit(), Some(exit));
        }
    }
}
