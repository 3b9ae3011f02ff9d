//! Why nothing can be read of a process, or asked of it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An error of the system, with the operation that failed and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has ended, whether or not it has been reaped. No fault: see [`is_gone`](Self::is_gone).
    #[error("process {pid} has ended")]
    Gone {
        /// The pid that it had.
        pid: u32,
    },
    /// There is no `/proc` where it should be.
    #[error("could not find processes in {}: mount a /proc there (`mount -t proc proc /proc`)", root.display())]
    NoProc {
        /// Where it should be.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This `/proc` counts processes in another pid namespace: its pids mean others.
    #[error(
        "could not find processes in {}: it belongs to another pid namespace; mount a /proc of this one",
        root.display()
    )]
    ForeignProc {
        /// Where it is.
        root: PathBuf,
    },
    /// That is the id of a thread other than the first one of its process.
    #[error("could not look at process {pid}: that is the id of a thread; give that of its process")]
    NotAProcess {
        /// The id.
        pid: u32,
    },
    /// The process lives, but is another user's, and `/proc` shows only one's own (`hidepid`).
    #[error(
        "could not look at process {pid} in {}: it is hidden; run as its user, mount /proc with `hidepid=0`, \
         or join the group that its option `gid` names",
        path.display()
    )]
    Hidden {
        /// Its pid.
        pid: u32,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process may be seen, but this of it only by those who may trace it: the same user, if it has not changed
    /// its user since and nothing else stands against it (`PR_SET_DUMPABLE`).
    #[error(
        "could not read {}: it takes the right to trace process {pid}; \
         run as its user, or with the capability CAP_SYS_PTRACE",
        path.display()
    )]
    Denied {
        /// Its pid.
        pid: u32,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This process, or the machine, has no descriptor left.
    #[error(
        "could not open {}: too many files are open; raise the limit (`RLIMIT_NOFILE`, `ulimit -n`): \
         a sampler keeps four open for each process",
        path.display()
    )]
    TooManyOpen {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What stands there is not what the kernel writes.
    #[error("could not understand {}: is a real /proc mounted there?", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// That can't stand in an HTTP request.
    #[error(
        "could not make a request with the {part} {given}: it takes visible ASCII characters, not too many, and a path \
         begins with a slash"
    )]
    MalformedRequest {
        /// Which part of the request.
        part: &'static str,
        /// What was given, escaped and cut.
        given: String,
    },
    /// The threads that ask could not be started.
    #[error(
        "could not make {what} for probes: raise the limit (`RLIMIT_NOFILE`, `RLIMIT_NPROC`, `ulimit -n -u`)"
    )]
    Start {
        /// What could not be made.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another call failed.
    #[error("could not {operation} {}", path.display())]
    Os {
        /// What was being done, as a verb that the path follows.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether it only says that the process has ended, which is an event and not a fault.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// What it means that something of a process that lives could not be opened or read.
    pub(super) fn of_living(operation: &'static str, pid: u32, path: &Path, errno: Errno) -> Self {
        let (path, source) = (path.to_owned(), errno.into());
        match errno {
            Errno::NOENT | Errno::PERM => Self::Hidden { pid, path, source },
            Errno::ACCESS => Self::Denied { pid, path, source },
            Errno::MFILE | Errno::NFILE => Self::TooManyOpen { path, source },
            _ => Self::Os { operation, path, source },
        }
    }
}
