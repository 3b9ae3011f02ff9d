//! A message as the application gets it.

use std::os::fd::OwnedFd;

use bytes::Bytes;

use crate::session::Charge;

/// A message that arrived: its bytes and the descriptors that came with it.
///
/// The bytes are those that were read, not a copy; a message that is kept for long keeps its neighbours' memory too
/// (64 KiB at most). Copy what is to be kept.
#[derive(Debug)]
pub struct Message {
    pub(crate) bytes: Bytes,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) charge: Charge,
}

impl Message {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The descriptors that came with it. Those still here when it is dropped are closed.
    pub fn descriptors(&self) -> &[OwnedFd] {
        &self.descriptors
    }

    /// Takes it apart: bytes, descriptors, and the charge to return with
    /// [`Connection::handled`](crate::Connection::handled).
    pub fn into_parts(self) -> (Bytes, Vec<OwnedFd>, Charge) {
        (self.bytes, self.descriptors, self.charge)
    }

    /// Reads the bytes as a value that may borrow from them: strings and byte slices are not copied.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode).
    #[cfg(feature = "postcard")]
    pub fn decode<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, crate::Error> {
        crate::codec::decode_borrowed(&self.bytes)
    }
}
