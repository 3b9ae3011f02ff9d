//! What is newest, wherever it is.

use std::fmt::Debug;

use crate::Revision;

/// Knows the newest revision there is, before it is in the map: see [`Writer::set_newest`](super::Writer::set_newest).
pub trait Newest: Debug + Send + Sync {
    /// The newest revision. Asked at each read, so it should cost next to nothing.
    fn newest(&self) -> Revision;
}
