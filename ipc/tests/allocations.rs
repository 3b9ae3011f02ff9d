//! What is allocated: nothing per message in steady state on the raw path, and never more than the stated bounds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "a session wants to know the time")]

use std::time::Instant;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Event, Payload, Session, Window};
use cluster_ipc::{Connection, Decoder, Frame, HEADER_LEN, Lane, Outbox, Read};

/// So many messages before memory is counted: buffers have found their size by then, which takes more than one round
/// of credit.
const WARM_UP: usize = 20_000;

/// So many while it is counted.
const MESSAGES: usize = 20_000;

/// Up to a chunk: what goes in one frame.
const LENGTHS: [usize; 4] = [0, 64, 1000, 16 << 10];

fn assert_nothing_is_allocated(what: &str, mut exchange: impl FnMut(usize)) {
    exchange(WARM_UP);
    let used = measure(|| exchange(MESSAGES));
    assert_eq!(used.count_total, 0, "{what}: {MESSAGES} messages took {used:?}");
}

/// Moves what one session has to say to the other, as much at a time as one read takes. `to` looks at it then.
fn carry_and(
    from: &mut Session<u32>,
    to: &mut Session<u32>,
    now: Instant,
    mut look: impl FnMut(&mut Session<u32>),
) {
    while let Some(transmit) = from.poll_transmit() {
        let len = transmit.bytes().len().min(64 << 10);
        to.handle_input(&transmit.bytes()[..len], transmit.descriptors().iter().copied(), now);
        from.handle_sent(len);
        look(to);
    }
}

fn carry(from: &mut Session<u32>, to: &mut Session<u32>, now: Instant) {
    carry_and(from, to, now, |_| {});
}

fn open_pair(config: Config) -> (Session<u32>, Session<u32>) {
    let now = Instant::now();
    let mut parent = Session::parent(config, b"", vec![], now);
    let mut child = Session::child(config, b"", now);
    carry(&mut parent, &mut child, now);
    carry(&mut child, &mut parent, now);
    assert!(matches!(parent.poll_event(), Some(Event::Opened(_))));
    assert!(matches!(child.poll_event(), Some(Event::Opened(_))));
    (parent, child)
}

#[test]
fn a_session_allocates_nothing_per_message() {
    let now = Instant::now();
    for len in LENGTHS {
        let (mut one, mut other) = open_pair(Config::new());
        let bytes = vec![7; len];
        // One at a time, and several in one write.
        for batch in [1, 8] {
            assert_nothing_is_allocated(&format!("{len} bytes, {batch} at a time"), |messages| {
                for _ in 0..messages / batch {
                    for _ in 0..batch {
                        one.send(Lane::Data, Payload::Inline(&bytes), Vec::new()).unwrap();
                    }
                    carry_and(&mut one, &mut other, now, |other| {
                        while let Some(Event::Message(message)) = other.poll_event() {
                            other.handled(message.into_parts().2);
                        }
                    });
                    carry(&mut other, &mut one, now);
                }
            });
        }
    }
}

#[test]
fn a_session_allocates_nothing_per_request_but_its_place() {
    let now = Instant::now();
    let (mut one, mut other) = open_pair(Config::new());
    assert_nothing_is_allocated("requests and replies", |messages| {
        for _ in 0..messages {
            one.request(Payload::Inline(b"question"), Vec::new(), None, now).unwrap();
            carry(&mut one, &mut other, now);
            let Some(Event::Request { id, message, .. }) = other.poll_event() else { panic!("a request") };
            other.handled(message.into_parts().2);
            other.respond(id, Payload::Inline(b"answer"), Vec::new()).unwrap();
            carry(&mut other, &mut one, now);
            let Some(Event::Completed(_, outcome)) = one.poll_event() else { panic!("an answer") };
            let cluster_ipc::session::Outcome::Reply(message) = outcome else { panic!("a reply") };
            one.handled(message.into_parts().2);
            carry(&mut one, &mut other, now);
        }
    });
}

#[test]
fn a_connection_allocates_nothing_per_message() {
    let now = Instant::now();
    let (mut one, mut other) = Connection::pair(Config::new()).unwrap();
    while other.read(now) == Read::Some {}
    other.flush(now);
    while one.read(now) == Read::Some {}
    assert!(matches!(one.poll_event(), Some(Event::Opened(_))));
    assert!(matches!(other.poll_event(), Some(Event::Opened(_))));
    for len in LENGTHS {
        let bytes = vec![7; len];
        assert_nothing_is_allocated(&format!("{len} bytes"), |messages| {
            for _ in 0..messages {
                one.send(Lane::Data, &bytes, Vec::new()).unwrap();
                assert!(one.flush(now));
                while other.read(now) == Read::Some {}
                let Some(Event::Message(message)) = other.poll_event() else { panic!("a message") };
                other.handled(message.into_parts().2);
                other.flush(now);
                while one.read(now) == Read::Some {}
            }
        });
    }
}

