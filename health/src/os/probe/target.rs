//! What can be asked, and what came of it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::command::{self, CommandLine};
use super::connect;
use super::http::{self, HttpGet};
use super::reason::End;
use super::wait::{Wait, now};

/// How a member is asked whether it is well.
///
/// ```
/// use std::time::Duration;
/// use cluster_health::os::{CommandLine, Outcome, Target};
///
/// let check = CommandLine::new("/bin/sh").args(["-c", "echo the queue is stuck; exit 2"]);
/// let outcome = Target::Command(check).ask(Duration::from_secs(10));
/// assert_eq!(outcome, Outcome::Bad("exited with code 2: the queue is stuck".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A TCP connection comes about. It is closed again at once.
    ///
    /// That proves little: the kernel takes connections for a process that hangs until its queue is full.
    Tcp(SocketAddr),
    /// A GET over plain TCP is answered with an expected status.
    Http(HttpGet),
    /// A connection to a stream socket at this path comes about, as with TCP.
    Unix(PathBuf),
    /// A program exits with code 0.
    Command(CommandLine),
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Something is wrong with who was asked, and what: `connection refused by 127.0.0.1:3000`. What others wrote is escaped and cut.
    Bad(String),
    /// It could not be asked, because this process has no descriptor, memory, port or process left. That says nothing about who was to
    /// be asked, but somebody should know.
    Unasked(String),
}

impl Outcome {
    /// The answer, for [`Monitor::handle_probe`](crate::Monitor::handle_probe). `None` if it could not be asked.
    pub fn answer(&self) -> Option<Result<(), &str>> {
        match self {
            Self::Good => Some(Ok(())),
            Self::Bad(reason) => Some(Err(reason)),
            Self::Unasked(_) => None,
        }
    }
}

impl Target {
    /// Asks once, and waits for what comes of it, for as long as `timeout` says at most. Whatever the other side does, the whole of it
    /// takes no longer, but for what it takes the system to start a program, and to end one (a second at most).
    pub fn ask(&self, timeout: Duration) -> Outcome {
        // Nobody could interrupt it.
        self.ask_unless(timeout, None).unwrap_or_else(|| Outcome::Unasked("interrupted".to_owned()))
    }

    /// Asks once. `None` if `interrupt` became readable before there was an answer.
    pub(super) fn ask_unless(&self, timeout: Duration, interrupt: Option<BorrowedFd<'_>>) -> Option<Outcome> {
        let mut wait = Wait::new(timeout, now(), interrupt);
        let ended = match self {
            Self::Tcp(address) => connect::tcp(*address, &mut wait).map(drop),
            Self::Unix(path) => connect::unix(path, &mut wait),
            Self::Http(get) => http::get(get, &mut wait),
            Self::Command(line) => command::run(line, &mut wait),
        };
        match ended {
            Ok(()) => Some(Outcome::Good),
            Err(End::Interrupted) => None,
            Err(End::Bad(reason)) => Some(Outcome::Bad(reason)),
            Err(End::Unasked(reason)) => Some(Outcome::Unasked(reason)),
            Err(End::TimedOut) => Some(Outcome::Bad(format!("no answer within {}", wait.timeout()))),
        }
    }
}
