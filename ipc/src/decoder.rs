//! Bytes and descriptors in, frames out. No I/O.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{Frame, HEADER_LEN, Header, MAX_DESCRIPTORS};
use crate::growing::Growing;
use crate::{DEFAULT_MAX_FRAME, Error};

/// How many descriptors may wait for the frame that claims them. The kernel never delivers a
/// descriptor later than the first byte it was sent with, but it may deliver it earlier than
/// the rest of the frame, and bytes of the frame before may share the read: so one full frame's
/// worth may wait while another is claimed.
const MAX_WAITING: usize = 2 * MAX_DESCRIPTORS;

/// Frames up to this length are cut out of the common buffer, without a copy. Longer ones are gathered in memory of
/// their own, which grows to exactly their length.
const GATHER_ABOVE: usize = 20 << 10;

/// Cuts a stream of bytes, and the descriptors that came with it, into frames.
///
/// Descriptors are paired with frames **by the count in the header, in order of arrival**, never by
/// the read they came with: a plain frame and one that carries descriptors may arrive in one read.
///
/// The peer is not trusted. A length is checked before anything is allocated for it; memory grows with what
/// arrived, never with what was announced, and never beyond `max_frame` and a constant; waiting descriptors
/// are bounded.
/// An error is final: every later call reports [`Error::PeerGone`].
///
/// ```
/// # use cluster_ipc::{Decoder, Frame, Kind, Outbox};
/// let mut outbox = Outbox::new();
/// outbox.push(Frame::new(Kind::Message, 0, &b"hello"[..]).with_descriptors(vec![7]))?;
///
/// let mut decoder = Decoder::new();
/// while let Some(transmit) = outbox.poll_transmit() {
///     // The smallest steps a kernel could take: one byte at a time.
///     decoder.push(&transmit.bytes()[..1], transmit.descriptors().iter().copied())?;
///     outbox.handle_sent(1);
/// }
/// let frame = decoder.poll_frame()?.expect("the whole frame arrived");
/// assert_eq!((&frame.payload()[..], frame.descriptors()), (&b"hello"[..], &[7][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder<F> {
    buffer: BytesMut,
    /// A long frame of which not everything has arrived. The buffer is empty meanwhile.
    gathering: Option<Gathering>,
    waiting: VecDeque<F>,
    max_frame: usize,
    failed: bool,
}

#[derive(Debug)]
struct Gathering {
    header: Header,
    payload: Growing,
}

impl<F> Default for Decoder<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Decoder<F> {
    /// A decoder for payloads of at most [`DEFAULT_MAX_FRAME`] bytes.
    pub fn new() -> Self {
        Self::with_max_frame(DEFAULT_MAX_FRAME)
    }

    /// A decoder for payloads of at most `max_frame` bytes.
    pub fn with_max_frame(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), gathering: None, waiting: VecDeque::new(), max_frame, failed: false }
    }

    /// Takes what one read returned. Call [`poll_frame`](Self::poll_frame) until it returns `None`
    /// before the next push, so that the buffer stays small.
    ///
    /// # Errors
    ///
    /// [`Error::DescriptorsUnclaimed`] when descriptors pile up that no frame claims; they are dropped.
    pub fn push(&mut self, bytes: &[u8], descriptors: impl IntoIterator<Item = F>) -> Result<(), Error> {
        if self.failed {
            return Err(Error::PeerGone);
        }
        self.waiting.extend(descriptors);
        let waiting = self.waiting.len();
        if waiting > MAX_WAITING {
            return self.fail(Error::DescriptorsUnclaimed { waiting });
        }
        let taken = self.gathering.as_mut().map_or(0, |gathering| gathering.payload.take_from(bytes));
        self.buffer.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Returns the next whole frame, or `None` until more bytes are pushed.
    ///
    /// A frame of an unknown kind is skipped, with its descriptors dropped, unless its sender marked it as
    /// one that must be understood.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. Final.
    pub fn poll_frame(&mut self) -> Result<Option<Frame<F>>, Error> {
        if self.failed {
            return Err(Error::PeerGone);
        }
        loop {
            let Some((header, payload)) = self.next_whole()? else { return Ok(None) };
            let claimed = usize::from(header.descriptors);
            let waiting = self.waiting.len();
            if claimed > waiting {
                return self.fail(Error::DescriptorsMissing { claimed, waiting });
            }
            let descriptors = self.waiting.drain(..claimed).collect();
            match header.kind() {
                Some(kind) => {
                    let mut frame = Frame::new(kind, header.id, payload).with_descriptors(descriptors);
                    (frame.lane, frame.flags) = (header.lane, header.message_flags());
                    return Ok(Some(frame));
                }
                None if header.must_understand() => return self.fail(Error::UnknownKind(header.kind)),
                None => {}
            }
        }
    }

    /// Whether nothing waits here for the rest of its frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.gathering.is_none() && self.waiting.is_empty()
    }

    /// The next frame, if it is all there and its header begins like `plain`: same kind and flags, no descriptors. Returns its lane and payload. The commonest case by far, without what the others need.
    pub(crate) fn poll_plain(&mut self, plain: Header) -> Option<(u8, Bytes)> {
        let header = self.buffer.first_chunk::<HEADER_LEN>().map(Header::decode)?;
        let len = header.len as usize;
        let is_plain =
            header.is_like(plain) && len <= self.max_frame && self.buffer.len() - HEADER_LEN >= len;
        if !is_plain || self.failed || self.gathering.is_some() {
            return None;
        }
        self.buffer.advance(HEADER_LEN);
        Some((header.lane, self.buffer.split_to(len).freeze()))
    }

    /// The next frame of which everything has arrived.
    fn next_whole(&mut self) -> Result<Option<(Header, Bytes)>, Error> {
        if let Some(gathering) = self.gathering.take_if(|gathering| gathering.payload.is_whole()) {
            return Ok(Some((gathering.header, gathering.payload.into_bytes())));
        }
        if self.gathering.is_some() {
            return Ok(None);
        }
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>().map(Header::decode) else {
            return Ok(None);
        };
        let len = header.len as usize;
        if len > self.max_frame {
            return self.fail(Error::FrameTooLarge { len, max: self.max_frame });
        }
        if usize::from(header.descriptors) > MAX_DESCRIPTORS {
            return self
                .fail(Error::Malformed { what: "frame: it claims more descriptors than one may carry" });
        }
        if self.buffer.len() >= header.frame_len() {
            self.buffer.advance(HEADER_LEN);
            return Ok(Some((header, self.buffer.split_to(len).freeze())));
        }
        if len > GATHER_ABOVE {
            self.buffer.advance(HEADER_LEN);
            let mut payload = Growing::new(len);
            payload.take_from(&self.buffer);
            self.buffer.clear();
            self.gathering = Some(Gathering { header, payload });
        }
        Ok(None)
    }

    fn fail<T>(&mut self, error: Error) -> Result<T, Error> {
        self.discard();
        Err(error)
    }

    /// Drops all that is held, as an error does: it is final, and descriptors must not outlive it.
    pub(crate) fn discard(&mut self) {
        self.failed = true;
        self.buffer = BytesMut::new();
        self.gathering = None;
        self.waiting = VecDeque::new();
    }
}
