//! Messages from frames: heads read, chunks put together.

use bytes::Bytes;

use super::message::Payload;
use crate::Error;
use crate::frame::{Frame, IN_MEMORY, Kind, Lane, MORE};
use crate::growing::{Growing, Pool};

/// A message whose first frame has arrived.
#[derive(Debug)]
pub(super) struct Begun<F> {
    pub(super) kind: Kind,
    pub(super) lane: Lane,
    pub(super) id: u64,
    /// How long the sender of a request waits, in microseconds.
    pub(super) patience: u64,
    /// All of the message's bytes, those to come included.
    pub(super) len: u64,
    pub(super) descriptors: Vec<F>,
}

#[derive(Debug)]
pub(super) enum Body<F> {
    Whole(Payload<Bytes, F>),
    /// The bytes so far; the rest follows in chunks.
    Beginning(Bytes),
}

fn out_of_place(what: &'static str) -> Error {
    Error::OutOfPlace { what }
}

/// Cuts a number off the front.
fn take_number(bytes: &mut Bytes) -> Result<u64, Error> {
    let number = bytes.first_chunk().copied().ok_or(Error::Malformed { what: "message head" })?;
    drop(bytes.split_to(8));
    Ok(u64::from_le_bytes(number))
}

/// Reads the first frame of a message.
pub(super) fn begin<F>(mut frame: Frame<F>, lane: Lane) -> Result<(Begun<F>, Body<F>), Error> {
    let (kind, id, flags) = (frame.kind(), frame.id(), frame.flags);
    let mut descriptors = frame.take_descriptors();
    let mut bytes = std::mem::take(&mut frame.payload);
    let patience = if kind == Kind::Request { take_number(&mut bytes)? } else { u64::MAX };
    let (len, body) = match flags {
        0 => (bytes.len() as u64, Body::Whole(Payload::Inline(bytes))),
        MORE => {
            if lane == Lane::Control {
                return Err(out_of_place("a message of several frames in the control lane"));
            }
            let len = take_number(&mut bytes)?;
            if len <= bytes.len() as u64 {
                return Err(Error::Malformed {
                    what: "message head: it announces more, but nothing is left",
                });
            }
            (len, Body::Beginning(bytes))
        }
        IN_MEMORY => {
            let len = take_number(&mut bytes)?;
            let descriptor =
                descriptors.pop().ok_or(Error::BadMemory { reason: "its descriptor is missing" })?;
            (len, Body::Whole(Payload::Memory { len, descriptor }))
        }
        _ => return Err(out_of_place("a message both cut up and in memory")),
    };
    Ok((Begun { kind, lane, id, patience, len, descriptors }, body))
}

/// A long message on its way in. There is at most one, since chunks of two messages never mix in a lane.
#[derive(Debug)]
pub(super) struct Partial<F> {
    begun: Begun<F>,
    bytes: Growing,
}

impl<F> Partial<F> {
    /// `len` has been checked against the limits by the caller.
    pub(super) fn new(begun: Begun<F>, beginning: &Bytes, pool: &Pool) -> Self {
        let mut bytes = Growing::in_pool(usize::try_from(begun.len).unwrap_or(usize::MAX), pool);
        bytes.take_from(beginning);
        Self { begun, bytes }
    }

    /// Adds a chunk. Returns the message when it is whole, and itself while it isn't.
    pub(super) fn add(mut self, frame: &Frame<F>) -> Result<Result<(Begun<F>, Bytes), Self>, Error> {
        if frame.id() != self.begun.id || !frame.descriptors().is_empty() {
            return Err(out_of_place("a chunk of another message"));
        }
        let taken = self.bytes.take_from(frame.payload());
        let (whole, last) = (self.bytes.is_whole(), frame.flags & MORE == 0);
        if taken < frame.payload().len() || whole != last || taken == 0 {
            return Err(out_of_place("a chunk that doesn't fit its message"));
        }
        Ok(if whole { Ok((self.begun, self.bytes.into_bytes())) } else { Err(self) })
    }
}
