//! How two processes get to know each other.
//!
//! ```text
//! parent                                   child
//!   | Welcome (+ descriptors), written       |
//!   | before the child exists                |
//!   |--------------------------------------->|  its first read
//!   |                                        |  understands it?
//!   |<------------------------- Online ------|  yes: it runs, and speaks this version
//!   |<------------------------- Reject ------|  no: why, as text; it exits
//! ```
//!
//! Everything the child needs lies in its channel before it starts, so there is no round trip and no environment
//! variable. What the parent and the child say after that is the application's: among ours is
//! a message that the worker is *ready*, which is more than online.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;
use crate::frame::{Frame, HEADER_LEN, Header, Kind};
use crate::settings::Settings;

/// The version of the frame format and handshake that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// Begins the payload of every Welcome; a socket on stdin that doesn't begin so is not ours.
const MAGIC: [u8; 4] = *b"CLst";

/// Magic, lowest version, highest version, pid of the parent.
const FIXED_LEN: usize = 12;

/// How many bytes of a stream tell whether it begins with a Welcome.
pub(crate) const PEEK_LEN: usize = HEADER_LEN + FIXED_LEN;

/// The first frame a child reads.
///
/// ```
/// # use cluster_ipc::Welcome;
/// let frame = Welcome::frame::<u32>(std::process::id(), &b"what the child needs"[..], vec![]);
/// let welcome = Welcome::parse(&frame)?;
/// assert_eq!(&welcome.payload()[..], b"what the child needs");
/// # Ok::<(), cluster_ipc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    parent: u32,
    settings: Settings,
    payload: Bytes,
}

impl Welcome {
    /// Builds the frame: `parent` is the sender's pid, `payload` and `descriptors` are the application's.
    ///
    /// Nothing is promised about what the sender takes: a peer that keeps credit would send nothing. That is
    /// what a [`Session`](crate::session::Session) adds.
    pub fn frame<F>(parent: u32, payload: impl AsRef<[u8]>, descriptors: Vec<F>) -> Frame<F> {
        Self::frame_with(parent, &Settings::NONE, payload.as_ref(), descriptors)
    }

    pub(crate) fn frame_with<F>(
        parent: u32,
        settings: &Settings,
        payload: &[u8],
        descriptors: Vec<F>,
    ) -> Frame<F> {
        let mut bytes = BytesMut::with_capacity(FIXED_LEN + 128 + payload.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(PROTOCOL_VERSION);
        bytes.put_u16_le(PROTOCOL_VERSION);
        bytes.put_u32_le(parent);
        settings.encode(&mut bytes);
        bytes.put_slice(payload);
        Frame::new(Kind::Welcome, 0, bytes.freeze()).with_descriptors(descriptors)
    }

    /// Reads a Welcome.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is none, [`Error::Version`] if no version is shared.
    pub fn parse<F>(frame: &Frame<F>) -> Result<Self, Error> {
        let malformed = Error::Malformed { what: "Welcome" };
        let Some((fixed, _)) = frame.payload().split_first_chunk::<FIXED_LEN>() else {
            return Err(malformed);
        };
        let [m0, m1, m2, m3, min0, min1, max0, max1, parent @ ..] = *fixed;
        if frame.kind() != Kind::Welcome || [m0, m1, m2, m3] != MAGIC {
            return Err(malformed);
        }
        let (min, max) = (u16::from_le_bytes([min0, min1]), u16::from_le_bytes([max0, max1]));
        if !(min..=max).contains(&PROTOCOL_VERSION) {
            return Err(Error::Version { min, max, ours: PROTOCOL_VERSION });
        }
        let (settings, payload) = settings_and_payload(frame, FIXED_LEN).ok_or(malformed)?;
        Ok(Self { parent: u32::from_le_bytes(parent), settings, payload })
    }

    /// Whether a stream that begins with these bytes begins with a Welcome, of whatever version.
    pub fn begins(stream: &[u8]) -> bool {
        let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() else { return false };
        Header::decode(header).kind() == Some(Kind::Welcome) && rest.starts_with(&MAGIC)
    }

    /// The pid of the process that sent it.
    pub fn parent(&self) -> u32 {
        self.parent
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the application put in.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// A reason longer than that is cut, by who says it and by who hears it.
pub(crate) const MAX_REASON: usize = 4 << 10;

/// What the peer says is text, and may be short.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_REASON).unwrap_or(bytes)).into_owned()
}

/// What follows the first `skip` bytes of a payload.
fn settings_and_payload<F>(frame: &Frame<F>, skip: usize) -> Option<(Settings, Bytes)> {
    let (settings, rest) = Settings::decode(frame.payload().get(skip..)?)?;
    Some((settings, frame.payload().slice_ref(rest)))
}

/// A child's answer to the [`Welcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    settings: Settings,
    payload: Bytes,
}

impl Online {
    /// Builds the frame by which a child says that it runs and has understood.
    pub fn frame<F>(payload: impl AsRef<[u8]>) -> Frame<F> {
        Self::frame_with(&Settings::NONE, payload.as_ref())
    }

