//! What is fuzzed, and what must hold whatever the input.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use cluster_ipc::codec::{Decode, Postcard};
use cluster_ipc::session::{Config, Event, Failure, Payload, RequestId, Session, Window};
use cluster_ipc::{Decoder, Error, Frame, Kind, Lane, Online, Welcome};
use serde::Deserialize;

use crate::reads::{Descriptor, Kernel, Read, parse};

/// The limit of the decoder under test.
pub(crate) const MAX_FRAME: usize = 64 << 10;

/// What a decoder occupies besides the longest frame: what one read may leave in its buffer, which is at most doubled, and
/// the descriptors that wait.
const DECODER_CONSTANT: usize = 200 << 10;

/// What a session may occupy with the limits of [`limits`]: the longest frame of a handshake (1 MiB), what waits for a
/// peer that doesn't read (1 MiB, at most doubled by a growing buffer), the memory kept for large messages
/// (2 MiB), its windows and buffers (less than 1 MiB).
const SESSION_BOUND: usize = 7 << 20;

/// A cut of the stream into reads decides nothing but when frames come; descriptors stay with their frame, or are dropped.
pub(crate) fn decoder(input: &[u8]) {
    let reads = parse(input);
    let longest = reads.iter().map(|read| read.bytes.len()).max().unwrap_or_default();
    let mut frames = None;
    let used = measure(|| {
        let mut digest = Digest::default();
        let result = decode(&reads, |frame| digest.add(&frame));
        frames = Some((result, digest));
    });
    let bound = MAX_FRAME + DECODER_CONSTANT + 2 * longest;
    assert!(used.bytes_max as usize <= bound, "{} bytes were allocated, not {bound} at most", used.bytes_max);
    let Some((Ok(()), digest)) = frames else { return };
    // What the kernel may do as well: return in one read what it returned in several. It never mixes the descriptors of
    // two writes, so neither does this.
    let mut merged = Digest::default();
    match decode(&merge(&reads), |frame| merged.add(&frame)) {
        // Who sends more than anybody claims may be caught sooner.
        Err(Error::DescriptorsUnclaimed { .. }) => return,
        result => result.expect("it was right in smaller pieces"),
    }
    assert_eq!(merged, digest, "the cut changes what arrives");
}

/// What has come of a stream, without keeping the frames: memory is being counted.
#[derive(Debug, Default, PartialEq)]
struct Digest {
    frames: usize,
    sum: u64,
}

impl Digest {
    fn add(&mut self, frame: &Frame<Descriptor>) {
        self.frames += 1;
        let mut mix = |value: u64| {
            self.sum = (self.sum ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
        };
        mix(frame.id());
        mix(frame.payload().len() as u64);
        frame.payload().iter().for_each(|byte| mix(u64::from(*byte)));
        frame.descriptors().iter().for_each(|descriptor| mix(u64::from(descriptor.number)));
    }
}

fn decode(reads: &[Read], mut each: impl FnMut(Frame<Descriptor>)) -> Result<(), Error> {
    let mut kernel = Kernel::default();
    let mut decoder = Decoder::with_max_frame(MAX_FRAME);
    let result = reads.iter().try_for_each(|read| {
        decoder.push(&read.bytes, kernel.descriptors(read.descriptors))?;
        while let Some(frame) = decoder.poll_frame()? {
            each(frame);
        }
        Ok(())
    });
    if result.is_err() {
        assert_eq!(kernel.open(), 0, "an error drops all descriptors");
        let more = decoder.push(b"more", kernel.descriptors(1));
        assert!(matches!(more, Err(Error::PeerGone)), "an error is final");
        assert!(matches!(decoder.poll_frame(), Err(Error::PeerGone)), "an error is final");
    }
    drop(decoder);
    assert_eq!(kernel.open(), 0, "all descriptors were delivered or dropped");
    result
}

/// Puts reads together that the kernel might have put together: up to one that brings descriptors.
fn merge(reads: &[Read]) -> Vec<Read> {
    let mut merged: Vec<Read> = Vec::new();
    for read in reads {
        match merged.last_mut() {
            Some(last) if last.descriptors == 0 && last.bytes.len() + read.bytes.len() < 1 << 16 => {
                last.bytes.extend(&read.bytes);
                last.descriptors = read.descriptors;
            }
            _ => merged.push(read.clone()),
        }
    }
    merged
}

fn limits() -> Config {
    Config::new()
        .max_message(64 << 10)
        .max_requests(8)
        .window(Window { bytes: 32 << 10, messages: 32, descriptors: 16 })
        .outbox(64 << 10)
}

/// One side of a conversation, whatever the other says. The first byte of the input chooses which side, whether the
/// handshake has been done, and how its application behaves.
pub(crate) fn session(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let reads = parse(input);
    let longest = reads.iter().map(|read| read.bytes.len()).max().unwrap_or_default();
    let used = measure(|| {
        let mut kernel = Kernel::default();
        Victim::new(*mode, &mut kernel).live(&reads, &mut kernel);
        assert_eq!(kernel.open(), 0, "all descriptors were delivered or dropped");
    });
    let bound = SESSION_BOUND + 2 * longest;
    assert!(used.bytes_max as usize <= bound, "{} bytes were allocated, not {bound} at most", used.bytes_max);
}

struct Victim {
    session: Session<Descriptor>,
    now: Instant,
    /// It handles what arrives at once, or never.
    handles: bool,
    /// It answers at once, or never.
    answers: bool,
    /// It asks and sends, or only listens.
    talks: bool,
    /// The peer reads what is said to it, or doesn't.
    heard: bool,
    open: HashSet<RequestId>,
    asked: HashSet<RequestId>,
    closed: bool,
}

impl Victim {
    fn new(mode: u8, kernel: &mut Kernel) -> Self {
        let now = Instant::now();
        let is = |bit: u8| mode & (1 << bit) != 0;
        let mut session = match is(0) {
            true => Session::parent(limits(), b"greeting", kernel.descriptors(1), now),
            false => Session::child(limits(), b"greeting", now),
        };
        if is(1) {
            let mut peer = match is(0) {
                true => Session::child(limits(), b"greeting", now),
                false => Session::parent(limits(), b"greeting", Vec::new(), now),
            };
            for _ in 0..2 {
                carry(&mut peer, &mut session, kernel, now);
                carry(&mut session, &mut peer, kernel, now);
            }
            assert!(session.is_open());
        }
        Self {
            session,
            now,
            handles: is(2),
            answers: is(3),
            talks: is(4),
            heard: !is(5),
            open: HashSet::new(),
            asked: HashSet::new(),
            closed: false,
        }
    }

