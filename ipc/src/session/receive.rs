//! What arrives: each frame to its place.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::assembly::{Begun, Body, Partial, begin};
use super::calls::{Answered, CallId, RequestId};
use super::credit::{Allowance, Amount, Quota};
use super::event::{Event, Opened, Outcome};
use super::message::{Failure, Incoming, Payload};
use super::{Session, State};
use crate::frame::{Frame, Header, Kind, Lane};
use crate::settings::Settings;
use crate::{Error, MAX_DESCRIPTORS, Online, Welcome};

/// How many bytes of small frames may wait for a peer that doesn't read, beyond what its open requests explain.
const CONTROL_SLACK: usize = 1 << 20;

/// The most that the answer to one request can occupy in the control lane.
const ANSWER_LEN: usize = 5 << 10;

impl<F> Session<F> {
    /// Takes what one read returned: bytes, and the descriptors that came with them.
    ///
    /// Whatever is wrong with it shows as [`Event::Closed`]; after that input is dropped.
    pub fn handle_input(&mut self, bytes: &[u8], descriptors: impl IntoIterator<Item = F>, now: Instant) {
        if self.is_closed() {
            // Descriptors are dropped, that is closed, here.
            return;
        }
        let mut result = self.decoder.push(bytes, descriptors).map(|()| true);
        while result.is_ok() && !self.is_closed() {
            result = self.take_plain_messages().and_then(|()| match self.decoder.poll_frame()? {
                Some(frame) => self.handle_frame(frame, now).map(|()| true),
                None => Ok(false),
            });
            if let Ok(false) = result {
                break;
            }
        }
        if let Err(error) = result.and_then(|_| self.check_that_the_peer_reads()) {
            self.close(error);
        }
    }

    /// The stream has ended, or the peer is known to be dead: all that it sent has been passed to
    /// [`handle_input`](Self::handle_input).
    pub fn handle_peer_gone(&mut self) {
        self.close(Error::PeerGone);
    }

