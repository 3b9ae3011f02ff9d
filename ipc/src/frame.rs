//! The unit of exchange: a header of 16 bytes, a payload, and file descriptors.
//!
//! ```text
//!  0        4      5       6      7      8                16
//!  | len u32 | kind | flags | nfds | lane |     id u64      | payload (len bytes) …
//! ```
//!
//! All numbers are little-endian. `len` excludes the header. `nfds` says how many descriptors belong
//! to the frame; the bytes themselves carry no descriptor, the kernel does (`SCM_RIGHTS`). The whole format,
//! with what a [`Session`](crate::session::Session) puts into its frames, is on the page [`wire_format`](crate::wire_format).

use bytes::Bytes;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 16;

/// The most descriptors one frame may carry: the kernel's `SCM_MAX_FD` (`net/scm.h`); one more is `EINVAL`.
pub const MAX_DESCRIPTORS: usize = 253;

/// The default limit of a payload: 1 MiB.
pub const DEFAULT_MAX_FRAME: usize = 1 << 20;

/// Set in the header's flags when a receiver that doesn't know the kind must give up rather than
/// skip the frame.
const MUST_UNDERSTAND: u8 = 1;

/// The message goes on in the next frame of the same lane.
pub(crate) const MORE: u8 = 2;

/// The message's bytes are not in the frame but in its last descriptor, a sealed memfd.
pub(crate) const IN_MEMORY: u8 = 4;

/// Which of the two independent streams within a connection a frame belongs to. Order holds within a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "two lanes are the design: one that waits and one that never does"
)]
pub enum Lane {
    /// Small and urgent: goes ahead of all data that is waiting. Credits, cancellations, and messages like "drain".
    Control,
    /// Everything else.
    Data,
}

impl Lane {
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
        }
    }

    pub(crate) fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Control),
            1 => Some(Self::Data),
            _ => None,
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The parent's first frame, written before the child exists. See [`Welcome`](crate::Welcome).
    Welcome,
    /// The child's answer: it runs and has understood the Welcome. See [`Online`](crate::Online).
    Online,
    /// The child's answer when it cannot work with this parent; the payload says why, as text.
    Reject,
    /// A message that expects no answer.
    Message,
    /// A message that expects one [`Kind::Reply`] with the same id.
    Request,
    /// The answer to a [`Kind::Request`].
    Reply,
    /// The next part of a message that didn't fit into one frame.
    Chunk,
    /// So many messages of a broadcast were left out here.
    Gap,
    /// The sender will send no more messages or requests.
    Finish,
    /// The answer to a [`Kind::Request`] that failed: a code and a text.
    Failure,
    /// How much the receiver has taken in all: what may be sent.
    Credit,
    /// The sender waits for so much credit.
    Blocked,
    /// The sender no longer waits for the answer to its request.
    Cancel,
}

impl Kind {
    fn to_wire(self) -> u8 {
        match self {
            Self::Welcome => 1,
            Self::Online => 2,
            Self::Reject => 3,
            Self::Message => 16,
            Self::Request => 17,
            Self::Reply => 18,
            Self::Chunk => 19,
            Self::Gap => 20,
            Self::Finish => 21,
            Self::Failure => 32,
            Self::Credit => 33,
            Self::Blocked => 34,
            Self::Cancel => 35,
        }
    }

    /// The flags that a frame of this kind may have besides that it must be understood.
    pub(crate) fn message_flags(self) -> u8 {
        match self {
            Self::Message | Self::Request | Self::Reply => MORE | IN_MEMORY,
            Self::Chunk => MORE,
            _ => 0,
        }
    }

    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Welcome,
            2 => Self::Online,
            3 => Self::Reject,
            16 => Self::Message,
            17 => Self::Request,
            18 => Self::Reply,
            19 => Self::Chunk,
            20 => Self::Gap,
            21 => Self::Finish,
            32 => Self::Failure,
            33 => Self::Credit,
            34 => Self::Blocked,
            35 => Self::Cancel,
            _ => return None,
        })
    }
}

/// A frame: kind, id, payload, and the descriptors that travel with it.
///
/// Generic over the descriptor type, so that tests can use integers for it. Dropping a
/// frame closes the descriptors it still holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<F> {
    kind: Kind,
    /// As on the wire; [`crate::session`] gives it a meaning.
    pub(crate) lane: u8,
    /// [`MORE`] and [`IN_MEMORY`], which [`crate::session`] gives a meaning.
    pub(crate) flags: u8,
    id: u64,
    pub(crate) payload: Bytes,
    descriptors: Vec<F>,
}

impl<F> Frame<F> {
    /// A frame without descriptors. `id` pairs a reply with its request; use 0 where none is expected.
    pub fn new(kind: Kind, id: u64, payload: impl Into<Bytes>) -> Self {
        Self { kind, lane: 0, flags: 0, id, payload: payload.into(), descriptors: Vec::new() }
    }

    /// The same frame with these descriptors, at most [`MAX_DESCRIPTORS`].
    #[must_use]
    pub fn with_descriptors(mut self, descriptors: Vec<F>) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// What the frame is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number that pairs a reply with its request.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The descriptors that came with the frame.
    pub fn descriptors(&self) -> &[F] {
        &self.descriptors
    }

    /// Takes the descriptors out of the frame.
    pub fn take_descriptors(&mut self) -> Vec<F> {
        std::mem::take(&mut self.descriptors)
    }
}

/// The fixed part of a frame, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) descriptors: u8,
    pub(crate) lane: u8,
    pub(crate) id: u64,
}

impl Header {
    /// `len` and `descriptors` must have been checked against the limits by the caller.
    pub(crate) fn new(kind: Kind, id: u64, len: u32, descriptors: u8) -> Self {
        Self { len, kind: kind.to_wire(), flags: MUST_UNDERSTAND, descriptors, lane: 0, id }
    }

    /// The same header in this lane, with these flags set besides.
    pub(crate) fn within(self, lane: Lane, flags: u8) -> Self {
        Self { lane: lane.to_wire(), flags: self.flags | flags, ..self }
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind)
    }

    pub(crate) fn must_understand(&self) -> bool {
        self.flags & MUST_UNDERSTAND != 0
    }

    /// Whether kind, flags and number of descriptors are the same.
    pub(crate) fn is_like(&self, other: Self) -> bool {
        (self.kind, self.flags, self.descriptors) == (other.kind, other.flags, other.descriptors)
    }

    /// The flags that belong to the message rather than to the frame.
    pub(crate) fn message_flags(&self) -> u8 {
        self.flags & !MUST_UNDERSTAND
    }

    /// Bytes from the beginning of this header to the end of its frame.
    pub(crate) fn frame_len(&self) -> usize {
        HEADER_LEN + self.len as usize
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[6] = self.descriptors;
        bytes[7] = self.lane;
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, l3, kind, flags, descriptors, lane, id @ ..] = *bytes;
        Self {
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            descriptors,
            lane,
            id: u64::from_le_bytes(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_on_the_wire_is_these_bytes() {
        let header = Header::new(Kind::Request, 0x0102_0304_0506_0708, 0x0a0b, 3).within(Lane::Data, MORE);
        assert_eq!(header.encode(), [0x0b, 0x0a, 0, 0, 17, 3, 3, 1, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(Header::decode(&header.encode()), header);
    }
}
