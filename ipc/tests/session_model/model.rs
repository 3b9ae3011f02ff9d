//! What must be true of two sessions, naively: all that was sent, in lists.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::session::{CallId, Failure, Payload, RequestId, Window};
use cluster_ipc::{Lane, MAX_DESCRIPTORS};

use crate::ops::{LARGEST, Limits};
use crate::stream::{Descriptor, Pipe, Whole, Written, numbers};
use crate::wire::CHUNK_LEN;

const VARIANTS: usize = 64 << 10;

/// Bytes that are different in each lane, since a session doesn't say by which one a message came.
fn pattern(lane: Lane) -> &'static [u8] {
    static PATTERNS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let mut state = 1u32;
        let mut random = |least: u32, most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (least + (state >> 16) % (most - least)) as u8
        };
        let mut make = |least, most| (0..VARIANTS + LARGEST).map(|_| random(least, most)).collect();
        [make(200, 256), make(0, 200)]
    });
    &patterns[usize::from(lane == Lane::Data)]
}

/// A message, as it was sent and as it must arrive.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) lane: Lane,
    pub(crate) len: usize,
    /// Which of the many messages of this length.
    pub(crate) variant: usize,
    pub(crate) descriptors: Vec<u64>,
    pub(crate) memory: Option<u64>,
}

impl Sent {
    pub(crate) fn content(&self) -> &'static [u8] {
        let at = self.variant * 997 % VARIANTS;
        &pattern(self.lane)[at..at + self.len]
    }

    pub(crate) fn cost(&self) -> Cost {
        let descriptors = self.descriptors.len() + usize::from(self.memory.is_some());
        Cost { bytes: self.len as u64, messages: 1, descriptors: descriptors as u64 }
    }

    pub(crate) fn assert_is(&self, payload: &Payload<Bytes, Descriptor>, descriptors: &[Descriptor]) {
        assert_eq!(numbers(descriptors), self.descriptors, "descriptors stay with their message");
        match (payload, self.memory) {
            (Payload::Inline(bytes), None) => {
                assert!(bytes[..] == *self.content(), "the content is what was sent");
            }
            (Payload::Memory { len, descriptor }, Some(memory)) => {
                assert_eq!((*len, descriptor.number), (self.len as u64, memory));
            }
            _ => panic!("{payload:?} is not {self:?}"),
        }
    }

    /// Whether it can never be sent to a peer with these limits.
    pub(crate) fn is_too_large(&self, peer: &Limits) -> bool {
        let most = match (self.lane, self.memory) {
            (Lane::Control, None) => CHUNK_LEN.min(peer.max_message),
            (Lane::Control, Some(_)) => 0,
            (Lane::Data, _) => peer.max_message,
        };
        let descriptors = match self.lane {
            Lane::Control => 16,
            Lane::Data => peer.window.descriptors,
        };
        let cost = self.cost();
        self.len > most || cost.descriptors > descriptors.min(MAX_DESCRIPTORS as u64)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) descriptors: u64,
}

/// What has a window of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    Control,
    Data,
    Replies,
}

/// What is on its way of these: sent, and not yet handled.
#[derive(Debug)]
pub(crate) struct Outstanding {
    window: Window,
    sum: Cost,
}

impl Outstanding {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, sum: Cost::default() }
    }

    pub(crate) fn add(&mut self, cost: Cost) {
        let before = self.sum;
        self.sum.bytes += cost.bytes;
        self.sum.messages += cost.messages;
        self.sum.descriptors += cost.descriptors;
        let alone = before == Cost::default() && cost.bytes > self.window.bytes;
        assert!(
            (self.sum.bytes <= self.window.bytes || alone)
                && self.sum.messages <= self.window.messages
                && self.sum.descriptors <= self.window.descriptors,
            "{before:?} and {cost:?} are more than {:?}",
            self.window
        );
    }

    pub(crate) fn subtract(&mut self, cost: Cost) {
        self.sum.bytes -= cost.bytes;
        self.sum.messages -= cost.messages;
        self.sum.descriptors -= cost.descriptors;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sum == Cost::default()
    }
}

/// Something in the data lane that the receiver is told of, in its place.
#[derive(Debug)]
pub(crate) enum Entry {
    Message(Sent),
    /// Which of all calls.
    Request(usize),
    Gap(u64),
    Finish,
}