    fn live(mut self, reads: &[Read], kernel: &mut Kernel) {
        for read in reads {
            self.session.handle_input(&read.bytes, kernel.descriptors(read.descriptors), self.now);
            self.events();
            if self.talks && !self.session.is_closed() {
                self.talk();
            }
            while let Some(transmit) = self.session.poll_transmit() {
                if !self.heard {
                    break;
                }
                let len = transmit.bytes().len();
                self.session.handle_sent(len);
            }
            self.now += Duration::from_millis(100);
            self.session.handle_timeout(self.now);
            self.events();
        }
        self.session.handle_peer_gone();
        self.events();
        assert!(self.closed, "the end is reported");
        assert!(self.session.poll_timeout().is_none(), "nothing happens after it");
    }

    fn talk(&mut self) {
        // Whatever becomes of it.
        self.session.send(Lane::Data, Payload::Inline(&[1; 100]), Vec::new()).ok();
        self.session.send(Lane::Control, Payload::Inline(&[2; 10]), Vec::new()).ok();
        let timeout = Some(Duration::from_millis(250));
        if let Ok(id) = self.session.request(Payload::Inline(b"?"), Vec::new(), timeout, self.now)
            && self.now.elapsed().is_zero()
        {
            self.session.cancel(id);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "nothing is reported after the end");
            match event {
                Event::Message(message) => {
                    let (.., charge) = message.into_parts();
                    if self.handles {
                        self.session.handled(charge);
                    }
                }
                Event::Request { id, message, .. } => {
                    let (.., charge) = message.into_parts();
                    self.session.handled(charge);
                    assert!(self.open.insert(id), "one id, one request");
                    self.asked.insert(id);
                    if self.answers {
                        self.answer(id);
                    }
                }
                // It may have been answered by now.
                Event::Cancelled(id) => assert!(self.asked.contains(&id), "what was asked is cancelled"),
                Event::Closed(_) => self.closed = true,
                _ => {}
            }
        }
        assert!(self.open.len() <= 8 || self.answers, "no more requests are open than allowed");
    }

    fn answer(&mut self, id: RequestId) {
        if self.session.respond(id, Payload::Inline(&[3; 1000]), Vec::new()).is_err() {
            self.session.fail(id, &Failure::Refused { reason: "busy".to_owned() });
        }
        self.open.remove(&id);
    }
}

fn carry(from: &mut Session<Descriptor>, to: &mut Session<Descriptor>, kernel: &mut Kernel, now: Instant) {
    while let Some(transmit) = from.poll_transmit() {
        let len = transmit.bytes().len();
        let descriptors = kernel.descriptors(transmit.descriptors().len() as u8);
        to.handle_input(transmit.bytes(), descriptors, now);
        from.handle_sent(len);
    }
}

/// The payloads of a handshake.
pub(crate) fn handshake(input: &[u8]) {
    let used = measure(|| {
        for kind in [Kind::Welcome, Kind::Online, Kind::Reject, Kind::Message] {
            let frame = Frame::<u32>::new(kind, 0, input.to_vec());
            if let Ok(welcome) = Welcome::parse(&frame) {
                assert!(kind == Kind::Welcome && input.ends_with(welcome.payload()));
            }
            if let Ok(online) = Online::parse(&frame) {
                assert!(kind == Kind::Online && input.ends_with(online.payload()));
            }
        }
        Welcome::begins(input);
    });
    // Of the reason of a rejection 4 KiB are read, in which each wrong byte becomes three while a string grows.
    let bound = 40_000 + 2 * input.len();
    assert!(used.bytes_max as usize <= bound, "{} bytes were allocated", used.bytes_max);
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is decoded, and that is all")]
enum Word {
    Nothing,
    Number(i64),
    Text(String),
    List(Vec<u64>),
    Map(BTreeMap<u16, Option<String>>),
    Many { first: Vec<Self>, second: [u8; 4], third: char },
}

/// Messages of an application, as somebody else may encode them.
pub(crate) fn typed(input: &[u8]) {
    // A number of one byte becomes one of eight, and serde gives as much room at first as it believes, 1 MiB at most.
    let bound = (2 << 20) + 200 * input.len();
    let used = measure(|| drop(<Postcard as Decode<Vec<Word>>>::decode(input.to_vec().into())));
    assert!(used.bytes_max as usize <= bound, "{} bytes were allocated", used.bytes_max);
}
