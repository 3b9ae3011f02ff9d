//! The child's side of a start: is stdin a channel from my parent?

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{RecvFlags, recv};
use rustix::stdio::{dup2_stdin, stdin};

use super::Socket;
use crate::handshake::PEEK_LEN;
use crate::{Channel, Error, Welcome};

/// Descriptors below this are the standard streams; the channel moves above them.
const FIRST_FREE: i32 = 3;

static ADOPTED: AtomicBool = AtomicBool::new(false);

/// A channel taken over from the parent, with what its Welcome said.
#[derive(Debug)]
pub struct Adopted {
    channel: Channel,
    welcome: Welcome,
    descriptors: Vec<OwnedFd>,
}

impl Adopted {
    /// Takes it apart: the channel, the Welcome, and the descriptors that came with it.
    pub fn into_parts(self) -> (Channel, Welcome, Vec<OwnedFd>) {
        (self.channel, self.welcome, self.descriptors)
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
    let mut head = [0; PEEK_LEN];
    // Not a socket, not open, or nothing is there: not a worker's stdin.
    let Ok((peeked, _)) = recv(stdin(), &mut head[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) else {
        return Ok(None);
    };
    if !Welcome::begins(head.get(..peeked).unwrap_or_default()) {
        return Ok(None);
    }
    if ADOPTED.swap(true, Ordering::AcqRel) {
        return Err(Error::AlreadyAdopted);
    }
    let own = fcntl_dupfd_cloexec(stdin(), FIRST_FREE).map_err(Error::os("move the channel off stdin"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::os("open /dev/null"))?;
    dup2_stdin(&null).map_err(Error::os("put /dev/null on stdin"))?;

    let mut channel = Channel::new(Socket::from_fd(own));
    let mut frame = channel.poll_frame()?.ok_or(Error::Malformed { what: "Welcome" })?;
    let welcome = match Welcome::parse(&frame) {
        Ok(welcome) => welcome,
        Err(error) => {
            // Tell the parent why before going: it can't read our stderr.
            drop(channel.try_send(crate::Online::reject(&error.to_string())));
            channel.flush()?;
            return Err(error);
        }
    };
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(welcome.parent()) {
        return Err(Error::Orphaned { parent: welcome.parent() });
    }
    Ok(Some(Adopted { channel, welcome, descriptors: frame.take_descriptors() }))
}
