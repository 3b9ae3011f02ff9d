//! What a connection promises.

pub(crate) mod endings;
pub(crate) mod handshake;
pub(crate) mod messages;
pub(crate) mod pressure;
pub(crate) mod requests;

use std::fs::File;
use std::io::{PipeReader, Write, pipe};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Long enough never to be reached where it shouldn't be.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(600));

/// Short enough to wait for.
pub(crate) const SHORT: Option<Duration> = Some(Duration::from_millis(50));

/// Bytes of which none can be missing or in the wrong place unseen.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = len as u32 | 1;
    let mut step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| step()).collect()
}

/// Equality, without millions of bytes in the message of a failure.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], sent: &[u8]) {
    assert_eq!(got.len(), sent.len(), "the length");
    let wrong = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!(wrong, None, "the first byte of {} that differs", sent.len());
}

/// A descriptor whose arrival, and whose end, can be seen.
pub(crate) struct Tracked(PipeReader);

pub(crate) fn tracked() -> (Tracked, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    (Tracked(reader), writer.into())
}

impl Tracked {
    /// This is the descriptor, and nobody else has it any more.
    #[track_caller]
    pub(crate) fn assert_is(self, descriptor: OwnedFd) {
        File::from(descriptor).write_all(b"it is").unwrap();
        assert_eq!(std::io::read_to_string(self.0).unwrap(), "it is", "another descriptor arrived");
    }

    /// Waits until nobody has the descriptor any more.
    #[track_caller]
    pub(crate) fn assert_closed(self) {
        assert_eq!(std::io::read_to_string(self.0).unwrap(), "", "it was used");
    }
}

pub(crate) fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("it begins with its number"))
}
