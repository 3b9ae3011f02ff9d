//! Frames made by hand, and a session that has to live with a peer that makes them.

use std::time::{Duration, Instant};

use cluster_ipc::session::{Config, Event, Failure, Incoming, Outcome, Payload, Session};
use cluster_ipc::{Error, HEADER_LEN, Lane};

pub(crate) use crate::frames::{
    BLOCKED, CANCEL, CHUNK, CREDIT, FAILURE, FINISH, GAP, IN_MEMORY, MESSAGE, MORE, MUST_UNDERSTAND, ONLINE,
    REJECT, REPLY, REQUEST, RawFrame as Raw, WELCOME,
};

/// The most bytes of a message that an honest session puts into one frame.
pub(crate) const CHUNK_LEN: usize = 16 << 10;

/// A frame in the lane where its kind belongs.
pub(crate) fn raw(kind: u8, payload: impl Into<Vec<u8>>) -> Raw {
    let lane = u8::from((MESSAGE..=FINISH).contains(&kind));
    Raw { kind, flags: MUST_UNDERSTAND, descriptors: 0, lane, id: 0, payload: payload.into() }
}

/// Cuts a stream into the frames that begin in it.
pub(crate) fn frames(mut stream: &[u8]) -> Vec<Raw> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() {
        let len = u32::from_le_bytes(*header.first_chunk().unwrap()) as usize;
        let [kind, flags, descriptors, lane] = header[4..8] else { unreachable!() };
        let id = u64::from_le_bytes(*header.last_chunk().unwrap());
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        frames.push(Raw { kind, flags, descriptors, lane, id, payload: payload.to_vec() });
        stream = rest;
    }
    frames
}