    /// A peer that reads can't make more wait for it than the answers to its requests.
    fn check_that_the_peer_reads(&self) -> Result<(), Error> {
        let waiting = self.lanes.len(Lane::Control);
        let requests = usize::try_from(self.config.settings.max_requests).unwrap_or(usize::MAX);
        if waiting > CONTROL_SLACK.saturating_add(requests.saturating_mul(ANSWER_LEN)) {
            return Err(Error::NotReading { waiting });
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame<F>, now: Instant) -> Result<(), Error> {
        match (self.state, frame.kind()) {
            (State::Child { .. }, Kind::Welcome) => self.handle_welcome(frame),
            (State::Parent { .. }, Kind::Online | Kind::Reject) => {
                let online = Online::parse(&frame)?;
                self.open(*online.settings(), online.payload().clone(), Vec::new());
                Ok(())
            }
            (State::Open, kind) => self.handle_open_frame(kind, frame, now),
            _ => Err(Error::OutOfPlace { what: "the handshake is not done" }),
        }
    }

    fn handle_welcome(&mut self, mut frame: Frame<F>) -> Result<(), Error> {
        match Welcome::parse(&frame) {
            Ok(welcome) => {
                self.answer_welcome(&welcome, frame.take_descriptors());
                Ok(())
            }
            Err(error) => {
                // The peer can't read our log: it is told why. The driver writes what is queued even though
                // the session ends here.
                self.lanes.push_frame(Online::reject(&error.to_string()));
                Err(error)
            }
        }
    }

    pub(super) fn open(&mut self, peer: Settings, payload: Bytes, descriptors: Vec<F>) {
        self.peer = peer;
        self.data.ours = Allowance::new(peer.data);
        self.control.ours = Allowance::new(peer.control);
        self.replies.ours = Allowance::new(peer.data);
        self.state = State::Open;
        let schema = u32::try_from(peer.schema).unwrap_or(u32::MAX);
        self.events.push(Event::Opened(Opened { payload, descriptors, schema }));
        self.tell_writable();
        if std::mem::take(&mut self.finished) {
            self.finish();
        }
    }

    fn handle_open_frame(&mut self, kind: Kind, frame: Frame<F>, now: Instant) -> Result<(), Error> {
        let lane = Lane::from_wire(frame.lane).ok_or(Error::OutOfPlace { what: "there are two lanes" })?;
        if self.partial.is_some() && lane == Lane::Data && kind != Kind::Chunk {
            return Err(Error::OutOfPlace { what: "another message between the chunks of one" });
        }
        if frame.flags & !kind.message_flags() != 0 {
            return Err(Error::OutOfPlace { what: "a flag that is not known there" });
        }
        match kind {
            Kind::Message | Kind::Request | Kind::Reply => self.begin_message(frame, lane, now),
            Kind::Chunk if lane == Lane::Control => {
                Err(Error::OutOfPlace { what: "a message of several frames in the control lane" })
            }
            Kind::Chunk => self.handle_chunk(&frame, now),
            Kind::Gap if self.peer_finished => {
                Err(Error::OutOfPlace { what: "a gap after the end of messages" })
            }
            Kind::Gap => {
                let amount = Amount::message(0, 0);
                let credit = self.credit(Quota::of(kind, lane));
                credit.theirs.receive(amount)?;
                // Nobody handles a gap but us.
                credit.theirs.release(amount);
                self.push_gap(frame.id());
                Ok(())
            }
            Kind::Finish if self.peer_finished => Err(Error::OutOfPlace { what: "a second end of messages" }),
            Kind::Finish => {
                self.peer_finished = true;
                self.events.push(Event::Finished);
                Ok(())
            }
            Kind::Failure => {
                let failure =
                    Failure::decode(frame.payload()).ok_or(Error::Malformed { what: "failed request" })?;
                self.complete(CallId::from_wire(frame.id()), Outcome::Failed(failure))
            }
            Kind::Credit | Kind::Blocked => self.handle_credit(kind, &frame),
            Kind::Cancel => {
                let id = RequestId(frame.id());
                if self.requests.cancel(id) {
                    self.events.push(Event::Cancelled(id));
                }
                Ok(())
            }
            Kind::Welcome | Kind::Online | Kind::Reject => {
                Err(Error::OutOfPlace { what: "the handshake is done" })
            }
        }
    }

    /// Gaps in a row are one gap, so that a peer can't make them pile up here.
    fn push_gap(&mut self, more: u64) {
        if !self.events.widen_gap(more) {
            self.events.push(Event::Gap { missed: more });
        }
    }

    fn handle_credit(&mut self, kind: Kind, frame: &Frame<F>) -> Result<(), Error> {
        let read = || {
            let quota = Quota::from_wire(frame.id())?;
            Some((quota, Amount::decode(frame.payload())?))
        };
        let (quota, amount) = read().ok_or(Error::Malformed { what: "credit" })?;
        let credit = self.credit(quota);
        if kind == Kind::Blocked {
            credit.theirs.handle_blocked(amount);
        } else if credit.ours.handle_credit(amount) {
            self.tell_writable();
        }
        Ok(())
    }

    fn begin_message(&mut self, frame: Frame<F>, lane: Lane, now: Instant) -> Result<(), Error> {
        if self.peer_finished && frame.kind() != Kind::Reply {
            return Err(Error::OutOfPlace { what: "a message after the end of messages" });
        }
        let (begun, body) = begin(frame, lane)?;
        self.check_length(begun.len)?;
        let attached =
            begun.descriptors.len() + usize::from(matches!(body, Body::Whole(Payload::Memory { .. })));
        debug_assert!(attached <= MAX_DESCRIPTORS);
        let quota = Quota::of(begun.kind, lane);
        self.credit(quota).theirs.receive(Amount::message(begun.len, attached))?;
        match body {
            Body::Whole(payload) => self.deliver(begun, payload, now),
            Body::Beginning(bytes) => {
                self.partial = Some(Partial::new(begun, &bytes, &self.pool));
                Ok(())
            }
        }
    }

    /// The commonest case, messages of one frame without descriptors, without what the others need. Leaves anything
    /// unusual to the others.
    fn take_plain_messages(&mut self) -> Result<(), Error> {
        let plain = Header::new(Kind::Message, 0, 0, 0);
        if self.state != State::Open || self.partial.is_some() || self.peer_finished {
            return Ok(());
        }
        while let Some((lane, bytes)) = self.decoder.poll_plain(plain) {
            let lane = Lane::from_wire(lane).ok_or(Error::OutOfPlace { what: "there are two lanes" })?;
            // A frame may be longer than the longest message.
            self.check_length(bytes.len() as u64)?;
            let quota = Quota::of(Kind::Message, lane);
            self.credit(quota).theirs.receive(Amount::message(bytes.len() as u64, 0))?;
            self.events.push_message(Incoming {
                payload: Payload::Inline(bytes),
                descriptors: Vec::new(),
                quota,
            });
        }
        Ok(())
    }

    fn check_length(&self, len: u64) -> Result<(), Error> {
        let max = self.config.settings.max_message;
        if len > max {
            let bounded = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            return Err(Error::FrameTooLarge { len: bounded(len), max: bounded(max) });
        }
        Ok(())
    }

    fn handle_chunk(&mut self, frame: &Frame<F>, now: Instant) -> Result<(), Error> {
        let partial = self.partial.take().ok_or(Error::OutOfPlace { what: "a chunk of no message" })?;
        match partial.add(frame)? {
            Ok((begun, bytes)) => self.deliver(begun, Payload::Inline(bytes), now),
            Err(partial) => {
                self.partial = Some(partial);
                Ok(())
            }
        }
    }

    fn deliver(&mut self, begun: Begun<F>, payload: Payload<Bytes, F>, now: Instant) -> Result<(), Error> {
        let Begun { kind, lane, id, patience, descriptors, .. } = begun;
        let message = Incoming { payload, descriptors, quota: Quota::of(kind, lane) };
        match kind {
            Kind::Request => {
                let id = RequestId(id);
                if self.requests.len() as u64 >= self.config.settings.max_requests {
                    return Err(Error::CreditExceeded { what: "requests" });
                }
                if !self.requests.begin(id) {
                    return Err(Error::OutOfPlace { what: "a request with the id of an open one" });
                }
                let deadline = match patience {
                    u64::MAX => None,
                    micros => now.checked_add(Duration::from_micros(micros)),
                };
                self.events.push(Event::Request { id, deadline, message });
                Ok(())
            }
            Kind::Reply => self.complete(CallId::from_wire(id), Outcome::Reply(message)),
            _ => {
                self.events.push(Event::Message(message));
                Ok(())
            }
        }
    }

    /// Ends a request of this side. What nobody waits for is dropped here, with its descriptors.
    fn complete(&mut self, id: CallId, outcome: Outcome<Incoming<F>>) -> Result<(), Error> {
        let answered = self.calls.answer(id);
        match answered {
            Answered::Waiting => self.events.push(Event::Completed(id, outcome)),
            Answered::Late => {
                if let Outcome::Reply(message) = outcome {
                    self.late_replies += 1;
                    let (.., charge) = message.into_parts();
                    self.handled(charge);
                }
            }
            Answered::Unknown => return Err(Error::OutOfPlace { what: "an answer to no request" }),
        }
        self.tell_writable();
        Ok(())
    }
}
