//! The unit of exchange: a header of 16 bytes, a payload, and file descriptors.
//!
//! ```text
//!  0        4      5       6      7      8                16
//!  | len u32 | kind | flags | nfds | lane |     id u64      | payload (len bytes) …
//! ```
//!
//! All numbers are little-endian. `len` excludes the header. `nfds` says how many descriptors belong
//! to the frame; the bytes themselves carry no descriptor, the kernel does (`SCM_RIGHTS`). `lane` is
//! reserved and 0.

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
    id: u64,
    payload: Bytes,
    descriptors: Vec<F>,
}

impl<F> Frame<F> {
    /// A frame without descriptors. `id` pairs a reply with its request; use 0 where none is expected.
    pub fn new(kind: Kind, id: u64, payload: impl Into<Bytes>) -> Self {
        Self { kind, id, payload: payload.into(), descriptors: Vec::new() }
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
    pub(crate) id: u64,
}

impl Header {
    /// `len` and `descriptors` must have been checked against the limits by the caller.
    pub(crate) fn new(kind: Kind, id: u64, len: u32, descriptors: u8) -> Self {
        Self { len, kind: kind.to_wire(), flags: MUST_UNDERSTAND, descriptors, id }
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind)
    }

    pub(crate) fn must_understand(&self) -> bool {
        self.flags & MUST_UNDERSTAND != 0
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[6] = self.descriptors;
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, l3, kind, flags, descriptors, _lane, id @ ..] = *bytes;
        Self {
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            descriptors,
            id: u64::from_le_bytes(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_on_the_wire_is_these_bytes() {
        let header = Header::new(Kind::Request, 0x0102_0304_0506_0708, 0x0a0b, 3);
        assert_eq!(header.encode(), [0x0b, 0x0a, 0, 0, 17, 1, 3, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(Header::decode(&header.encode()), header);
    }
}
