//! What can go wrong with processes.

use std::io;
use std::path::PathBuf;

use super::output::Stream;

/// An error of the system, with the operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The executable could not be opened.
    #[error("could not open the executable {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No process could be started. Often passing (`EAGAIN`, `ENOMEM`, `EMFILE`): try again later.
    #[error("could not start {}", path.display())]
    Spawn {
        /// The path of the executable.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This stream of this child is captured already. Finish the child first, or give each its own key.
    #[error("the stream `{stream}` of this child is captured already: finish the child first")]
    Captured {
        /// The stream.
        stream: Stream,
    },
    /// Another call failed.
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
    pub(super) fn os<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { operation, source: source.into() }
    }
}
