//! The child's side of a start: is there a channel from my parent?
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{RecvFlags, recv};
use rustix::stdio::{dup2_stdin, stdin};

use super::Socket;
use crate::clock::now;
use crate::handshake::PEEK_LEN;
use crate::session::Config;
use crate::{Channel, Connection, Error, Frame, Welcome};

/// The environment variable that tells a child on which descriptor its channel is. A child of this crate needs it only
/// if that is not stdin; one in another language may always use it.
pub const CHANNEL_VARIABLE: &str = "CLUSTER_IPC_FD";

/// Descriptors below this are the standard streams; the channel moves above them.
const FIRST_FREE: RawFd = 3;

/// How long the parent may take to write its Welcome, which it does before or right after the start.
const PATIENCE: Duration = Duration::from_secs(10);

static ADOPTED: AtomicBool = AtomicBool::new(false);

/// A channel taken over from the parent, with what its Welcome said.
#[derive(Debug)]
pub struct Adopted {
    channel: Channel,
    welcome: Welcome,
    descriptors: Vec<OwnedFd>,
}

impl Adopted {
    /// What the parent's application put into its Welcome.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Answers the Welcome, with this `greeting` in the answer, and talks to the parent from here on. The first event is
    /// [`Opened`](crate::session::Event::Opened), with the descriptors that came with the Welcome.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfPlace`] when the parent sent more than a Welcome before the answer: it speaks frames of its own,
    /// so take the channel with [`into_parts`](Self::into_parts) instead.
    pub fn connect(self, config: Config, greeting: &[u8]) -> Result<Connection, Error> {
        let socket = self.channel.into_socket()?;
        Ok(Connection::welcomed(socket, config, greeting, &self.welcome, self.descriptors))
    }

    /// Takes it apart, for a protocol of one's own on frames: the channel, the Welcome (which has not been answered), and
    /// the descriptors that came with it.
    pub fn into_parts(self) -> (Channel, Welcome, Vec<OwnedFd>) {
        (self.channel, self.welcome, self.descriptors)
    }
}

/// Takes over the channel that the parent left for this process: on the descriptor that [`CHANNEL_VARIABLE`] names, if it
/// names one other than stdin and a Welcome is waiting there, or on stdin.
///
/// # Errors
///
/// [`Error::NotAdopted`] when there is none: this process was not started by a parent with a channel. Otherwise as
/// [`adopt_stdin`].
pub fn adopt() -> Result<Adopted, Error> {
    let named = std::env::var(CHANNEL_VARIABLE).ok().and_then(|number| number.parse().ok());
    let adopted = match named {
        Some(number) if number >= FIRST_FREE => adopt_number(number)?,
        _ => None,
    };
    match adopted {
        Some(adopted) => Ok(adopted),
        None => adopt_stdin()?.ok_or(Error::NotAdopted { variable: CHANNEL_VARIABLE }),
    }
}

