//! Order, and what overtakes what.

use cluster_ipc::session::{Config, Payload};
use cluster_ipc::{HEADER_LEN, Lane};

use crate::wire::{self, CHUNK_LEN, Lone, MESSAGE, MORE, Told, beginning, carry, frames, pair, raw};

fn urgent(from: &mut Lone, payload: &[u8]) {
    from.session.send(Lane::Control, Payload::Inline(payload), vec![]).expect("there is credit");
}

/// Writes `len` bytes, in writes of at most `step`.
fn write(from: &mut Lone, len: usize, step: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    while stream.len() < len {
        let transmit = from.session.poll_transmit().expect("there is something to write");
        let taken = transmit.bytes().len().min(len - stream.len()).min(step);
        stream.extend(&transmit.bytes()[..taken]);
        from.session.handle_sent(taken);
    }
    stream
}

#[test]
fn an_urgent_message_waits_for_the_frame_that_is_being_written_and_nothing_else() {
    let large = vec![1; 10 * CHUNK_LEN];
    for written in [0, 1, 15, 16, 17, CHUNK_LEN / 2, CHUNK_LEN + 24, CHUNK_LEN + 25, 3 * CHUNK_LEN] {
        let (mut one, mut other) = pair(Config::new(), Config::new());
        one.send(b"small");
        one.send(&large);
        let mut stream = write(&mut one, HEADER_LEN + 5, usize::MAX);
        stream.extend(write(&mut one, written, usize::MAX));
        urgent(&mut one, b"stop");
        urgent(&mut one, b"now");
        let rest = one.says_bytes();
        let delayed_by = rest.windows(4).position(|window| window == b"stop").unwrap() - HEADER_LEN;
        assert!(
            delayed_by <= CHUNK_LEN + HEADER_LEN + 16,
            "after {written} bytes it waits for {delayed_by} more"
        );
        stream.extend(rest);
        let first_frames = frames(&stream);
        let begun = frames(&stream[..HEADER_LEN + 5 + written]).len();
        let at = first_frames.iter().position(|frame| frame.payload == b"stop").unwrap();
        let begun = if written == 0 { 1 } else { begun.max(at.min(begun + 1)) };
        assert_eq!((at, &first_frames[at + 1].payload[..]), (begun, &b"now"[..]), "after {written} bytes");
        other.hears(&stream);
        let mut told = other.told();
        assert_eq!(told.remove(0), Told::Message(b"small".into()));
        assert_eq!(told, [b"stop".to_vec(), b"now".to_vec(), large.clone()].map(Told::Message));
    }
}

#[test]
fn what_is_urgent_goes_before_data_that_waits_and_stays_in_order() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    one.send(b"data 1");
    urgent(&mut one, b"urgent 1");
    one.send(b"data 2");
    urgent(&mut one, b"urgent 2");
    carry(&mut one, &mut other);
    let expected = [&b"urgent 1"[..], b"urgent 2", b"data 1", b"data 2"];
    assert_eq!(other.told(), expected.map(|text| Told::Message(text.into())));
}

#[test]
fn a_long_message_is_cut_so_that_no_frame_is_long() {
    for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN, 300_000] {
        let (mut one, mut other) = pair(Config::new(), Config::new());
        let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        one.send(&payload);
        let stream = one.says_bytes();
        let frames = frames(&stream);
        assert_eq!(frames.len(), len.div_ceil(CHUNK_LEN).max(1), "{len}");
        assert!(frames.iter().all(|frame| frame.payload.len() <= CHUNK_LEN + 16));
        stream.chunks(1000).for_each(|piece| other.hears(piece));
        assert_eq!(other.told(), [Told::Message(payload)]);
    }
}

#[test]
fn descriptors_leave_with_the_first_byte_of_their_message_and_arrive_with_it() {
    let (mut one, mut other) = pair(Config::new(), Config::new());
    one.send(b"plain");
    one.session.send(Lane::Data, Payload::Inline(&[0; 50_000]), vec![1, 2]).unwrap();
    one.session.send(Lane::Data, Payload::Memory { len: 70_000, descriptor: 3 }, vec![4]).unwrap();
    one.session.send(Lane::Control, Payload::Inline(b"urgent"), vec![5]).unwrap();
    let mut writes = Vec::new();
    while let Some(transmit) = one.session.poll_transmit() {
        let (bytes, descriptors) = (transmit.bytes()[..1].to_vec(), transmit.descriptors().to_vec());
        one.session.handle_sent(1);
        other.session.handle_input(&bytes, descriptors.iter().copied(), other.now);
        writes.push(descriptors);
    }
    assert_eq!(writes.concat(), [5, 1, 2, 4, 3], "each is sent once");
    let arrived = [(); 4].map(|()| {
        let (payload, descriptors, _) = other.next_message().into_parts();
        match payload {
            Payload::Inline(bytes) => (bytes.len(), None, descriptors),
            Payload::Memory { len, descriptor } => (len as usize, Some(descriptor), descriptors),
        }
    });
    let expected =
        [(6, None, vec![5]), (5, None, vec![]), (50_000, None, vec![1, 2]), (70_000, Some(3), vec![4])];
    assert_eq!(arrived, expected);
}

#[test]
fn a_frame_that_is_gathered_and_the_next_one_stay_in_order() {
    // A session of ours cuts long messages. Another implementation need not.
    let (long, short) = (raw(MESSAGE, vec![1; 100_000]), raw(MESSAGE, *b"short"));
    let stream = [long.bytes(), short.bytes(), short.bytes()].concat();
    for cut in [1, 16, 17, 1000, 50_000, 99_999, 100_015, 100_016, 100_020, stream.len() - 1] {
        let mut side = Lone::default();
        let (before, after) = stream.split_at(cut);
        side.hears(before);
        side.hears(after);
        let short = Told::Message(b"short".into());
        let expected = [Told::Message(vec![1; 100_000]), short.clone(), short];
        assert!(side.told() == expected, "cut at {cut}");
    }
}

#[test]
fn urgent_messages_pass_between_the_chunks_of_a_long_one() {
    let mut side = Lone::default();
    side.gets(&beginning(4, b"ab"));
    side.gets(&raw(MESSAGE, *b"urgent").lane(0));
    side.gets(&raw(wire::CREDIT, wire::amount(0, 0, 0)).id(1));
    side.gets(&raw(wire::CHUNK, *b"c").adding(MORE));
    side.gets(&raw(MESSAGE, *b"more").lane(0));
    side.gets(&raw(wire::CHUNK, *b"d"));
    let expected = [&b"urgent"[..], b"more", b"abcd"];
    assert_eq!(side.told(), expected.map(|text| Told::Message(text.into())));
}

#[test]
fn what_waits_for_the_peer_is_bounded_and_counted() {
    let config = Config::new().outbox(10_000);
    let (mut one, _) = pair(config, Config::new());
    let mut accepted = 0;
    for len in (0..10_000).map(|n| n * 37 % 3000) {
        let payload = vec![0; len];
        let sent = one.session.send(Lane::Data, Payload::Inline(&payload), vec![]);
        accepted += sent.map_or(0, |()| HEADER_LEN + len);
        assert_eq!(one.session.unsent(), accepted);
        assert!(one.session.unsent() <= 10_000 + 3000 + HEADER_LEN);
    }
    assert!(one.session.wants_transmit());
    assert_eq!(one.says_bytes().len(), accepted);
    assert_eq!((one.session.unsent(), one.session.wants_transmit()), (0, false));
}
