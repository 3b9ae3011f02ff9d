//! Values to bytes and back.
//!
//! A codec is chosen by type: [`Postcard`] (any serde type; feature `postcard`, on by default) or [`Raw`] (bytes as
//! they are, serde is not involved).
//!
//! # The version rule
//!
//! During a rolling restart two versions of a program talk to each other. Postcard writes values without their names:
//! what was written as one type cannot be read as another. So:
//!
//! 1. **Append variants to an enum, at its end.** Never insert, reorder, remove or change one. A variant that is no
//!    longer sent stays, so that the numbers after it stay.
//! 2. **Never change a struct or a variant that was released.** Not its fields, nor their types or order. Add a variant with
//!    the new form instead (`Resize` → `ResizeV2`).
//! 3. **Send a new variant only to a peer that knows it.** Count the schema up whenever something is added
//!    ([`Config::schema`](crate::session::Config::schema)); the handshake tells each side the other's number
//!    ([`Opened::schema`](crate::session::Opened::schema)).
//! 4. **A message that can't be read costs only itself.** The receiver gets [`Error::Decode`] and goes on; a request is
//!    answered with [`Failure::Undecodable`](crate::session::Failure::Undecodable). That is the net under rule 3, not
//!    a replacement for it.
//!
//! Bytes left over after a value are an error, so that most changed types show as one. The rest, such as two fields of one
//! type that change places, reads as wrong data, which is why the rule has to be kept. `ipc/tests/versions` runs an
//! old program against a new one, both ways round.
//!
//! The frames beneath have a rule of their own: kinds, flags and settings that were added later are either skipped or
//! guarded by the protocol's version. See [`wire_format`](crate::wire_format).

use bytes::Bytes;

use crate::Error;

/// Turns a `T` into bytes.
pub trait Encode<T: ?Sized> {
    /// Writes the value into `scratch`, which is reused between calls and whose contents don't matter, and returns the part that holds it;
    /// or, without a copy, a part of the value itself.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    fn encode<'a>(value: &'a T, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Error>;
}

/// Turns bytes into a `T`.
pub trait Decode<T> {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`].
    fn decode(bytes: Bytes) -> Result<T, Error>;
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Raw;

impl<B: AsRef<[u8]> + ?Sized> Encode<B> for Raw {
    fn encode<'a>(value: &'a B, _: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
        Ok(value.as_ref())
    }
}

impl Decode<Bytes> for Raw {
    fn decode(bytes: Bytes) -> Result<Bytes, Error> {
        Ok(bytes)
    }
}

/// Any serde type, in the [postcard](https://postcard.jamesmunns.com/wire-format) format (feature `postcard`).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Postcard;

#[cfg(feature = "postcard")]
mod by_postcard {
    use bytes::Bytes;
    use serde::Serialize;
    use serde::de::{Deserialize, DeserializeOwned};

    use super::{Decode, Encode, Postcard};
    use crate::Error;

    /// What a scratch buffer begins with, and how large it may stay after a large message.
    const SCRATCH: usize = 1 << 10;
    const KEPT: usize = 1 << 20;

    impl<T: Serialize + ?Sized> Encode<T> for Postcard {
        /// Into a slice, which is three times as fast as into a growing vector. If it doesn't fit, its size is found out first.
        fn encode<'a>(value: &'a T, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
            let failed = |error: postcard::Error| Error::Encode { reason: error.to_string() };
            let len = match postcard::to_slice(value, scratch) {
                Ok(used) => used.len(),
                Err(postcard::Error::SerializeBufferFull) => {
                    let len = postcard::experimental::serialized_size(value).map_err(failed)?;
                    scratch.resize(len.max(SCRATCH), 0);
                    postcard::to_slice(value, scratch).map_err(failed)?.len()
                }
                Err(error) => return Err(failed(error)),
            };
            // After a much larger message its memory is given back.
            if scratch.len() > KEPT && len < scratch.len() / 4 {
                scratch.truncate(len.max(SCRATCH));
                scratch.shrink_to_fit();
            }
            Ok(scratch.get(..len).unwrap_or_default())
        }
    }

    impl<T: DeserializeOwned> Decode<T> for Postcard {
        fn decode(bytes: Bytes) -> Result<T, Error> {
            decode_borrowed(&bytes)
        }
    }

    pub(crate) fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
        let wrong = match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => return Ok(value),
            Ok((_, rest)) => format!("{} bytes are left over", rest.len()),
            // Its words for an unknown variant and the like say less.
            Err(postcard::Error::SerdeDeCustom) => "these bytes are none".to_owned(),
            Err(error) => error.to_string(),
        };
        let wanted = std::any::type_name::<T>();
        Err(Error::Decode { reason: format!("as {wanted}: {wrong}. Is the peer of another version?") })
    }
}

#[cfg(feature = "postcard")]
pub(crate) use self::by_postcard::decode_borrowed;

#[cfg(all(test, feature = "postcard"))]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_needs_more_room_than_the_scratch_has_gets_it() {
        let mut scratch = Vec::new();
        for len in [0, 10, 1000, 1024, 100_000, 3 << 20, 5] {
            let value = "x".repeat(len);
            let bytes = Bytes::copy_from_slice(Postcard::encode(value.as_str(), &mut scratch).unwrap());
            assert_eq!(<Postcard as Decode<String>>::decode(bytes).unwrap(), value);
        }
        assert!(scratch.len() <= 1 << 20, "a large message doesn't keep its memory: {}", scratch.len());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let bytes = Bytes::from_static(&[5, 6]);
        assert!(matches!(<Postcard as Decode<u8>>::decode(bytes), Err(Error::Decode { .. })));
    }

    #[test]
    fn a_length_that_is_not_there_allocates_nothing_and_is_an_error() {
        let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(<Postcard as Decode<Vec<u64>>>::decode(bytes.clone()).is_err());
        assert!(<Postcard as Decode<String>>::decode(bytes).is_err());
    }
}
