//! What peers send that take more than bytes.

use serde::{Deserialize, Serialize};

/// A message as a program would define one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) kind: String,
    #[serde(with = "serde_bytes")]
    pub(super) payload: Vec<u8>,
}

/// The same on the wire, for who need not give it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Borrowed<'a> {
    pub(super) id: u64,
    pub(super) kind: &'a str,
    #[serde(with = "serde_bytes")]
    pub(super) payload: &'a [u8],
}

/// The kind of them all.
pub(super) const KIND: &str = "data";
