//! What is written around a message on its way.
//!
//! ```text
//!   head (postcard): where to or from, when ── body: name (postcard), message (postcard)
//! ```
//!
//! The primary reads the head alone, writes another, and passes the body on as it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::To;
use crate::Error;

/// The head of what a worker sends: as a message for the primary itself, as a request for anybody.
///
/// Append-only: two releases of a program may talk to each other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Errand<K> {
    /// A letter.
    Letter(To<K>),
    /// A letter to all other workers.
    Broadcast,
    /// A call. The answer has a head too: [`Refusal`], or none and the callee's answer.
    Call(To<K>),
}

/// Why something was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// There is nobody of that name.
    Unreachable,
    /// It does not take what waits for it.
    NotTaken,
    /// It ended before it answered.
    Gone,
    /// It answered, and who asked does not read what waits for it.
    AnswerNotTaken,
}

impl Refusal {
    pub(super) fn of<K: std::fmt::Display>(self, to: &To<K>) -> Error {
        let to = to.to_string();
        match self {
            Self::Unreachable => Error::Unreachable { to },
            Self::NotTaken => Error::NotTaken { to },
            Self::Gone => Error::Gone { to },
            Self::AnswerNotTaken => Error::AnswerNotTaken { to },
        }
    }
}

/// A head and when the message was sent, in microseconds of Unix time.
#[derive(Debug, Serialize, Deserialize)]
struct Head<W> {
    what: W,
    sent_at: u64,
}

/// A head in front of a body.
pub(super) fn seal<W: Serialize>(what: &W, sent_at: SystemTime, body: &[u8]) -> Result<Bytes, Error> {
    let since = sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let head = Head { what, sent_at: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) };
    let sealed = Vec::with_capacity(32 + body.len());
    let mut sealed = postcard::to_extend(&head, sealed)
        .map_err(|error: postcard::Error| Error::Encode { reason: error.to_string() })?;
    sealed.extend_from_slice(body);
    Ok(sealed.into())
}

/// A head, and the body behind it: not copied.
pub(super) fn open<W: DeserializeOwned>(sealed: &Bytes) -> Result<(W, SystemTime, Bytes), Error> {
    let (head, body) = postcard::take_from_bytes::<Head<W>>(sealed)
        .map_err(|error| Error::Decode { reason: error.to_string() })?;
    let sent_at = UNIX_EPOCH.checked_add(Duration::from_micros(head.sent_at)).unwrap_or(UNIX_EPOCH);
    Ok((head.what, sent_at, sealed.slice_ref(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_who_did_not_get_what_and_what_to_do() {
        let text = |refusal: Refusal| refusal.of(&To::Worker(7_u32)).to_string();
        let not_taken = text(Refusal::NotTaken);
        assert!(not_taken.starts_with("could not send to worker 7: "), "{not_taken}");
        assert!(not_taken.ends_with("send again later, or less at a time"), "{not_taken}");
        let not_read = text(Refusal::AnswerNotTaken);
        assert!(not_read.starts_with("could not bring the answer of worker 7 here: "), "{not_read}");
        assert!(not_read.ends_with("ask for less at a time"), "{not_read}");
    }

    #[test]
    fn what_is_sealed_is_opened_and_garbage_is_not() {
        let at = UNIX_EPOCH + Duration::from_micros(1_234_567);
        let sealed = seal(&Errand::Call(To::Worker(7_u32)), at, b"body").unwrap();
        let (errand, sent_at, body) = open::<Errand<u32>>(&sealed).unwrap();
        assert!(matches!(errand, Errand::Call(To::Worker(7))));
        assert_eq!((sent_at, &body[..]), (at, &b"body"[..]));
        for len in 0..64 {
            assert!(open::<Errand<u32>>(&vec![0xff; len].into()).is_err());
        }
    }
}