    pub(crate) fn frame_with<F>(settings: &Settings, payload: &[u8]) -> Frame<F> {
        let mut bytes = BytesMut::with_capacity(2 + 128 + payload.len());
        bytes.put_u16_le(PROTOCOL_VERSION);
        settings.encode(&mut bytes);
        bytes.put_slice(payload);
        Frame::new(Kind::Online, 0, bytes.freeze())
    }

    /// Builds the frame by which a child says that it cannot work with this parent, and why.
    pub fn reject<F>(reason: &str) -> Frame<F> {
        Frame::new(Kind::Reject, 0, reason.as_bytes().to_vec())
    }

    /// Reads the child's answer.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] with the child's reason, [`Error::Version`], or [`Error::Malformed`] if it is no answer.
    pub fn parse<F>(frame: &Frame<F>) -> Result<Self, Error> {
        let malformed = Error::Malformed { what: "answer to the Welcome" };
        match (frame.kind(), frame.payload().split_first_chunk::<2>()) {
            (Kind::Reject, _) => Err(Error::Rejected { reason: text(frame.payload()) }),
            (Kind::Online, Some((version, _))) => match u16::from_le_bytes(*version) {
                PROTOCOL_VERSION => {
                    let (settings, payload) = settings_and_payload(frame, 2).ok_or(malformed)?;
                    Ok(Self { settings, payload })
                }
                other => Err(Error::Version { min: other, max: other, ours: PROTOCOL_VERSION }),
            },
            _ => Err(malformed),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the application put in.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_is_recognised_by_its_first_bytes_alone() {
        let frame = Welcome::frame::<u32>(42, b"payload", vec![]);
        let mut outbox = crate::Outbox::new();
        outbox.push(frame).unwrap();
        let bytes = outbox.poll_transmit().unwrap().bytes()[..PEEK_LEN].to_vec();
        assert!(Welcome::begins(&bytes));
        assert!(!Welcome::begins(&bytes[..HEADER_LEN]));
        assert!(!Welcome::begins(b"GET / HTTP/1.1\r\nHost: localhost\r\n"));
    }

    #[test]
    fn a_welcome_of_another_version_is_refused_readably() {
        let mut payload = MAGIC.to_vec();
        payload.extend([7, 0, 9, 0, 1, 0, 0, 0]);
        let error = Welcome::parse(&Frame::<u32>::new(Kind::Welcome, 0, payload)).unwrap_err();
        assert_eq!(error.to_string(), "the peer speaks protocol versions 7 to 9, this side speaks 1");
    }

    #[test]
    fn garbage_is_no_welcome_and_no_answer() {
        for payload in [&b""[..], b"CL", b"XXxx\x01\0\x01\0\0\0\0\0"] {
            let frame = Frame::<u32>::new(Kind::Welcome, 0, payload);
            assert!(matches!(Welcome::parse(&frame), Err(Error::Malformed { .. })));
        }
        assert!(Online::parse(&Frame::<u32>::new(Kind::Online, 0, &b"\x01"[..])).is_err());
        assert!(Online::parse(&Frame::<u32>::new(Kind::Message, 0, &b"\x01\0"[..])).is_err());
    }

    #[test]
    fn a_rejection_carries_the_reason() {
        let error = Online::parse(&Online::reject::<u32>("no such role")).unwrap_err();
        assert_eq!(error.to_string(), "the peer rejected the connection: no such role");
    }
}
