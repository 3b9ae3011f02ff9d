//! Numbers as values.
//!
//! A number is an `i64` as postcard encodes it (zigzag, then a varint: one byte for -64 to 63, at most ten),
//! and nothing after it. So a typed handle that keeps an `i64` by postcard and the store's own increments
//! agree, and a counter can be put, read and counted by either.

use bytes::Bytes;

/// The number as a value.
///
/// ```
/// # use cluster_shared_state::number;
/// assert_eq!(number::decode(&number::encode(-7)), Some(-7));
/// assert_eq!(number::decode(b"seven"), None);
/// ```
pub fn encode(number: i64) -> Bytes {
    let mut buffer = [0; 10];
    // A varint of 64 bits has at most ten bytes.
    match postcard::to_slice(&number, &mut buffer) {
        Ok(bytes) => Bytes::copy_from_slice(bytes),
        Err(_) => Bytes::new(),
    }
}

/// The value as a number, if it is one.
pub fn decode(value: &[u8]) -> Option<i64> {
    match postcard::take_from_bytes(value) {
        Ok((number, [])) => Some(number),
        _ => None,
    }
}
