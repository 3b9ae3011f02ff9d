//! Where a child's standard streams go.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};

use super::Error;

/// Where one of a child's standard streams goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// To where this process's goes.
    Inherit,
    /// To `/dev/null`.
    Null,
    /// Into a pipe whose other end [`Child`](super::Child) has: non-blocking and closed on exec.
    Piped,
    /// To a descriptor. The specification holds it, each child gets a duplicate.
    Descriptor(Arc<OwnedFd>),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::Descriptor(Arc::new(fd))
    }
}

/// The three of a specification.
#[derive(Clone, Debug)]
pub(super) struct StdioSet {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
}

/// The ends of one start that the child gets.
#[derive(Debug)]
pub(super) struct ChildEnds {
    pub(super) stdin: End,
    pub(super) stdout: End,
    pub(super) stderr: End,
}

/// The ends that stay here.
#[derive(Debug, Default)]
pub(super) struct OurEnds {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) stderr: Option<PipeReader>,
}

/// What a child gets as a standard stream.
#[derive(Debug)]
pub(super) enum End {
    Inherit,
    Descriptor(OwnedFd),
}

impl End {
    /// The descriptor to hand over, where inheriting is no way.
    pub(super) fn into_descriptor(self, inherited: impl AsFd) -> Result<OwnedFd, Error> {
        match self {
            Self::Inherit => {
                inherited.as_fd().try_clone_to_owned().map_err(Error::os("duplicate a standard stream"))
            }
            Self::Descriptor(fd) => Ok(fd),
        }
    }
}

impl From<End> for std::process::Stdio {
    fn from(end: End) -> Self {
        match end {
            End::Inherit => Self::inherit(),
            End::Descriptor(fd) => Self::from(fd),
        }
    }
}

impl StdioSet {
    /// Opens what one start needs.
    pub(super) fn open(&self) -> Result<(ChildEnds, OurEnds), Error> {
        let mut ours = OurEnds::default();
        let stdin = match &self.stdin {
            Stdio::Piped => {
                let (child, our) = open_pipe()?;
                set_nonblocking(&our)?;
                ours.stdin = Some(our);
                End::Descriptor(child.into())
            }
            other => other.open()?,
        };
        let stdout = output(&self.stdout, &mut ours.stdout)?;
        let stderr = output(&self.stderr, &mut ours.stderr)?;
        Ok((ChildEnds { stdin, stdout, stderr }, ours))
    }
}

impl Stdio {
    fn open(&self) -> Result<End, Error> {
        match self {
            // A pipe has a direction: who knows it has opened it.
            Self::Inherit | Self::Piped => Ok(End::Inherit),
            Self::Null => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .map(End::Descriptor)
                .map_err(Error::os("open /dev/null")),
            Self::Descriptor(fd) => {
                fd.try_clone().map(End::Descriptor).map_err(Error::os("duplicate a standard stream"))
            }
        }
    }
}

fn output(stdio: &Stdio, ours: &mut Option<PipeReader>) -> Result<End, Error> {
    let Stdio::Piped = stdio else { return stdio.open() };
    let (our, child) = open_pipe()?;
    set_nonblocking(&our)?;
    *ours = Some(our);
    Ok(End::Descriptor(child.into()))
}

fn open_pipe() -> Result<(PipeReader, PipeWriter), Error> {
    pipe().map_err(Error::os("make a pipe for a standard stream"))
}

/// Only our end: each end of a pipe has a description of its own, and a child expects a blocking one.
pub(super) fn set_nonblocking(fd: impl AsFd) -> Result<(), Error> {
    let fd = fd.as_fd();
    fcntl_getfl(fd)
        .and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK))
        .map_err(Error::os("make a pipe non-blocking"))
}