#[test]
fn blocking_ends_allocate_nothing_per_message() {
    for len in LENGTHS {
        let (one, other) = Endpoint::pair(Config::new()).unwrap();
        let (sender, _keep): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = one.split();
        let (_sends_nothing, mut receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = other.split();
        let bytes = vec![7; len];
        // Both ends in this thread: only what it allocates is counted. The handshake goes by while nobody waits.
        std::thread::scope(|scope| {
            let first = scope.spawn(|| sender.send(&bytes));
            assert_eq!(receiver.recv().unwrap().unwrap().len(), len);
            first.join().unwrap().unwrap();
        });
        assert_nothing_is_allocated(&format!("{len} bytes"), |messages| {
            for _ in 0..messages {
                sender.send(&bytes).unwrap();
                let message = receiver.recv_raw().unwrap().unwrap();
                assert_eq!(message.bytes().len(), len);
            }
        });
    }
}

fn stream_of(frame: Frame<u32>) -> Vec<u8> {
    let mut outbox = Outbox::new();
    outbox.push(frame).unwrap();
    outbox.poll_transmit().unwrap().bytes().to_vec()
}

/// Feeds a stream to a decoder in reads of `step` bytes and keeps what comes out only as long as it is looked at.
fn decode(max_frame: usize, stream: &[u8], step: usize) -> AllocationInfo {
    measure(|| {
        let mut decoder = Decoder::<u32>::with_max_frame(max_frame);
        for read in stream.chunks(step) {
            if decoder.push(read, []).is_err() {
                return;
            }
            while let Ok(Some(frame)) = decoder.poll_frame() {
                assert!(frame.payload().len() <= max_frame);
            }
        }
    })
}

/// What a decoder occupies besides one frame: twice what a read brings, and room for descriptors.
fn constant(step: usize) -> usize {
    (2 * step).max(64 << 10) + (16 << 10)
}

#[test]
fn a_decoder_allocates_one_frame_and_a_constant() {
    let longest = stream_of(Frame::new(cluster_ipc::Kind::Message, 0, vec![0; 1 << 20]));
    for max_frame in [0, 1000, 20 << 10, 60_000, 1 << 20] {
        let fitting = &longest[HEADER_LEN..][..max_frame];
        let fitting = stream_of(Frame::new(cluster_ipc::Kind::Message, 0, fitting.to_vec())).repeat(3);
        for stream in [&fitting, &longest, &vec![0xff; 300_000], &vec![0; 300_000]] {
            for step in [1, 17, 4096, 64 << 10] {
                // Byte by byte through a megabyte, thrice, is only slow.
                let stream = &stream[..stream.len().min(step * 70_000)];
                let used = decode(max_frame, stream, step);
                let bound = max_frame + constant(step);
                assert!(
                    used.bytes_max as usize <= bound,
                    "frames of {max_frame}, reads of {step}: {used:?}, not {bound} at most"
                );
            }
        }
    }
}

#[test]
fn a_header_that_announces_much_allocates_nothing() {
    let mut header = u32::MAX.to_le_bytes().to_vec();
    header.extend([16, 1, 0, 1]);
    header.extend([0; 8]);
    for len in [64 << 20, 1 << 30] {
        header[..4].copy_from_slice(&u32::to_le_bytes(len));
        let used = decode(u32::MAX as usize, &header, header.len());
        assert!(used.bytes_max < 4096, "{used:?} for a header");
    }
}

/// While it grows, what has arrived is there twice.
#[test]
fn a_long_frame_grows_with_what_has_arrived() {
    let stream = stream_of(Frame::new(cluster_ipc::Kind::Message, 0, vec![0; 1 << 20]));
    for arrived in [1000, 100_000, 1 << 20] {
        let mut stream = stream[..arrived].to_vec();
        stream[..4].copy_from_slice(&u32::to_le_bytes(1 << 30));
        let used = decode(1 << 30, &stream, 64 << 10);
        let bound = 2 * arrived + (1 << 20) + constant(64 << 10);
        assert!(used.bytes_max as usize <= bound, "{arrived} bytes arrived, {used:?}");
    }
}

/// A peer that fills its windows with whatever it likes, and is never handled.
#[test]
fn a_session_allocates_its_windows_and_a_constant() {
    let window = Window { bytes: 300_000, messages: 1000, descriptors: 16 };
    let limits = Config::new().window(window).max_message(100_000).max_requests(10);
    let (mut one, mut other) = open_pair(limits);
    let now = Instant::now();
    let mut streams = Vec::new();
    for len in [16 << 10, 100_000, 300, 0].into_iter().cycle().take(2000) {
        let bytes = vec![7; len];
        one.send(Lane::Data, Payload::Inline(&bytes), Vec::new()).ok();
        one.send(Lane::Control, Payload::Inline(&bytes[..len.min(2000)]), Vec::new()).ok();
        while let Some(transmit) = one.poll_transmit() {
            let len = transmit.bytes().len();
            streams.push(transmit.bytes().to_vec());
            one.handle_sent(len);
        }
    }
    let used = measure(|| {
        for read in streams.iter().flat_map(|stream| stream.chunks(64 << 10)) {
            other.handle_input(read, [], now);
        }
    });
    assert!(!other.is_closed(), "it kept to its credit");
    // Of what one read brought, all is kept as long as a part of it is.
    let bound = 2 * (300_000 + (256 << 10)) + 2 * (64 << 10) + (1256 * 128) + (1 << 20);
    assert!(used.bytes_max <= bound, "{used:?}, not {bound} at most");
}
