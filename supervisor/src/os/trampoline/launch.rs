//! The parent's side of a start through a trampoline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::apply::Step;
use super::description::{Description, MAX_LEN};
use super::handshake::{Handshake, Input, MAX_PACKET, Next};
use super::{MARKER, packet, trampoline_is_available};
use crate::Exit;
use crate::os::child::Child;
use crate::os::procfs::without_proc;
use crate::os::stdio::{ChildEnds, OurEnds};
use crate::os::{Error, Executable};

/// For how long a trampoline may go on to run after it has said that it failed.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// What a start takes, besides the description.
#[derive(Debug)]
pub(in crate::os) struct Launch<'a> {
    pub(in crate::os) executable: &'a Executable,
    pub(in crate::os) descriptors: Vec<BorrowedFd<'a>>,
    pub(in crate::os) new_group: bool,
    pub(in crate::os) timeout: Duration,
}

/// Starts a program through a trampoline, and waits until it runs.
///
/// On an error nothing is left of it: no process, no zombie, no descriptor.
pub(in crate::os) fn launch(
    launch: &Launch<'_>,
    description: &Description,
    childs: ChildEnds,
    ours: OurEnds,
) -> Result<Child, Error> {
    let path = launch.executable.path();
    if !trampoline_is_available() {
        return Err(Error::NoTrampoline { path: path.to_owned() });
    }
    let body = description.encode();
    if body.len() > MAX_LEN {
        return Err(Error::Spawn { path: path.to_owned(), source: Errno::TOOBIG.into() });
    }
    let ChildEnds { stdin, stdout, stderr } = childs;
    let stdin = stdin.into_descriptor(io::stdin())?;
    let stdout = stdout.into_descriptor(io::stdout())?;
    let (socket, childs_socket) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(Error::os("make a socket pair for the trampoline"))?;
    let child = start(launch, childs_socket, stderr.into(), ours)?;
    let mut sent = vec![stdin.as_fd(), stdout.as_fd()];
    if description.by_path.is_none() {
        sent.insert(0, launch.executable.as_fd());
    }
    sent.extend(&launch.descriptors);
    match converse(&socket, launch.timeout, || packet::send_description(&socket, &body, &sent)) {
        Ok(()) => Ok(child),
        Err(fault) => Err(fault.into_error(child, path)),
    }
}

/// Starts this program as a trampoline. Its stdout is closed to it until it has proved to be one.
fn start(launch: &Launch<'_>, socket: OwnedFd, stderr: Stdio, ours: OurEnds) -> Result<Child, Error> {
    let failed = |source| Error::Spawn { path: launch.executable.path().to_owned(), source };
    let mut command = Command::new("/proc/self/exe");
    command.arg0(MARKER).stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(stderr);
    if launch.new_group {
        command.process_group(0);
    }
    let process = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => without_proc().unwrap_or_else(|| failed(source)),
        _ => failed(source),
    })?;
    // The command holds our copies of the child's ends: they must be gone for the child's to be the only ones.
    drop(command);
    Child::watch(process, ours).map_err(failed)
}

/// Why a trampoline has not become the program.
enum Fault {
    Failed(Step, Errno),
    GiveUp(&'static str),
}

impl Fault {
    fn into_error(self, child: Child, path: &Path) -> Error {
        let path = path.to_owned();
        // It may have reported and be about to exit, or hang: in both cases it has nothing left to do.
        let exit = match (&self, child.kill_and_reap()) {
            (_, Ok(exit)) => exit,
            (Self::Failed(..), Err(Error::Unkillable { child, source })) => match reap_soon(*child, source) {
                Ok(exit) => exit,
                Err(error) => return error,
            },
            (_, Err(error)) => return error,
        };
        match self {
            Self::Failed(Step::Exec, errno) => Error::Spawn { path, source: errno.into() },
            Self::Failed(step, errno) => {
                Error::Setting { operation: step.operation(), path, source: errno.into() }
            }
            Self::GiveUp(what) => Error::Trampoline { path, what, exit },
        }
    }
}

/// Reaps one who may not be killed, but has said that it is ending.
fn reap_soon(mut child: Child, source: io::Error) -> Result<Exit, Error> {
    // Whatever comes of the waiting, the child has ended or it has not.
    let _ = is_readable(&child, Some(LAST_STEPS));
    child.try_reap()?.ok_or_else(|| Error::Unkillable { child: Box::new(child), source })
}

/// Moves packets between the socket and the handshake until that is decided.
#[allow(clippy::disallowed_methods, reason = "a driver: it reads the clock so that the handshake needn't")]
fn converse(
    socket: &OwnedFd,
    timeout: Duration,
    describe: impl Fn() -> Result<(), Errno>,
) -> Result<(), Fault> {
    let deadline = Instant::now().checked_add(timeout);
    let mut handshake = Handshake::new();
    let mut buffer = [0; MAX_PACKET];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let input = match is_readable(socket, left) {
            Err(Errno::INTR) => continue,
            Err(_) | Ok(false) => Input::Silence,
            Ok(true) => match packet::receive(socket, &mut buffer) {
                Ok([]) | Err(Errno::CONNRESET) => Input::EndOfFile,
                Ok(packet) => Input::Packet(packet),
                Err(_) => Input::Silence,
            },
        };
        match handshake.handle(input) {
            // If it can't be sent because the child is gone, the end of file tells. Otherwise there is no way on.
            Next::Describe => match describe() {
                Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                Err(errno) => return Err(Fault::Failed(Step::Descriptors, errno)),
            },
            Next::Wait => {}
            Next::Started => return Ok(()),
            Next::Failed(step, errno) => return Err(Fault::Failed(step, errno)),
            Next::GiveUp(what) => return Err(Fault::GiveUp(what)),
        }
    }
}

/// Waits for something to read, at most this long.
fn is_readable(fd: impl AsFd, left: Option<Duration>) -> Result<bool, Errno> {
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    Ok(poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref())? > 0)
}
