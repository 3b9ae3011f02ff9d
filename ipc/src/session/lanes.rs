//! What is on its way out: two lanes over one stream.

use super::config::CHUNK;
use super::message::Payload;
use crate::frame::{Frame, HEADER_LEN, Header, IN_MEMORY, Kind, Lane, MORE};
use crate::outbox::{Outbox, Transmit};

/// Two queues and one writer: what is in the control lane goes as soon as the frame that is being written ends.
#[derive(Debug)]
pub(super) struct Lanes<F> {
    control: Outbox<F>,
    data: Outbox<F>,
    /// So much of the application's may wait in each.
    limit: usize,
    /// The lane of the last transmit.
    sending: Lane,
}

impl<F> Lanes<F> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            control: Outbox::new().limit(usize::MAX),
            data: Outbox::new().limit(limit),
            limit,
            sending: Lane::Control,
        }
    }

    /// Whether a message of the application has room. The frames of the protocol itself always have: they are few.
    pub(super) fn has_room(&self, lane: Lane, len: usize) -> bool {
        match lane {
            Lane::Control => self.control.is_empty() || self.control.len() + len <= self.limit,
            Lane::Data => self.data.has_room(len),
        }
    }

    /// Half empty rather than not quite full, so that who waits can put in more than one message.
    pub(super) fn are_roomy(&self) -> bool {
        self.data.len().max(self.control.len()) <= self.limit / 2
    }

    /// Where in the data lane what was queued last ends.
    pub(super) fn end_of_data(&self) -> u64 {
        self.data.end()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    pub(super) fn len(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control.len(),
            Lane::Data => self.data.len(),
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Outbox<F> {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
        }
    }

    /// Queues a frame of the handshake.
    pub(super) fn push_frame(&mut self, mut frame: Frame<F>) {
        let descriptors = frame.take_descriptors();
        let header = header(frame.kind(), frame.id(), frame.payload().len(), descriptors.len());
        self.control.append(header, &[frame.payload()], descriptors);
    }

    /// Queues the word that nobody waits for an answer any more. It must not overtake its request, which ends at `end` in
    /// the data lane.
    pub(super) fn push_cancel(&mut self, id: u64, end: u64) {
        if self.data.sent() >= end {
            self.push_control(Kind::Cancel, id, &[]);
        } else {
            self.data.append(header(Kind::Cancel, id, 0, 0).within(Lane::Data, 0), &[], Vec::new());
        }
    }

    /// Queues a small frame of the protocol itself.
    pub(super) fn push_control(&mut self, kind: Kind, id: u64, payload: &[&[u8]]) {
        let len = payload.iter().map(|piece| piece.len()).sum();
        self.control.append(header(kind, id, len, 0), payload, Vec::new());
    }

    /// Queues a message, cut into chunks if it is long. `head` goes before its bytes.
    pub(super) fn push_message(
        &mut self,
        lane: Lane,
        kind: Kind,
        id: u64,
        head: &[u8],
        payload: Payload<&[u8], F>,
        mut descriptors: Vec<F>,
    ) {
        match payload {
            Payload::Inline(bytes) if bytes.len() <= CHUNK => {
                let header = header(kind, id, head.len() + bytes.len(), descriptors.len());
                self.lane(lane).append(header.within(lane, 0), &[head, bytes], descriptors);
            }
            Payload::Inline(bytes) => {
                let total = (bytes.len() as u64).to_le_bytes();
                let (first, rest) = bytes.split_at(CHUNK);
                let header = header(kind, id, head.len() + total.len() + first.len(), descriptors.len());
                self.lane(lane).append(header.within(lane, MORE), &[head, &total, first], descriptors);
                self.push_chunks(lane, id, rest);
            }
            Payload::Memory { len, descriptor } => {
                descriptors.push(descriptor);
                let total = len.to_le_bytes();
                let header = header(kind, id, head.len() + total.len(), descriptors.len());
                self.lane(lane).append(header.within(lane, IN_MEMORY), &[head, &total], descriptors);
            }
        }
    }

    fn push_chunks(&mut self, lane: Lane, id: u64, rest: &[u8]) {
        let mut chunks = rest.chunks(CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            let more = if chunks.peek().is_some() { MORE } else { 0 };
            let header = header(Kind::Chunk, id, chunk.len(), 0).within(lane, more);
            self.lane(lane).append(header, &[chunk], Vec::new());
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit<'_, F>> {
        let (control, data) = (self.control.rest_of_frame(), self.data.rest_of_frame());
        // A frame that has begun must end before the other lane may go on.
        self.sending =
            if data == 0 && (control > 0 || !self.control.is_empty()) { Lane::Control } else { Lane::Data };
        match self.sending {
            Lane::Control => self.control.poll_transmit(),
            Lane::Data if data > 0 && !self.control.is_empty() => {
                self.data.poll_transmit().map(|transmit| transmit.shorten(data))
            }
            Lane::Data => self.data.poll_transmit(),
        }
    }

    pub(super) fn handle_sent(&mut self, bytes: usize) {
        self.lane(self.sending).handle_sent(bytes);
    }
}

/// The lengths are those of the callers above, which are bounded: a chunk and a head, at most 253 descriptors.
fn header(kind: Kind, id: u64, len: usize, descriptors: usize) -> Header {
    debug_assert!(len <= u32::MAX as usize - HEADER_LEN && descriptors <= usize::from(u8::MAX));
    Header::new(kind, id, len as u32, descriptors as u8)
}