/// Three numbers: bytes, messages, descriptors.
pub(crate) fn amount(bytes: u64, messages: u64, descriptors: u64) -> Vec<u8> {
    [bytes, messages, descriptors].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A request with all the time there is.
pub(crate) fn patient(payload: &[u8]) -> Vec<u8> {
    [&u64::MAX.to_le_bytes(), payload].concat()
}

/// The first frame of a long message.
pub(crate) fn beginning(total: u64, payload: &[u8]) -> Raw {
    raw(MESSAGE, [&total.to_le_bytes(), payload].concat()).adding(MORE)
}

#[allow(clippy::disallowed_methods, reason = "where the time that these tests move by hand begins")]
pub(crate) fn beginning_of_time() -> Instant {
    Instant::now()
}

/// What a session reported, in a form that can be compared and read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Opened(Vec<u8>),
    Message(Vec<u8>),
    Request(Vec<u8>),
    Cancelled,
    Completed(&'static str),
    Gap(u64),
    Writable,
    Finished,
    Closed,
}

fn bytes(message: Incoming<u32>) -> Vec<u8> {
    match message.into_parts().0 {
        Payload::Inline(bytes) => bytes.to_vec(),
        Payload::Memory { len, .. } => format!("memory of {len}").into_bytes(),
    }
}

pub(crate) fn told(event: Event<Incoming<u32>, u32>) -> Told {
    match event {
        Event::Opened(opened) => Told::Opened(opened.payload().to_vec()),
        Event::Message(message) => Told::Message(bytes(message)),
        Event::Request { message, .. } => Told::Request(bytes(message)),
        Event::Cancelled(_) => Told::Cancelled,
        Event::Completed(_, Outcome::Reply(_)) => Told::Completed("reply"),
        Event::Completed(_, Outcome::Failed(Failure::Unanswered)) => Told::Completed("unanswered"),
        Event::Completed(_, Outcome::Failed(_)) => Told::Completed("failed"),
        Event::Completed(_, Outcome::TimedOut) => Told::Completed("timed out"),
        Event::Completed(_, Outcome::Cancelled) => Told::Completed("cancelled"),
        Event::Completed(_, Outcome::PeerGone) => Told::Completed("peer gone"),
        Event::Gap { missed } => Told::Gap(missed),
        Event::Writable => Told::Writable,
        Event::Finished => Told::Finished,
        Event::Closed(_) => Told::Closed,
        other => panic!("what is {other:?}?"),
    }
}

/// A session whose peer is the test.
#[derive(Debug)]
pub(crate) struct Lone {
    pub(crate) session: Session<u32>,
    pub(crate) now: Instant,
}

impl Lone {
    /// A child that has been welcomed by a parent with these limits.
    pub(crate) fn child(config: Config, peer: Config) -> Self {
        let now = beginning_of_time();
        let mut parent = Self { session: Session::parent(peer, b"", vec![], now), now };
        let mut child = Self { session: Session::child(config, b"", now), now };
        child.hears(&parent.says_bytes());
        assert_eq!(child.told(), [Told::Opened(vec![])]);
        assert_eq!(child.says().len(), 1, "a child answers the Welcome and then waits");
        child
    }

    /// A parent whose child has answered, with the default limits.
    pub(crate) fn parent(config: Config) -> Self {
        let now = beginning_of_time();
        let mut parent = Self { session: Session::parent(config, b"", vec![], now), now };
        let mut child = Self { session: Session::child(Config::new(), b"", now), now };
        child.hears(&parent.says_bytes());
        parent.hears(&child.says_bytes());
        assert_eq!(parent.told(), [Told::Opened(vec![])]);
        parent
    }

    pub(crate) fn default() -> Self {
        Self::child(Config::new(), Config::new())
    }

    pub(crate) fn hears(&mut self, bytes: &[u8]) {
        self.session.handle_input(bytes, [], self.now);
    }

    pub(crate) fn gets(&mut self, frame: &Raw) {
        self.hears(&frame.bytes());
    }

    pub(crate) fn gets_with(&mut self, frame: &Raw, descriptors: impl IntoIterator<Item = u32>) {
        self.session.handle_input(&frame.bytes(), descriptors, self.now);
    }

    /// All that it writes.
    pub(crate) fn says_bytes(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        while let Some(transmit) = self.session.poll_transmit() {
            let len = transmit.bytes().len();
            stream.extend(transmit.bytes());
            self.session.handle_sent(len);
        }
        stream
    }

    pub(crate) fn says(&mut self) -> Vec<Raw> {
        frames(&self.says_bytes())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.session.send(Lane::Data, Payload::Inline(bytes), vec![]).expect("there is credit");
    }

    pub(crate) fn next_message(&mut self) -> Incoming<u32> {
        match self.session.poll_event() {
            Some(Event::Message(message)) => message,
            other => panic!("{other:?} is no message"),
        }
    }

    pub(crate) fn told(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.session.poll_event()).map(told).collect()
    }

    /// Why it ended. Everything else that it reported is dropped.
    pub(crate) fn ended(&mut self) -> Error {
        let mut events = std::iter::from_fn(|| self.session.poll_event());
        let error = events.find_map(|event| match event {
            Event::Closed(error) => Some(error),
            _ => None,
        });
        assert!(events.next().is_none(), "nothing comes after the end");
        error.expect("the session has ended")
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        assert!(self.session.poll_timeout().is_none_or(|next| next > self.now), "it was handled");
    }
}

/// Moves what `from` has to say. `false` if that is nothing.
pub(crate) fn pass(from: &mut Lone, to: &mut Lone) -> bool {
    let mut moved = false;
    while let Some(transmit) = from.session.poll_transmit() {
        let len = transmit.bytes().len();
        to.session.handle_input(transmit.bytes(), transmit.descriptors().iter().copied(), to.now);
        from.session.handle_sent(len);
        moved = true;
    }
    moved
}

/// Moves everything both ways until nothing moves any more; what is reported stays to be polled.
///
/// The number of rounds is bounded: two sessions whose applications do nothing must fall silent.
pub(crate) fn carry(one: &mut Lone, other: &mut Lone) {
    for _ in 0..1000 {
        let moved = pass(one, other);
        if !(pass(other, one) || moved) {
            return;
        }
    }
    panic!("they never fall silent");
}

/// Two sessions that have met.
pub(crate) fn pair(parent: Config, child: Config) -> (Lone, Lone) {
    let now = beginning_of_time();
    let mut parent = Lone { session: Session::parent(parent, b"", vec![], now), now };
    let mut child = Lone { session: Session::child(child, b"", now), now };
    carry(&mut parent, &mut child);
    assert_eq!((parent.told(), child.told()), (vec![Told::Opened(vec![])], vec![Told::Opened(vec![])]));
    (parent, child)
}
