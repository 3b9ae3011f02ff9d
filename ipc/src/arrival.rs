//! What a receiver gets.

use std::os::fd::OwnedFd;

/// A value and the descriptors that came with it.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing else to a message")]
pub struct Parcel<T> {
    /// The value.
    pub value: T,
    /// The descriptors that came with it; closed when dropped.
    pub descriptors: Vec<OwnedFd>,
}

/// What arrived: something to take note of, or something to answer with `R`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival<T, R> {
    /// A message that expects no answer.
    Message(Parcel<T>),
    /// A request, and the means to answer it.
    Request(Parcel<T>, R),
    /// So many messages of a broadcast were left out here.
    Gap {
        /// How many.
        missed: u64,
    },
}
