//! Frames in, bytes and descriptors to write out. No I/O.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use crate::frame::{Frame, Header, Kind, MAX_DESCRIPTORS};
use crate::{DEFAULT_MAX_FRAME, TrySendError};

/// How many bytes an outbox holds by default before it says that it is full: 4 MiB.
pub const DEFAULT_OUTBOX_LIMIT: usize = 4 << 20;

/// Frames on their way out, as one contiguous buffer.
///
/// Whatever piled up while the last write ran goes out in the next one (adaptive batching): there is no timer
/// and no delay. What may pile up is bounded; a full outbox gives the frame back.
///
/// A frame's descriptors are attached to the write that starts with the frame's first byte, and to
/// that one only: after a partial write they are not sent again. They are kept until that first byte
/// was taken by the kernel, and dropped (closed) then.
#[derive(Debug)]
pub struct Outbox<F> {
    buffer: BytesMut,
    /// Where in the stream descriptors have to go out, in order.
    attachments: VecDeque<Attachment<F>>,
    /// How many bytes have left since the beginning: positions in the stream don't move.
    sent: u64,
    /// Where in the stream the frame ends whose bytes left last: at `sent` or after it.
    frame_end: u64,
    limit: usize,
    max_frame: usize,
}

#[derive(Debug)]
struct Attachment<F> {
    at: u64,
    descriptors: Vec<F>,
}

/// What the next write has to carry. See [`Outbox::poll_transmit`].
#[derive(Debug)]
pub struct Transmit<'a, F> {
    bytes: &'a [u8],
    descriptors: &'a [F],
}

impl<F> Transmit<'_, F> {
    /// The same, of at most `len` bytes.
    pub(crate) fn shorten(self, len: usize) -> Self {
        Self { bytes: self.bytes.get(..len).unwrap_or(self.bytes), ..self }
    }

    /// The bytes to write: as many as may go out in one write.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The descriptors to attach to the first byte.
    pub fn descriptors(&self) -> &[F] {
        self.descriptors
    }
}

