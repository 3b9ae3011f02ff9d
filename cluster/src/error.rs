//! What can go wrong with a cluster.

use std::fmt;
use std::io;
use std::time::Duration;

/// An error of the cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something between two processes.
    #[error(transparent)]
    Ipc(#[from] cluster_ipc::Error),
    /// Something on a connection's way to a worker.
    #[error(transparent)]
    Acceptor(#[from] cluster_acceptor::Error),
    /// Something with processes.
    #[error(transparent)]
    Process(#[from] cluster_supervisor::os::Error),
    /// The chosen strategy doesn't exist.
    #[error(transparent)]
    Strategy(#[from] cluster_balancer::UnknownStrategy),
    /// The environment variable that sets the [scheduling](crate::Scheduling) has a value that means nothing.
    #[error(
        "{} is {value:?}, which is none of {}",
        crate::scheduling::VARIABLE,
        crate::scheduling::allowed()
    )]
    SchedulingVariable {
        /// What it is.
        value: String,
    },
    /// The address could not be listened on. Reported to every worker that asks, each time anew.
    #[error("could not listen on {address}")]
    Listen {
        /// What was asked for.
        address: String,
        /// What the system said to the primary.
        #[source]
        source: io::Error,
    },
    /// No address was found for a name.
    #[error("could not resolve {address}")]
    Resolve {
        /// What was asked for.
        address: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The worker already listens on this address.
    #[error("this worker already listens on {address}")]
    AlreadyListening {
        /// The address.
        address: String,
    },
    /// This worker already runs tasks of that name.
    #[error("this worker already runs tasks named {name}")]
    AlreadyRuns {
        /// The name.
        name: &'static str,
    },
    /// The primary did not answer a request in time.
    #[error("the primary did not answer within {within:?}")]
    Timeout {
        /// How long was waited.
        within: Duration,
    },
    /// The primary is gone; this worker is about to end.
    #[error("the primary is gone")]
    PrimaryGone,
    /// The workers are not replaced.
    #[error("could not replace the workers: {0}")]
    Roll(cluster_supervisor::RollRefused),
    /// The worker of a slot was not replaced; if it lives, it stays.
    #[error("the worker of slot {slot} was not replaced: {reason}")]
    NotReplaced {
        /// The slot.
        slot: u32,
        /// Why.
        reason: NotReplaced,
    },
    /// Every worker failed more often than the restart budget allows.
    #[error("no worker is left: {reason}")]
    GaveUp {
        /// Which worker, why, how often.
        reason: String,
    },
    /// The thread that accepts connections has ended, which it never should.
    #[error("the acceptor thread has ended unexpectedly")]
    AcceptorGone,
    /// The primary's event loop has ended; its handle is useless.
    #[error("the cluster has ended")]
    Ended,
    /// A message could not be encoded.
    #[error("could not encode a message")]
    Encode {
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// A message of the other side could not be decoded.
    #[error("could not decode a {what} of the other side")]
    Decode {
        /// Which type was expected.
        what: &'static str,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// A system call failed.
    #[error("could not {operation}")]
    Os {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why the worker of a slot was not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReplaced {
    /// There is none to replace.
    NoWorker,
    /// It ended, or somebody stopped it, before it was its turn.
    Gone,
    /// Its successor was no good.
    Unfit(cluster_supervisor::Unfit),
}

impl fmt::Display for NotReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker => f.write_str("there is none"),
            Self::Gone => f.write_str("it ended before that"),
            Self::Unfit(reason) => write!(f, "its successor {reason}"),
        }
    }
}

/// A result of the cluster.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `EX_SOFTWARE` of `sysexits.h`: what the cluster exits with when no worker is left.
const EXIT_GAVE_UP: u8 = 70;

impl From<cluster_tasks::AlreadyRuns> for Error {
    fn from(error: cluster_tasks::AlreadyRuns) -> Self {
        Self::AlreadyRuns { name: error.name }
    }
}

impl Error {
    /// The exit code that suits the error: 70 when the cluster gave up, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::GaveUp { .. } => EXIT_GAVE_UP,
            _ => 1,
        }
    }

    pub(crate) fn os<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { operation, source: source.into() }
    }
}