/// Takes over the channel that the parent left on stdin, if there is one.
///
/// `Ok(None)` means that this process was not started by a parent of this kind: stdin is no Unix
/// socket, or doesn't begin with a [`Welcome`]. It was only peeked at then, nothing was consumed.
///
/// Otherwise the channel moves to a descriptor above the standard streams, closed on exec, so that
/// no grandchild keeps it open; stdin becomes `/dev/null`; and the Welcome, which was written
/// before this process began, is read.
///
/// # Errors
///
/// [`Error::AlreadyAdopted`] when called again after a success, [`Error::Orphaned`] when the parent has
/// died since, or what is wrong with the Welcome. A process that gets an error here was started as a child and must not
/// go on as if it were not.
pub fn adopt_stdin() -> Result<Option<Adopted>, Error> {
    if ADOPTED.load(Ordering::Acquire) {
        return Err(Error::AlreadyAdopted);
    }
    if peek(stdin()).is_none() {
        return Ok(None);
    }
    claim()?;
    let own = fcntl_dupfd_cloexec(stdin(), FIRST_FREE).map_err(Error::os("move the channel off stdin"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::os("open /dev/null"))?;
    dup2_stdin(&null).map_err(Error::os("put /dev/null on stdin"))?;
    read_welcome(own).map(Some)
}

/// Whether this process was started by a parent with a channel on stdin: true before [`adopt_stdin`] takes it over, and after. It
/// only looks, and consumes nothing.
///
/// ```
/// assert!(!cluster_ipc::is_child());
/// ```
pub fn is_child() -> bool {
    // In this order: who adopts it meanwhile claims it first, and then moves it off stdin.
    peek(stdin()).is_some() || ADOPTED.load(Ordering::Acquire)
}

/// Takes over the channel on a descriptor other than the standard streams.
fn adopt_number(number: RawFd) -> Result<Option<Adopted>, Error> {
    if ADOPTED.load(Ordering::Acquire) {
        return Err(Error::AlreadyAdopted);
    }
    if rustix::fs::stat(format!("/proc/self/fd/{number}")).is_err() {
        return Ok(None);
    }
    // SAFETY: the descriptor was open just now. Who closes it meanwhile has its own descriptors wrong; then at worst
    // a wrong one is peeked at, which changes nothing about it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // The variable may be inherited from a process for which it was meant: then a Welcome of our own parent isn't there.
    match peek(borrowed) {
        Some(parent) if Some(parent) == parent_id() => {}
        _ => return Ok(None),
    }
    claim()?;
    // SAFETY: a Welcome to a child of our parent is waiting there, and the variable says that the parent put it there
    // for us: no other part of this process owns it. `claim` lets only one caller come here.
    let inherited = unsafe { OwnedFd::from_raw_fd(number) };
    // The inherited one is not closed on exec; a copy is from the beginning.
    let own = fcntl_dupfd_cloexec(&inherited, FIRST_FREE)
        .map_err(Error::os("move the channel off its inherited descriptor"))?;
    read_welcome(own).map(Some)
}

/// The parent that a waiting Welcome names.
fn peek(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut head = [0; PEEK_LEN];
    // Not a socket, not open, or nothing is there: not a child's channel.
    let (peeked, _) = recv(fd, &mut head[..], RecvFlags::PEEK | RecvFlags::DONTWAIT).ok()?;
    let head = head.get(..peeked)?;
    if peeked < PEEK_LEN || !Welcome::begins(head) {
        return None;
    }
    head.last_chunk().map(|parent| u32::from_le_bytes(*parent))
}

fn claim() -> Result<(), Error> {
    if ADOPTED.swap(true, Ordering::AcqRel) { Err(Error::AlreadyAdopted) } else { Ok(()) }
}

fn parent_id() -> Option<u32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// A long Welcome doesn't fit into the socket at once: the parent writes the rest while this process starts.
fn wait_for_frame(channel: &mut Channel) -> Result<Frame<OwnedFd>, Error> {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(frame) = channel.poll_frame()? {
            return Ok(frame);
        }
        let rest = deadline.saturating_duration_since(now());
        if rest.is_zero() {
            return Err(Error::HandshakeTimeout);
        }
        let timeout = Timespec::try_from(rest).ok();
        // Interrupted: look again.
        poll(&mut [PollFd::new(channel, PollFlags::IN)], timeout.as_ref()).ok();
    }
}

fn read_welcome(own: OwnedFd) -> Result<Adopted, Error> {
    let mut channel = Channel::new(Socket::from_fd(own));
    let mut frame = wait_for_frame(&mut channel)?;
    let welcome = match Welcome::parse(&frame) {
        Ok(welcome) => welcome,
        Err(error) => {
            // Tell the parent why before going: it can't read our stderr.
            drop(channel.try_send(crate::Online::reject(&error.to_string())));
            channel.flush()?;
            return Err(error);
        }
    };
    if parent_id() != Some(welcome.parent()) {
        return Err(Error::Orphaned { parent: welcome.parent() });
    }
    Ok(Adopted { channel, welcome, descriptors: frame.take_descriptors() })
}
