//! What can go wrong with processes.

use std::io;
use std::path::PathBuf;

use super::child::Child;
use super::output::Stream;
use crate::Exit;

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
    /// A [`ChildSpec`](super::ChildSpec) asks for something that cannot be.
    #[error("could not start {}: {what}", path.display())]
    Invalid {
        /// The path of the executable.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
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
    /// A setting of a [`ChildSpec`](super::ChildSpec) could not be applied. The program has not run.
    #[error("could not {operation} for {}", path.display())]
    Setting {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The path of the executable.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A [`Runner`](super::Runner) has a service of this name already.
    #[error(
        "could not add the service `{name}`: another has this name already, and news and orders go by it"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No service of the [`Runner`](super::Runner) has this name.
    #[error("no service is named `{name}`")]
    UnknownService {
        /// The name.
        name: String,
    },
    /// The [`Runner`](super::Runner) begins nothing any more, or is gone.
    #[error("could not {operation}: the runner is shutting down or has ended")]
    Ended {
        /// What was to be done, as a verb phrase.
        operation: &'static str,
    },
    /// The [`Runner`](super::Runner) takes no orders now: it doesn't run yet, or its callback doesn't return.
    #[error(
        "could not {operation}: too many orders wait already; does the runner run, and does its callback return?"
    )]
    Busy {
        /// What was to be done, as a verb phrase.
        operation: &'static str,
    },
    /// A child may not be killed, since it has changed its user. It runs on, and is given back: nobody else looks
    /// after it.
    #[error("could not kill the child {}, which runs on as another user: that takes root or CAP_KILL", child.pid())]
    Unkillable {
        /// The child.
        child: Box<Child>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A process is there, but hidden from this one.
    #[error(
        "could not see process {pid} in /proc, though it is there: mount /proc without `hidepid`, or with the `gid` of \
         a group that this process is in"
    )]
    Hidden {
        /// Its pid.
        pid: u32,
    },
    /// The processes could not be listed, or a pinned executable could not be found by its descriptor.
    #[error("could not read {}: a mounted /proc and free descriptors are needed for processes", path.display())]
    Proc {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The settings of a [`ChildSpec`](super::ChildSpec) need a trampoline, and this program has none.
    #[error(
        "could not start {}: its settings are applied by this program started once more; \
         call `cluster_supervisor::os::trampoline()` first thing in `main`",
        path.display()
    )]
    NoTrampoline {
        /// The path of the executable.
        path: PathBuf,
    },
    /// The trampoline did not do its work. The program has not run, and the trampoline is gone.
    #[error(
        "could not start {}: the trampoline {what} ({exit}); \
         is `cluster_supervisor::os::trampoline()` called first thing in `main`, whatever the arguments?",
        path.display()
    )]
    Trampoline {
        /// The path of the executable.
        path: PathBuf,
        /// What it did instead.
        what: &'static str,
        /// How it ended.
        exit: Exit,
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
