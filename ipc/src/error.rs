//! What can go wrong between two processes.

use std::io;

use crate::Frame;

/// An error of this crate.
///
/// Errors of the peer (what it sent) and of the machine (what a system call said) are told apart.
/// After any of the peer errors the channel is useless: the two sides no longer agree on where a
/// frame begins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer announced a payload longer than this side takes. Nothing was allocated for it.
    #[error("the peer announced a frame of {len} bytes, more than the {max} allowed")]
    FrameTooLarge {
        /// The announced length of the payload in bytes.
        len: usize,
        /// The largest payload this side takes.
        max: usize,
    },
    /// The peer sent a frame of a kind this version doesn't know and marked it as one that must be
    /// understood.
    #[error("the peer sent a frame of unknown kind {0} that must be understood")]
    UnknownKind(u8),
    /// A frame said it carries more descriptors than arrived with it.
    #[error("a frame claims {claimed} file descriptors, but only {waiting} arrived")]
    DescriptorsMissing {
        /// How many the header claims.
        claimed: usize,
        /// How many were waiting.
        waiting: usize,
    },
    /// The peer sent descriptors that no frame claims.
    #[error("{waiting} file descriptors arrived that no frame claims")]
    DescriptorsUnclaimed {
        /// How many were waiting when the limit was passed.
        waiting: usize,
    },
    /// The kernel had to drop descriptors (`MSG_CTRUNC`): this process is at its limit of open files
    /// (`RLIMIT_NOFILE`). The ones that did arrive were closed.
    #[error(
        "descriptors were lost on arrival: this process is at its limit of open files (raise `ulimit -n`)"
    )]
    DescriptorsLost,
    /// The peer closed its end or died. Everything it sent before was delivered first.
    #[error("the peer is gone")]
    PeerGone,
    /// A message has a form this version cannot read.
    #[error("could not read the peer's {what}")]
    Malformed {
        /// Which message.
        what: &'static str,
    },
    /// The two sides share no version of the protocol.
    #[error("the peer speaks protocol versions {min} to {max}, this side speaks {ours}")]
    Version {
        /// The lowest version the peer speaks.
        min: u16,
        /// The highest version the peer speaks.
        max: u16,
        /// The version this side speaks.
        ours: u16,
    },
    /// The child refused to work with this parent and said why.
    #[error("the peer rejected the connection: {reason}")]
    Rejected {
        /// The child's words.
        reason: String,
    },
    /// [`adopt_stdin`](crate::adopt_stdin) was called a second time.
    #[error("this process has already adopted its channel; do so once, and share what it returned")]
    AlreadyAdopted,
    /// The process that started this one died before this one could begin.
    #[error("the process that started this one (pid {parent}) is gone")]
    Orphaned {
        /// The pid that the Welcome names.
        parent: u32,
    },
    /// What should be a board of this version is something else.
    #[error("not a usable board: {reason}")]
    Board {
        /// What is wrong with it.
        reason: &'static str,
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

impl Error {
    /// Gives a closure for `map_err` that names the failed operation.
    pub(crate) fn os<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { operation, source: source.into() }
    }
}

/// Why a frame could not be queued. The frame comes back, with its descriptors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<F> {
    /// The outbox holds as much as it may. Try again when the peer has read some.
    #[error("the outbox is full")]
    Full(Frame<F>),
    /// The payload or the number of descriptors is above what a frame may carry.
    #[error("the frame is too large")]
    TooLarge(Frame<F>),
    /// The peer is gone.
    #[error("the peer is gone")]
    Closed(Frame<F>),
}

impl<F> TrySendError<F> {
    /// Returns the frame that was not sent.
    pub fn into_frame(self) -> Frame<F> {
        match self {
            Self::Full(frame) | Self::TooLarge(frame) | Self::Closed(frame) => frame,
        }
    }
}
