//! A non-blocking channel: socket, decoder and outbox in one. Drivers stand on this.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::os::{Received, Sent, Socket, took_all};
use crate::{Decoder, Error, Frame, Kind, Outbox, TrySendError};

/// How much one read asks for.
const READ_LEN: usize = 16 << 10;

/// A non-blocking channel over a [`Socket`].
///
/// It never waits: it says when it would have to. The tokio driver waits on it; with mio, register its descriptor
/// (it is an `event::Source` with feature `mio`). After an error from the peer every call reports [`Error::PeerGone`].
///
/// Dropping it closes the socket; frames not yet flushed are lost, with their descriptors closed.
///
/// ```
/// # use cluster_ipc::{Channel, Frame, Kind};
/// let (mut here, mut there) = Channel::pair()?;
/// here.try_send(Frame::new(Kind::Message, 0, &b"hello"[..])).expect("the outbox is empty");
/// here.flush()?;
/// let frame = there.poll_frame()?.expect("it was flushed");
/// assert_eq!(&frame.payload()[..], b"hello");
/// assert!(there.poll_frame()?.is_none());
/// # Ok::<(), cluster_ipc::Error>(())
/// ```
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
    decoder: Decoder<OwnedFd>,
    outbox: Outbox<OwnedFd>,
    buffer: Box<[u8]>,
    /// The last read took all that was there.
    drained: bool,
    /// Nothing can be sent any more. What the peer sent before it died can still be read.
    gone: bool,
    /// Nothing can be read any more either.
    ended: bool,
}

/// What became of a frame with borrowed descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handed {
    /// It is on its way, and the kernel holds copies of its descriptors.
    Sent,
    /// Nothing of it was taken; try again when the channel is writable.
    WouldBlock,
}

impl Channel {
    /// A channel over one end of a socket pair.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            decoder: Decoder::new(),
            outbox: Outbox::new(),
            buffer: vec![0; READ_LEN].into_boxed_slice(),
            drained: false,
            gone: false,
            ended: false,
        }
    }

    /// The same channel, before its first use, that takes payloads of at most `bytes` instead of 1 MiB.
    #[must_use]
    pub fn max_frame(self, bytes: usize) -> Self {
        Self { decoder: Decoder::with_max_frame(bytes), ..self }
    }

    /// The same channel, before its first use, with another outbox: for larger frames than 1 MiB, or to have less wait in it.
    #[must_use]
    pub fn outbox(self, outbox: Outbox<OwnedFd>) -> Self {
        Self { outbox, ..self }
    }

    /// Two connected channels.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the socket pair could not be made.
    pub fn pair() -> Result<(Self, Self), Error> {
        let (one, other) = Socket::pair()?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// Queues a frame; [`flush`](Self::flush) writes it.
    ///
    /// # Errors
    ///
    /// The frame comes back when the outbox is full, the frame too large, or the peer known to be gone.
    pub fn try_send(&mut self, frame: Frame<OwnedFd>) -> Result<(), TrySendError<Frame<OwnedFd>>> {
        if self.gone {
            return Err(TrySendError::Closed(frame));
        }
        self.outbox.push(frame)
    }

    /// Writes what is queued, as far as the kernel takes it. `true` when nothing is left.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] or [`Error::Os`].
    pub fn flush(&mut self) -> Result<bool, Error> {
        while let Some(transmit) = self.outbox.poll_transmit() {
            let descriptors: Vec<BorrowedFd<'_>> = transmit.descriptors().iter().map(AsFd::as_fd).collect();
            match self.socket.send(&[IoSlice::new(transmit.bytes())], &descriptors) {
                Ok(Sent::Bytes(sent)) => self.outbox.handle_sent(sent),
                Ok(Sent::WouldBlock | Sent::TooManyInFlight) => return Ok(false),
                Err(error) => {
                    self.gone |= matches!(error, Error::PeerGone);
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    /// Writes a frame at once whose descriptors stay the caller's: the kernel makes its own copies, so none is
    /// duplicated here. Nothing is queued: `WouldBlock` means that nothing was taken (also while earlier frames
    /// still wait for a [`flush`](Self::flush)).
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] or [`Error::Os`]; [`Error::FrameTooLarge`] above the limits of a frame.
    pub fn send_borrowed(
        &mut self,
        kind: Kind,
        id: u64,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Handed, Error> {
        if self.gone {
            return Err(Error::PeerGone);
        }
        if !self.flush()? {
            return Ok(Handed::WouldBlock);
        }
        let Some(header) = self.outbox.header(kind, id, payload, descriptors.len()) else {
            return Err(Error::FrameTooLarge { len: payload.len(), max: crate::DEFAULT_MAX_FRAME });
        };
        let header = header.encode();
        let sent = match self.socket.send(&[IoSlice::new(&header), IoSlice::new(payload)], descriptors) {
            Ok(Sent::Bytes(sent)) => sent,
            Ok(Sent::WouldBlock | Sent::TooManyInFlight) => return Ok(Handed::WouldBlock),
            Err(error) => {
                self.gone |= matches!(error, Error::PeerGone);
                return Err(error);
            }
        };
        // The descriptors went with the first byte; what is left of the frame must follow without them.
        self.outbox.push_rest(header.get(sent..).unwrap_or_default());
        self.outbox.push_rest(payload.get(sent.saturating_sub(header.len())..).unwrap_or_default());
        Ok(Handed::Sent)
    }

    /// Returns the next frame, reading from the socket as needed; `None` when the socket has been
    /// drained (it would block).
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] after the last frame of a peer that closed or died; anything else the peer did wrong.
    /// All are final.
    pub fn poll_frame(&mut self) -> Result<Option<Frame<OwnedFd>>, Error> {
        if self.ended {
            return Err(Error::PeerGone);
        }
        let read = self.read_frame();
        if read.is_err() {
            (self.ended, self.gone) = (true, true);
        }
        read
    }

    fn read_frame(&mut self) -> Result<Option<Frame<OwnedFd>>, Error> {
        loop {
            if let Some(frame) = self.decoder.poll_frame()? {
                return Ok(Some(frame));
            }
            let mut descriptors = Vec::new();
            match self.socket.receive(&mut self.buffer, &mut descriptors)? {
                Received::Bytes(bytes) => {
                    self.drained = took_all(bytes, &self.buffer, descriptors.is_empty());
                    self.decoder.push(self.buffer.get(..bytes).unwrap_or_default(), descriptors)?;
                }
                Received::WouldBlock => return Ok(None),
                Received::PeerGone => return Err(Error::PeerGone),
            }
        }
    }

    /// Returns the next frame that has been read already, without a system call.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_decoded(&mut self) -> Result<Option<Frame<OwnedFd>>, Error> {
        self.decoder.poll_frame()
    }

    /// Whether the last read took all that was there: another would be in vain, until the kernel tells of more.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether one more frame may be queued.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.has_room(0)
    }

    /// Queues a frame for which there was room.
    #[cfg(feature = "tokio")]
    pub(crate) fn push(&mut self, frame: Frame<OwnedFd>) -> Result<(), Error> {
        if self.gone {
            return Err(Error::PeerGone);
        }
        self.outbox.push_last(frame)
    }

    /// The socket, if nothing has been read or queued that would be lost with the rest.
    pub(crate) fn into_socket(self) -> Result<Socket, Error> {
        if !self.decoder.is_empty() || !self.outbox.is_empty() {
            return Err(Error::OutOfPlace { what: "more than a Welcome before it was answered" });
        }
        Ok(self.socket)
    }

    /// Whether frames wait for a [`flush`](Self::flush).
    pub fn wants_flush(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