/// One direction: what was sent and has not been reported at the other end.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) pipe: Pipe,
    pub(crate) written: Written,
    pub(crate) whole: Whole,
    /// Each with its place among all that was sent in the data lane.
    pub(crate) data: VecDeque<(u64, Entry)>,
    pub(crate) urgent: VecDeque<(u64, Sent)>,
    /// Urgent messages of which nothing has been written.
    pub(crate) urgent_unwritten: usize,
    sent: [u64; 2],
    /// The place of what was reported last, gaps excepted: they may be reported with an earlier one.
    reported: Option<u64>,
    outstanding: [Outstanding; 3],
}

impl Way {
    /// `window` is that of the receiver.
    pub(crate) fn new(pipe: Pipe, window: Window) -> Self {
        let control = Window { bytes: 256 << 10, messages: 256, descriptors: 16 };
        Self {
            pipe,
            written: Written::default(),
            whole: Whole::default(),
            data: VecDeque::new(),
            urgent: VecDeque::new(),
            urgent_unwritten: 0,
            sent: [0; 2],
            reported: None,
            outstanding: [control, window, window].map(Outstanding::new),
        }
    }

    pub(crate) fn outstanding(&mut self, counted: Counted) -> &mut Outstanding {
        &mut self.outstanding[counted as usize]
    }

    /// The place of the next that is sent in this lane.
    pub(crate) fn place(&mut self, lane: Lane) -> u64 {
        let sent = &mut self.sent[usize::from(lane == Lane::Data)];
        *sent += 1;
        *sent - 1
    }

    pub(crate) fn send(&mut self, entry: Entry) {
        let place = self.place(Lane::Data);
        self.data.push_back((place, entry));
    }

    /// Something of the data lane is reported: in the order in which it was sent.
    pub(crate) fn report(&mut self, place: u64) {
        assert!(self.reported.is_none_or(|reported| reported < place), "order holds within a lane");
        self.reported = Some(place);
    }

    /// The next thing in the data lane. Gaps before it have been reported, if there were any.
    pub(crate) fn next(&mut self) -> Entry {
        let (place, entry) = self.data.pop_front().expect("what is reported was sent");
        self.report(place);
        entry
    }

    /// Gaps in a row are reported as one, if nobody has looked in between.
    pub(crate) fn take_gaps(&mut self, missed: u64) {
        let mut sum = 0;
        while sum < missed {
            match self.data.pop_front() {
                Some((_, Entry::Gap(more))) => sum += more,
                other => panic!("a gap of {missed} was reported where {other:?} was sent"),
            }
        }
        assert_eq!(sum, missed);
    }

    /// After the end, or what fails because of it: all that arrived whole was reported before.
    pub(crate) fn assert_last_words_came_first(&self) {
        let data = self.data.front().map(|(place, _)| *place);
        assert!(data.is_none_or(|place| place >= self.whole.data), "{:?} had arrived", self.data.front());
        let urgent = self.urgent.front().map(|(place, _)| *place);
        assert!(
            urgent.is_none_or(|place| place >= self.whole.urgent),
            "{:?} had arrived",
            self.urgent.front()
        );
    }

    pub(crate) fn assert_done(&self) {
        assert!(self.data.is_empty() && self.urgent.is_empty(), "everything arrived: {:?}", self.data);
        assert!(self.outstanding.iter().all(Outstanding::is_empty), "everything was handled");
    }
}

/// What the peer's application said.
#[derive(Debug)]
pub(crate) enum Answered {
    /// In the data lane, at this place.
    Reply(u64, Sent),
    Failure(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Answered,
    TimedOut,
    Cancelled,
    PeerGone,
}

/// A request, from both sides.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) owner: usize,
    pub(crate) id: CallId,
    pub(crate) asked: Instant,
    pub(crate) timeout: Option<Duration>,
    pub(crate) sent: Sent,
    pub(crate) cancel_asked: bool,
    pub(crate) end: Option<End>,
    /// As the other side knows it.
    pub(crate) request: Option<RequestId>,
    pub(crate) answered: Option<Answered>,
    /// The other side knows that nobody waits any more.
    pub(crate) told: bool,
}

impl Call {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.asked + timeout)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.end, Some(End::TimedOut | End::Cancelled))
    }

    /// A reply that nobody waits for any more.
    pub(crate) fn is_late(&self) -> bool {
        self.is_abandoned() && matches!(self.answered, Some(Answered::Reply(..)))
    }

    /// Each completes once.
    pub(crate) fn complete(&mut self, end: End) {
        assert_eq!(self.end, None, "a request completes once");
        self.end = Some(end);
    }
}
