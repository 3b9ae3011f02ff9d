//! Tells when a socket can be read, and, while its peer reads too slowly, when there is room to write.

use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::Handle;

use crate::Error;

/// So many flushes in a row must have found room before it is not watched for any more.
const CALM: u32 = 32;

/// Registers a source with the runtime: the one place that has to promise tokio that the descriptor stays the source's.
#[allow(unsafe_code)]
pub(super) fn register<T: AsRawFd>(source: T, interest: Interest) -> Result<AsyncFd<T>, Error> {
    // SAFETY: all callers pass types of this crate that own their descriptor from construction to drop and never replace it, or that
    // lend the one of an owner that outlives them.
    let registered = unsafe { AsyncFd::register_with_interest(source, interest) };
    registered.map_err(Error::os("register a descriptor with tokio"))
}

/// Watches a socket for something to read, always, and for room to write only while that is wanted.
///
/// To watch for both would wake a sender each time its peer has read, since the room in a unix socket changed: once for each message, and
/// who sends to many has a wake-up of each. So room is watched for from the first write that found none until all was well for a while.
/// Interests can't be changed in tokio, so the socket is registered anew; the kernel then tells again what it has to tell.
#[derive(Debug)]
pub(super) struct Watch<T: AsRawFd> {
    /// `None` only after an error.
    io: Option<AsyncFd<T>>,
    source: T,
    /// Who polls may be on another.
    runtime: Handle,
    wants_room: bool,
    /// Flushes that found room since one didn't.
    calm: u32,
    /// Who waits for something to read. A registration that ends doesn't wake anybody.
    reader: Option<Waker>,
}

impl<T: AsRawFd + Clone> Watch<T> {
    /// Registers with the current runtime. Clones of a source are of the same descriptor.
    pub(super) fn new(source: T) -> Result<Self, Error> {
        let io = Some(register(source.clone(), Interest::READABLE)?);
        let runtime = Handle::current();
        Ok(Self { io, source, runtime, wants_room: false, calm: 0, reader: None })
    }

    /// Something can be read, or could be a moment ago.
    pub(super) fn poll_readable(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AsyncFdReadyGuard<'_, T>, Error>> {
        if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        let io = self.registered(self.wants_room)?;
        io.poll_read_ready(cx).map_err(Error::os("wait for the peer"))
    }

    /// After a write that found no room: there is some, or was a moment ago.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AsyncFdReadyGuard<'_, T>, Error>> {
        self.calm = 0;
        self.registered(true)?.poll_write_ready(cx).map_err(Error::os("wait for room to write"))
    }

    /// All was written.
    pub(super) fn flushed(&mut self) -> Result<(), Error> {
        if self.wants_room {
            self.calm += 1;
            self.registered(self.calm < CALM)?;
        }
        Ok(())
    }

    fn registered(&mut self, wants_room: bool) -> Result<&AsyncFd<T>, Error> {
        let io = match self.io.take() {
            Some(io) if self.wants_room == wants_room => io,
            former => {
                // The kernel takes a descriptor only once.
                drop(former);
                let interest =
                    if wants_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
                let _entered = self.runtime.enter();
                let io = register(self.source.clone(), interest)?;
                self.wants_room = wants_room;
                self.reader.take().into_iter().for_each(Waker::wake);
                io
            }
        };
        Ok(self.io.insert(io))
    }
}
