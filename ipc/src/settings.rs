//! What one side takes, and tells the other in the handshake.

use bytes::{BufMut, BytesMut};

/// How much may be on its way in one lane: sent and not yet handled by the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the three things that are counted")]
pub struct Window {
    /// Bytes of payload. A message larger than that goes alone.
    pub bytes: u64,
    /// Messages, requests and replies.
    pub messages: u64,
    /// File descriptors. What is in flight counts against a limit of the system, per user.
    pub descriptors: u64,
}

/// The limits of one side. Each side has its own, and learns the other's in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) max_message: u64,
    pub(crate) data: Window,
    pub(crate) control: Window,
    pub(crate) max_requests: u64,
    pub(crate) schema: u64,
}

impl Settings {
    /// What a peer that says nothing takes: nothing.
    pub(crate) const NONE: Self = {
        let nothing = Window { bytes: 0, messages: 0, descriptors: 0 };
        Self { max_message: 0, data: nothing, control: nothing, max_requests: 0, schema: 0 }
    };

    fn pairs(&self) -> [(u16, u64); 9] {
        [
            (1, self.max_message),
            (2, self.data.bytes),
            (3, self.data.messages),
            (4, self.data.descriptors),
            (5, self.control.bytes),
            (6, self.control.messages),
            (7, self.control.descriptors),
            (8, self.max_requests),
            (9, self.schema),
        ]
    }

    /// A count of one byte, then that many pairs of a number (u16) and a value (u64).
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        let pairs = self.pairs();
        into.put_u8(pairs.len() as u8);
        for (number, value) in pairs {
            into.put_u16_le(number);
            into.put_u64_le(value);
        }
    }

    /// Reads settings from the front of `bytes` and returns them with the rest, or `None` if they are cut short.
    /// Numbers that this version doesn't know are passed over, missing ones are 0.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, mut rest) = bytes.split_first()?;
        let mut settings = Self::NONE;
        for _ in 0..*count {
            let ([n0, n1, value @ ..], after) = rest.split_first_chunk::<10>()?;
            let value = u64::from_le_bytes(*value);
            rest = after;
            match u16::from_le_bytes([*n0, *n1]) {
                1 => settings.max_message = value,
                2 => settings.data.bytes = value,
                3 => settings.data.messages = value,
                4 => settings.data.descriptors = value,
                5 => settings.control.bytes = value,
                6 => settings.control.messages = value,
                7 => settings.control.descriptors = value,
                8 => settings.max_requests = value,
                9 => settings.schema = value,
                _ => {}
            }
        }
        Some((settings, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_later_version_are_read_as_far_as_they_are_known() {
        let window = |n| Window { bytes: n, messages: n + 1, descriptors: n + 2 };
        let settings =
            Settings { max_message: 1, data: window(2), control: window(5), max_requests: 8, schema: 9 };
        let mut bytes = BytesMut::new();
        settings.encode(&mut bytes);
        bytes[0] += 1;
        bytes.put_u16_le(4711);
        bytes.put_u64_le(u64::MAX);
        bytes.put_slice(b"the rest");
        assert_eq!(Settings::decode(&bytes), Some((settings, &b"the rest"[..])));
    }

    #[test]
    fn settings_that_are_cut_short_are_none() {
        for bytes in [&b""[..], b"\x01", b"\x02\x01\0\0\0\0\0\0\0\0\0\x02"] {
            assert_eq!(Settings::decode(bytes), None);
        }
        assert_eq!(Settings::decode(b"\0rest"), Some((Settings::NONE, &b"rest"[..])));
    }
}
