//! What can go wrong on a connection's way to a worker.

use std::io;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something with a data channel.
    #[error(transparent)]
    Ipc(#[from] cluster_ipc::Error),
    /// Connections could not be described to their worker.
    #[error("could not encode a batch of connections")]
    Encode {
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The other side of a data channel does not describe connections as this one does.
    #[error("could not decode a batch of connections")]
    Decode {
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// A system call failed.
    #[error("could not {operation}")]
    Os {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn os<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { operation, source: source.into() }
    }
}
