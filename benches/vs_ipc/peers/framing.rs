//! Messages on a raw stream: a length of 4 bytes, then the body, whose first 8 bytes are the message's number.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::Result;

pub(super) const HEADER: usize = 4;

/// A body of this size.
pub(super) fn body(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

pub(super) fn header(size: usize) -> Result<[u8; HEADER]> {
    Ok(u32::try_from(size)?.to_le_bytes())
}

/// The length in a header.
pub(super) fn length(header: [u8; HEADER]) -> Result<usize> {
    Ok(usize::try_from(u32::from_le_bytes(header))?)
}

/// Writes its number into a body.
pub(super) fn set_number(body: &mut [u8], number: u64) {
    if let Some(place) = body.first_chunk_mut() {
        *place = number.to_le_bytes();
    }
}

/// The number of a body.
pub(super) fn number(body: &[u8]) -> u64 {
    body.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// Tells the parent that a stretch has arrived.
pub(super) fn confirm(mut stream: &UnixStream) -> Result<()> {
    Ok(stream.write_all(b".")?)
}

pub(super) fn await_confirmation(mut stream: &UnixStream) -> Result<()> {
    Ok(stream.read_exact(&mut [0])?)
}
