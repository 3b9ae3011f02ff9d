//! What can go wrong between two processes.

use std::io;
use std::sync::Arc;

/// An error of this crate.
///
/// Errors of the peer (what it sent) and of the machine (what a system call said) are told apart.
/// After any of the peer errors the channel is useless: the two sides no longer agree on where a
/// frame begins. An error can be cloned: all who hold a part of a connection learn why it ended.
#[derive(Clone, Debug, thiserror::Error)]
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
    /// The peer sent a frame of a known kind where it has no place.
    #[error("the peer sent a frame out of place: {what}")]
    OutOfPlace {
        /// Which, and why not here.
        what: &'static str,
    },
    /// The peer sent more than it had been given credit for.
    #[error("the peer sent more {what} than it had credit for")]
    CreditExceeded {
        /// Bytes, messages, descriptors or requests.
        what: &'static str,
    },
    /// The peer takes nothing, although it must: what this side has to answer piles up.
    #[error("the peer does not read its answers: {waiting} bytes are waiting")]
    NotReading {
        /// How many bytes are waiting for it.
        waiting: usize,
    },
    /// The peer sent memory instead of bytes that can't be mapped safely.
    #[error("the peer sent memory that cannot be used: {reason}")]
    BadMemory {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The peer did not finish the handshake in time.
    #[error("the peer did not answer the handshake in time; is it a program that speaks this protocol?")]
    HandshakeTimeout,
    /// A value could not be encoded.
    #[error("could not encode the message: {reason}")]
    Encode {
        /// What the serialiser said.
        reason: String,
    },
    /// The bytes of a message are not what the receiver expects. The connection goes on.
    #[error("could not decode the message: {reason}")]
    Decode {
        /// What the deserialiser said.
        reason: String,
    },
    /// The peer answered a request with an error.
    #[error("the request failed: {0}")]
    Failed(crate::session::Failure),
    /// The answer to a request did not come in time. Whether the peer has acted on it can't be known.
    #[error("the request timed out")]
    TimedOut,
    /// Messages of a broadcast were left out, because this side took them too slowly. The next one is there.
    #[error("{missed} messages of a broadcast were missed: this side takes them too slowly")]
    Missed {
        /// How many.
        missed: u64,
    },
    /// There is nobody to send to by that name.
    #[error("could not reach {to}: it is not connected")]
    Unreachable {
        /// Who was meant.
        to: String,
    },
    /// Whom it is for takes nothing, and as much waits for it already as may: letters, bytes, or descriptors. It did not get it.
    #[error(
        "could not send to {to}: it takes nothing, and as much as may waits for it; send again later, or less at a time"
    )]
    NotTaken {
        /// Who was meant.
        to: String,
    },
    /// It has answered, and its answer was dropped on the way: this process does not read the answers that it asked for, and as many
    /// bytes of them wait as may.
    #[error(
        "could not bring the answer of {to} here: as many bytes of answers as may wait to be read already; ask for less at a time"
    )]
    AnswerNotTaken {
        /// Who was asked.
        to: String,
    },
    /// Whom it was for ended before it answered, or took it. Whether it has acted on it can't be known.
    #[error("{to} ended before it answered")]
    Gone {
        /// Who was meant.
        to: String,
    },
    /// A process could not be started with a channel.
    #[error("could not start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// This process was not started with a channel, although it must be.
    #[error(
        "this program was not started by a parent with a channel: no Welcome on stdin, nor on the descriptor that {variable} names"
    )]
    NotAdopted {
        /// The environment variable that was looked at.
        variable: &'static str,
    },
    /// The connection was closed on this side.
    #[error("the connection was closed on this side")]
    Closed,
    /// The message is above the limits: this side's or the peer's.
    #[error("the message is too large for the peer: at most {max} bytes, {descriptors} descriptors")]
    TooLarge {
        /// The most bytes.
        max: usize,
        /// The most descriptors.
        descriptors: usize,
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
    /// What should be a ring of this version is something else, or cannot be made.
    #[error("not a usable ring: {reason}")]
    Ring {
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
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Gives a closure for `map_err` that names the failed operation.
    pub(crate) fn os<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { operation, source: Arc::new(source.into()) }
    }
}

/// Why something could not be sent now. It comes back, with its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// As much is on its way as may be. Try again when the peer has taken some.
    #[error("as much is on its way as may be; try again when the peer has taken some")]
    Full(T),
    /// Larger than it may ever be: trying again doesn't help.
    #[error("the message is too large")]
    TooLarge(T),
    /// The peer is gone, or the connection was closed.
    #[error("the peer is gone")]
    Closed(T),
}

impl<T> TrySendError<T> {
    /// Returns what was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::TooLarge(item) | Self::Closed(item) => item,
        }
    }

    /// The same reason with something else in hand.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> TrySendError<U> {
        match self {
            Self::Full(item) => TrySendError::Full(change(item)),
            Self::TooLarge(item) => TrySendError::TooLarge(change(item)),
            Self::Closed(item) => TrySendError::Closed(change(item)),
        }
    }
}
