//! Messages as a session takes and gives them.

use bytes::Bytes;

use super::credit::{Amount, Quota};
use crate::handshake::{MAX_REASON, text};

/// The bytes of a message: themselves, or a descriptor of sealed memory that holds them.
///
/// `B` is `&[u8]` on the way out and [`Bytes`] on the way in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "bytes travel in the stream or beside it")]
pub enum Payload<B, F> {
    /// In the stream.
    Inline(B),
    /// In memory of its own, of this length, behind this descriptor.
    Memory {
        /// Bytes in it.
        len: u64,
        /// What it can be mapped from.
        descriptor: F,
    },
}

/// What a message, or several together, occupies of the receiver's windows until it is reported handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the sender gets no credit back until this is passed to `handled`"]
pub struct Charge {
    pub(super) control: Amount,
    pub(super) data: Amount,
    pub(super) replies: Amount,
}

impl Charge {
    fn new(quota: Quota, amount: Amount) -> Self {
        let mut charge = Self::default();
        match quota {
            Quota::Control => charge.control = amount,
            Quota::Data => charge.data = amount,
            Quota::Replies => charge.replies = amount,
        }
        charge
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            control: self.control.plus(other.control),
            data: self.data.plus(other.data),
            replies: self.replies.plus(other.replies),
        }
    }
}

/// A message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<F> {
    pub(super) payload: Payload<Bytes, F>,
    pub(super) descriptors: Vec<F>,
    pub(super) quota: Quota,
}

impl<F> Incoming<F> {
    /// Takes it apart: payload, the descriptors the sender attached, and the charge to return when it
    /// has been handled.
    pub fn into_parts(self) -> (Payload<Bytes, F>, Vec<F>, Charge) {
        let (len, memory) = match &self.payload {
            Payload::Inline(bytes) => (bytes.len() as u64, 0),
            Payload::Memory { len, .. } => (*len, 1),
        };
        let charge = Charge::new(self.quota, Amount::message(len, self.descriptors.len() + memory));
        (self.payload, self.descriptors, charge)
    }
}

/// Why a request got no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The application on the other side answered with an error.
    Refused {
        /// Its words.
        reason: String,
    },
    /// Nobody on the other side handles such requests.
    Unhandled,
    /// The other side could not read the request.
    Undecodable {
        /// What its decoder said.
        reason: String,
    },
    /// Whoever handled it let it go without an answer.
    Unanswered,
}

impl Failure {
    /// A code and the text.
    pub(super) fn encode(&self) -> (u8, &str) {
        let (code, reason) = match self {
            Self::Refused { reason } => (0, reason.as_str()),
            Self::Unhandled => (1, ""),
            Self::Undecodable { reason } => (2, reason.as_str()),
            Self::Unanswered => (3, ""),
        };
        (code, reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default())
    }

    /// A code that this version doesn't know is a refusal whose words are kept.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, reason) = bytes.split_first()?;
        let reason = text(reason);
        Some(match code {
            1 => Self::Unhandled,
            2 => Self::Undecodable { reason },
            3 => Self::Unanswered,
            _ => Self::Refused { reason },
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { reason } => write!(f, "{reason}"),
            Self::Unhandled => write!(f, "the peer has no handler for it"),
            Self::Undecodable { reason } => write!(f, "the peer could not decode it: {reason}"),
            Self::Unanswered => write!(f, "the peer's handler ended without an answer"),
        }
    }
}
