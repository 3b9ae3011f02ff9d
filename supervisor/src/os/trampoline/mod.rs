//! This program, started once more, as a step between fork and exec of another one.
//!
//! Settings like the user or a limit must be applied in the child, before its program begins. Code of ours between
//! fork and exec would leave the standard library's `posix_spawn` (100 ms instead of 0.1 ms in a process of 4 GiB),
//! and could neither allocate nor lock. So this program is started instead, by `posix_spawn`, and [`trampoline`] in
//! its `main` applies the settings and execs the program that was wanted:
//!
//! ```text
//!  parent                                           child: /proc/self/exe, argv[0] = MARKER
//!    socket pair ────────────── as stdin ────────▶  trampoline(): am I one?
//!                ◀───── hello ──────────────────────
//!                ────── description, descriptors ─▶ checks, applies, in the order of `apply.rs`
//!                ◀───── executing ──────────────────
//!                ◀───── end of file (exec closed it), or what failed and how
//! ```
//!
//! The description goes only to who said hello, so a program that doesn't call [`trampoline`] gets nothing to misuse.
//! And only the parent is obeyed, by a trampoline that has no privileges but the parent's (`trust.rs`): so nobody can
//! misuse a trampoline.

mod apply;
mod description;
mod handshake;
mod inherited;
mod launch;
mod packet;
mod trust;

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

pub(super) use self::description::Description;
pub(super) use self::launch::{Launch, launch};

use self::apply::{Failure, Step};
use self::description::Malformed;
use self::handshake::Report;

/// The name that a trampoline is started by. It ends with the version of what is said on the socket.
const MARKER: &str = "cluster-supervisor-trampoline/1";

/// A shell's exit code for "found, but can't be run".
const CANNOT_RUN: i32 = 126;

/// A shell's exit code for "not found".
const NOT_FOUND: i32 = 127;

/// Whether this program's `main` has called [`trampoline`], so that started once more it will do so again.
static CALLED: AtomicBool = AtomicBool::new(false);

/// Lets this program apply the settings of its children: call it first thing in `main`.
///
/// In a process that was started as a trampoline, by [`ChildSpec::spawn`](super::ChildSpec::spawn), it becomes the
/// child's program, or ends. In any other it returns at once, having looked at nothing but `argv[0]`.
///
/// First thing: before arguments are read, files opened and threads started, since all this happens again in each
/// trampoline. Specifications that need none work without this call.
///
/// A process is a trampoline when `argv[0]` says so and its stdin is the socket of the parent that wants one. If one
/// is true and the other isn't, it prints what is wrong to stderr and exits with code 126.
///
/// So does a program with privileges by its file (setuid, setgid, capabilities): anybody who may start it could have it
/// do anything. Such a program can't have a trampoline; give it its privileges another way, for example as ambient
/// capabilities.
///
/// ```
/// use cluster_supervisor::os::trampoline;
///
/// fn main() {
///     trampoline();
///     // From here on as ever.
/// }
/// ```
pub fn trampoline() {
    if std::env::args_os().next().as_deref() != Some(OsStr::new(MARKER)) {
        CALLED.store(true, Ordering::Relaxed);
        return;
    }
    let (reason, code) = match run() {
        Refusal::Told(code) => exit(code),
        Refusal::Stranger(reason) => (reason.to_owned(), CANNOT_RUN),
        Refusal::Malformed(Malformed(what)) => (format!("the description is malformed: {what}"), CANNOT_RUN),
        Refusal::Socket(errno) => (format!("the socket to the parent failed: {errno}"), CANNOT_RUN),
    };
    // Without stderr there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{MARKER}: {reason}");
    exit(code)
}

/// Whether [`trampoline`] was called here.
pub(super) fn trampoline_is_available() -> bool {
    CALLED.load(Ordering::Relaxed)
}

/// Why a trampoline has not become its program.
enum Refusal {
    /// The parent has heard why; what is left is the exit code.
    Told(i32),
    /// Whoever started this is no parent that wants a trampoline.
    Stranger(&'static str),
    Malformed(Malformed),
    Socket(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno)
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Returns only if it could not become the program.
fn run() -> Refusal {
    match prepare() {
        Ok((socket, failure)) => tell(&socket, &failure),
        Err(refusal) => refusal,
    }
}

fn prepare() -> Result<(OwnedFd, Failure), Refusal> {
    let socket = parents_socket()?;
    if trust::is_privileged() {
        let failure = Failure { step: Step::Trust, errno: Errno::PERM };
        // Should a parent wait there, it learns why.
        let _ = packet::send(&socket, &Report::Failed(failure.step, failure.errno).encode());
        return Err(Refusal::Stranger(
            "this program has privileges by its file: anybody may have started it",
        ));
    }
    packet::send(&socket, handshake::HELLO)?;
    let (body, descriptors) = packet::receive_description(&socket)?;
    let description = Description::decode(&body)?;
    // Out of the way of the program's numbers.
    match rustix::io::fcntl_dupfd_cloexec(&socket, description.first_unused()) {
        Ok(high) => {
            drop(socket);
            let failure = apply::become_program(&description, descriptors, &high);
            Ok((high, failure))
        }
        Err(errno) => Ok((socket, Failure { step: Step::Descriptors, errno })),
    }
}

/// The socket on stdin, under a number that stdin doesn't take back.
fn parents_socket() -> Result<OwnedFd, Refusal> {
    let stdin = std::io::stdin();
    let stranger = |_| Refusal::Stranger("stdin is no socket: only `ChildSpec::spawn` may start this");
    let kind = sockopt::socket_type(stdin.as_fd()).map_err(stranger)?;
    let domain = sockopt::socket_domain(stdin.as_fd()).map_err(stranger)?;
    if kind != SocketType::SEQPACKET || domain != AddressFamily::UNIX {
        return Err(Refusal::Stranger("stdin is another socket: only `ChildSpec::spawn` may start this"));
    }
    if !trust::is_parents(&stdin) {
        return Err(Refusal::Stranger("stdin is somebody else's socket: only the parent may start this"));
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)?)
}

fn tell(socket: &OwnedFd, failure: &Failure) -> Refusal {
    let code = if failure.is_not_found() { NOT_FOUND } else { CANNOT_RUN };
    match packet::send(socket, &Report::Failed(failure.step, failure.errno).encode()) {
        Ok(()) => Refusal::Told(code),
        Err(errno) => Refusal::Socket(errno),
    }
}
