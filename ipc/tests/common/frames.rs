//! Frames by hand, from the description of the format and not from the code: see the head of `src/frame.rs`.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

pub(crate) const WELCOME: u8 = 1;
pub(crate) const ONLINE: u8 = 2;
pub(crate) const REJECT: u8 = 3;
pub(crate) const MESSAGE: u8 = 16;
pub(crate) const REQUEST: u8 = 17;
pub(crate) const REPLY: u8 = 18;
pub(crate) const CHUNK: u8 = 19;
pub(crate) const GAP: u8 = 20;
pub(crate) const FINISH: u8 = 21;
pub(crate) const FAILURE: u8 = 32;
pub(crate) const CREDIT: u8 = 33;
pub(crate) const BLOCKED: u8 = 34;
pub(crate) const CANCEL: u8 = 35;

pub(crate) const SKIPPABLE: u8 = 0;
pub(crate) const MUST_UNDERSTAND: u8 = 1;
pub(crate) const MORE: u8 = 2;
pub(crate) const IN_MEMORY: u8 = 4;

pub(crate) const CONTROL: u8 = 0;
pub(crate) const DATA: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) descriptors: u8,
    pub(crate) lane: u8,
    pub(crate) id: u64,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    pub(crate) fn new(kind: u8, lane: u8, id: u64, payload: &[u8]) -> Self {
        Self { kind, flags: MUST_UNDERSTAND, descriptors: 0, lane, id, payload: payload.to_vec() }
    }

    pub(crate) fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// The same with these flags besides.
    pub(crate) fn adding(self, flags: u8) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// The same that claims so many descriptors.
    pub(crate) fn claims(self, descriptors: u8) -> Self {
        Self { descriptors, ..self }
    }

    pub(crate) fn lane(self, lane: u8) -> Self {
        Self { lane, ..self }
    }

    pub(crate) fn id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend([self.kind, self.flags, self.descriptors, self.lane]);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Cuts the first frame off, if it is whole.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        if bytes.len() < 16 + len {
            return None;
        }
        let rest = bytes.split_off(16 + len);
        let frame = std::mem::replace(bytes, rest);
        let id = u64::from_le_bytes(*frame[8..].first_chunk()?);
        let [kind, flags, descriptors, lane] = *frame[4..].first_chunk()?;
        Some(Self { kind, flags, descriptors, lane, id, payload: frame[16..].to_vec() })
    }

    /// Cuts a stream into frames; nothing may be left over.
    pub(crate) fn all(mut bytes: Vec<u8>) -> Vec<Self> {
        let frames = std::iter::from_fn(|| Self::take(&mut bytes)).collect();
        assert!(bytes.is_empty(), "{} bytes of an unfinished frame", bytes.len());
        frames
    }
}

/// The settings of somebody who takes a lot, and then the greeting.
pub(crate) fn settings(pairs: &[(u16, u64)], greeting: &[u8]) -> Vec<u8> {
    let mut bytes = vec![pairs.len() as u8];
    for (number, value) in pairs {
        bytes.extend(number.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(greeting);
    bytes
}

/// Limits like the defaults.
pub(crate) const GENEROUS: [(u16, u64); 9] = [
    (1, 64 << 20),
    (2, 4 << 20),
    (3, 16_384),
    (4, 256),
    (5, 256 << 10),
    (6, 256),
    (7, 16),
    (8, 1024),
    (9, 0),
];

/// The first frame of a parent.
pub(crate) fn welcome(pairs: &[(u16, u64)], greeting: &[u8]) -> RawFrame {
    let mut payload = b"CLst\x01\0\x01\0".to_vec();
    payload.extend(std::process::id().to_le_bytes());
    payload.extend(settings(pairs, greeting));
    RawFrame::new(WELCOME, CONTROL, 0, &payload)
}

/// A child's answer.
pub(crate) fn online(pairs: &[(u16, u64)], greeting: &[u8]) -> RawFrame {
    let mut payload = 1u16.to_le_bytes().to_vec();
    payload.extend(settings(pairs, greeting));
    RawFrame::new(ONLINE, CONTROL, 0, &payload)
}

pub(crate) fn message(text: &str) -> RawFrame {
    RawFrame::new(MESSAGE, DATA, 0, text.as_bytes())
}

/// A request that is waited for without end.
pub(crate) fn request(id: u64, text: &str) -> RawFrame {
    let mut payload = u64::MAX.to_le_bytes().to_vec();
    payload.extend(text.as_bytes());
    RawFrame::new(REQUEST, DATA, id, &payload)
}

pub(crate) fn reply(id: u64, text: &str) -> RawFrame {
    RawFrame::new(REPLY, DATA, id, text.as_bytes())
}