impl<F> Default for Outbox<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Outbox<F> {
    /// An outbox with the default limits: [`DEFAULT_OUTBOX_LIMIT`] bytes, frames of at most [`DEFAULT_MAX_FRAME`].
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            attachments: VecDeque::new(),
            sent: 0,
            frame_end: 0,
            limit: DEFAULT_OUTBOX_LIMIT,
            max_frame: DEFAULT_MAX_FRAME,
        }
    }

    /// The same outbox that is full at `bytes` instead. One frame always fits into an empty outbox.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The same outbox that takes payloads of at most `bytes` instead.
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Queues a frame.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] or [`TrySendError::TooLarge`], with the frame.
    pub fn push(&mut self, mut frame: Frame<F>) -> Result<(), TrySendError<Frame<F>>> {
        let Some(header) = self.header(frame.kind(), frame.id(), frame.payload(), frame.descriptors().len())
        else {
            return Err(TrySendError::TooLarge(frame));
        };
        if !self.has_room(header.frame_len()) {
            return Err(TrySendError::Full(frame));
        }
        let descriptors = frame.take_descriptors();
        self.append(header, &[frame.payload()], descriptors);
        Ok(())
    }

    /// Queues a frame without asking for room, which the caller has done before he had it.
    #[cfg(feature = "tokio")]
    pub(crate) fn push_last(&mut self, mut frame: Frame<F>) -> Result<(), crate::Error> {
        let (len, max) = (frame.payload().len(), self.max_frame);
        let header = self.header(frame.kind(), frame.id(), frame.payload(), frame.descriptors().len());
        let header = header.ok_or(crate::Error::FrameTooLarge { len, max })?;
        let descriptors = frame.take_descriptors();
        self.append(header, &[frame.payload()], descriptors);
        Ok(())
    }

    /// Whether `size` more bytes stay below the limit; anything fits into an empty outbox.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.is_empty() || self.buffer.len() + size <= self.limit
    }

    /// Queues a frame in pieces. The caller has asked for room and made the header fit them.
    pub(crate) fn append(&mut self, header: Header, payload: &[&[u8]], descriptors: Vec<F>) {
        if !descriptors.is_empty() {
            let at = self.sent + self.buffer.len() as u64;
            self.attachments.push_back(Attachment { at, descriptors });
        }
        self.buffer.extend_from_slice(&header.encode());
        for piece in payload {
            self.buffer.extend_from_slice(piece);
        }
    }

    /// The header of such a frame, or `None` if it is above the limits.
    pub(crate) fn header(&self, kind: Kind, id: u64, payload: &[u8], descriptors: usize) -> Option<Header> {
        if payload.len() > self.max_frame || descriptors > MAX_DESCRIPTORS {
            return None;
        }
        Some(Header::new(kind, id, u32::try_from(payload.len()).ok()?, u8::try_from(descriptors).ok()?))
    }

    /// Queues the rest of a frame whose beginning, descriptors included, has gone out already. The
    /// limit doesn't count here: the frame has to be finished.
    pub(crate) fn push_rest(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.frame_end = self.sent + self.buffer.len() as u64;
    }

    /// How many bytes have left since the beginning.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many will have left when this is empty.
    pub(crate) fn end(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    /// How many bytes of a frame that has begun to leave are still here.
    pub(crate) fn rest_of_frame(&self) -> usize {
        usize::try_from(self.frame_end - self.sent).unwrap_or(usize::MAX)
    }

    /// What the next write should carry, or `None` when nothing is waiting.
    ///
    /// A write stops before the next frame that has descriptors, so that they go out with its first byte.
    pub fn poll_transmit(&self) -> Option<Transmit<'_, F>> {
        if self.buffer.is_empty() {
            return None;
        }
        let mut ahead = self.attachments.iter();
        let mut next = ahead.next();
        let mut descriptors: &[F] = &[];
        if let Some(attachment) = next
            && attachment.at == self.sent
        {
            descriptors = &attachment.descriptors;
            next = ahead.next();
        }
        let end = next.map_or(self.buffer.len(), |attachment| {
            usize::try_from(attachment.at - self.sent).map_or(self.buffer.len(), |n| n.min(self.buffer.len()))
        });
        Some(Transmit { bytes: self.buffer.get(..end).unwrap_or_default(), descriptors })
    }

    /// Records that the kernel took `bytes` of the last [`Transmit`], which may be fewer than it had.
    pub fn handle_sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.buffer.len());
        if bytes == 0 {
            return;
        }
        if self.attachments.front().is_some_and(|attachment| attachment.at == self.sent) {
            self.attachments.pop_front();
        }
        let after = self.sent + bytes as u64;
        while self.frame_end < after {
            let ahead = usize::try_from(self.frame_end - self.sent).unwrap_or(usize::MAX);
            let header = self.buffer.get(ahead..).and_then(<[u8]>::first_chunk).map(Header::decode);
            // Frames are queued whole, so there is a header wherever one ends before `after`.
            self.frame_end += header.map_or(after - self.frame_end, |header| header.frame_len() as u64);
        }
        self.buffer.advance(bytes);
        self.sent = after;
    }

    /// Whether nothing is waiting to go out.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many bytes are waiting to go out.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HEADER_LEN;

    fn frame(payload: &'static [u8], descriptors: Vec<u32>) -> Frame<u32> {
        Frame::new(Kind::Message, 0, payload).with_descriptors(descriptors)
    }

    #[test]
    fn frames_queued_between_two_writes_leave_in_one() {
        let mut outbox = Outbox::<u32>::new();
        outbox.push(frame(b"a", vec![])).unwrap();
        outbox.push(frame(b"b", vec![])).unwrap();
        assert_eq!(outbox.poll_transmit().unwrap().bytes().len(), 2 * (HEADER_LEN + 1));
    }

    #[test]
    fn descriptors_go_out_with_the_first_byte_of_their_frame_and_never_again() {
        let mut outbox = Outbox::new();
        outbox.push(frame(b"plain", vec![])).unwrap();
        outbox.push(frame(b"carries", vec![1, 2])).unwrap();
        let first = outbox.poll_transmit().unwrap();
        assert_eq!((first.bytes().len(), first.descriptors().len()), (HEADER_LEN + 5, 0));
        outbox.handle_sent(HEADER_LEN + 5);
        assert_eq!(outbox.poll_transmit().unwrap().descriptors(), [1, 2]);
        outbox.handle_sent(0);
        assert_eq!(outbox.poll_transmit().unwrap().descriptors(), [1, 2], "nothing was taken yet");
        outbox.handle_sent(1);
        assert!(outbox.poll_transmit().unwrap().descriptors().is_empty(), "sent with the first byte");
    }

    #[test]
    fn a_full_outbox_gives_the_frame_back_with_its_descriptors() {
        let mut outbox = Outbox::new().limit(HEADER_LEN + 4);
        outbox.push(frame(b"four", vec![])).unwrap();
        let Err(TrySendError::Full(returned)) = outbox.push(frame(b"more", vec![9])) else {
            panic!("the limit was not respected");
        };
        assert_eq!(returned.descriptors(), [9]);
        outbox.handle_sent(usize::MAX);
        outbox.push(returned).unwrap();
    }

    #[test]
    fn a_frame_above_the_limits_is_refused() {
        let mut outbox = Outbox::new();
        let big = Frame::<u32>::new(Kind::Message, 0, vec![0; DEFAULT_MAX_FRAME + 1]);
        assert!(matches!(outbox.push(big), Err(TrySendError::TooLarge(_))));
        assert!(matches!(outbox.push(frame(b"", vec![0; 254])), Err(TrySendError::TooLarge(_))));
    }
}
