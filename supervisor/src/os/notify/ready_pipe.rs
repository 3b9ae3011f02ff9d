//! A pipe on which a child says that it is ready, by one line.

use std::io::{ErrorKind, PipeReader, Read, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::os::Error;
use crate::os::stdio::set_nonblocking;

/// Hears when a child is ready, as s6 does: the child writes a newline to a descriptor.
///
/// What it writes before the newline is passed over. After the newline, or when everybody has closed the other end,
/// this has told what it can: drop it, as it stays readable. (A child that writes on then gets `SIGPIPE`.)
///
/// The other end goes to the child under the number that its program expects, by
/// [`ChildSpec::descriptor`](super::super::ChildSpec::descriptor), or as its stdout, which needs no trampoline. Use a
/// clone of the specification: as long as one holds the other end, its closing is never seen.
///
/// Source: <https://skarnet.org/software/s6/notifywhenup.html>.
///
/// ```
/// use cluster_supervisor::os::{ChildSpec, Executable, Readiness, ReadyPipe, Stdio};
///
/// let spec = ChildSpec::new(Executable::find("echo")?);
/// let (mut pipe, childs_end) = ReadyPipe::new()?;
/// let child = spec.clone().stdout(Stdio::from(childs_end)).spawn()?;
/// child.wait()?;
/// assert_eq!(pipe.receive()?, Some(Readiness::Ready));
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct ReadyPipe {
    reader: PipeReader,
}

/// What a [`ReadyPipe`] heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// The child is ready.
    Ready,
    /// The other end was closed without a newline: the child will never say that it is ready.
    Closed,
}

impl ReadyPipe {
    /// Makes a pipe: our end, non-blocking, and the child's; both closed on exec.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] at the limit of open files.
    pub fn new() -> Result<(Self, OwnedFd), Error> {
        let (reader, writer) = pipe().map_err(Error::os("make a pipe for readiness"))?;
        set_nonblocking(&reader)?;
        Ok((Self { reader }, writer.into()))
    }

    /// Reads what there is, at most 4096 bytes; `None` if that told nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn receive(&mut self) -> Result<Option<Readiness>, Error> {
        let mut buffer = [0; 4096];
        loop {
            match self.reader.read(&mut buffer) {
                Ok(length) => return Ok(readiness(&buffer[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::os("read from a pipe for readiness")(error)),
            }
        }
    }
}

/// What these bytes tell; no bytes are the end.
fn readiness(bytes: &[u8]) -> Option<Readiness> {
    match bytes {
        [] => Some(Readiness::Closed),
        bytes => bytes.contains(&b'\n').then_some(Readiness::Ready),
    }
}

impl AsFd for ReadyPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newline_is_ready_and_only_the_end_is_closed() {
        assert_eq!(readiness(b""), Some(Readiness::Closed));
        assert_eq!(readiness(b"starting "), None);
        assert_eq!(readiness(b"\0\r"), None);
        assert_eq!(readiness(b"3\nmore"), Some(Readiness::Ready));
    }
}
