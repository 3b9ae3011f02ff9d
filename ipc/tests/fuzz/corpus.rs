//! Inputs to begin with: what honest sides say, and some things that only others would.

use std::time::{Duration, Instant};

use cluster_ipc::codec::{Encode, Postcard};
use cluster_ipc::session::{Config, Event, Failure, Payload, Session};
use cluster_ipc::{Frame, Kind, Lane, Outbox, Welcome};

use crate::reads::{Read, write};

type Input = (&'static str, &'static str, Vec<u8>);

pub(crate) fn generated() -> Vec<Input> {
    let mut inputs = vec![
        ("decoder", "frames", write(&frames())),
        ("decoder", "frames-byte-by-byte", write(&byte_by_byte(&frames()))),
        ("decoder", "a-long-frame", write(&long_frame())),
        ("decoder", "nothing", Vec::new()),
        ("decoder", "too-long", write(&[header(u32::MAX, 16, 1, 0, 1)])),
        ("decoder", "unclaimed", write(&vec![Read { bytes: vec![0; 3], descriptors: 250 }; 4])),
        ("decoder", "unknown-kind", write(&[header(0, 99, 0, 0, 0), header(0, 99, 1, 0, 0)])),
        ("handshake", "welcome", welcome(b"greeting")),
        (
            "handshake",
            "online",
            b"\x01\0\x02\x01\0\0\x10\0\0\0\0\0\0\x02\0\0\0\0\x01\0\0\0\0greeting".to_vec(),
        ),
        ("handshake", "reject", "we don't speak \u{ff0c} this".as_bytes().to_vec()),
        ("typed", "words", typed()),
        ("typed", "a-long-list", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 3, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    let (to_parent, to_child) = conversation();
    for (name, mode) in
        [("polite", 0b01110u8), ("talkative", 0b11110), ("deaf", 0b110_010), ("idle", 0b00010)]
    {
        let with = |mode: u8, reads: &[Read]| [&[mode][..], &write(reads)].concat();
        // The handshake has been done: what comes after it.
        inputs.push(("session", name, with(mode, &to_child[1..])));
        let parent = ["polite-parent", "talkative-parent", "deaf-parent", "idle-parent"];
        let parent = parent.into_iter().find(|parent| parent.starts_with(name)).unwrap_or(name);
        inputs.push(("session", parent, with(mode | 1, &to_parent[1..])));
    }
    inputs.push(("session", "a-child-from-the-beginning", [&[0b01100][..], &write(&to_child)].concat()));
    inputs.push(("session", "a-parent-from-the-beginning", [&[0b01101][..], &write(&to_parent)].concat()));
    inputs
}

fn header(len: u32, kind: u8, flags: u8, descriptors: u8, lane: u8) -> Read {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend([kind, flags, descriptors, lane]);
    bytes.extend([0; 8]);
    Read { bytes, descriptors }
}

fn drain(outbox: &mut Outbox<u32>) -> Vec<Read> {
    let mut reads = Vec::new();
    while let Some(transmit) = outbox.poll_transmit() {
        let bytes = transmit.bytes()[..transmit.bytes().len().min(30_000)].to_vec();
        let descriptors = transmit.descriptors().len() as u8;
        outbox.handle_sent(bytes.len());
        reads.push(Read { bytes, descriptors });
    }
    reads
}

fn frames() -> Vec<Read> {
    let mut outbox = Outbox::new();
    for (id, len) in [0usize, 1, 15, 16, 17, 300].into_iter().enumerate() {
        let frame = Frame::new(Kind::Message, id as u64, vec![id as u8; len]);
        outbox.push(frame.with_descriptors(vec![0; id % 3])).unwrap();
    }
    drain(&mut outbox)
}

fn long_frame() -> Vec<Read> {
    let mut outbox = Outbox::new();
    outbox.push(Frame::new(Kind::Message, 1, vec![1; 40_000]).with_descriptors(vec![0; 2])).unwrap();
    outbox.push(Frame::new(Kind::Message, 2, b"behind it".to_vec())).unwrap();
    drain(&mut outbox)
}

fn byte_by_byte(reads: &[Read]) -> Vec<Read> {
    let single = |read: &Read| {
        let descriptors = read.descriptors;
        let bytes = read.bytes.clone().into_iter().enumerate();
        bytes.map(move |(at, byte)| Read {
            bytes: vec![byte],
            descriptors: if at == 0 { descriptors } else { 0 },
        })
    };
    reads.iter().flat_map(single).collect()
}

fn welcome(greeting: &[u8]) -> Vec<u8> {
    let frame = Welcome::frame::<u32>(42, greeting, vec![]);
    frame.payload().to_vec()
}

#[derive(serde::Serialize)]
enum Word {
    Nothing,
    Number(i64),
    Text(String),
    List(Vec<u64>),
}

fn typed() -> Vec<u8> {
    let words =
        [Word::Nothing, Word::Number(-7), Word::Text("seven".to_owned()), Word::List(vec![1, 2, 1 << 40])];
    let mut scratch = Vec::new();
    <Postcard as Encode<[Word]>>::encode(&words, &mut scratch).unwrap().to_vec()
}

/// What a parent and a child read in a conversation with a bit of everything.
fn conversation() -> (Vec<Read>, Vec<Read>) {
    let now = Instant::now();
    let mut parent = Session::<u32>::parent(Config::new(), b"to the child", vec![7], now);
    let mut child = Session::<u32>::child(Config::new(), b"to the parent", now);
    let (mut to_parent, mut to_child) = (Vec::new(), Vec::new());
    for step in 0..12 {
        speak(&mut parent, step, now);
        speak(&mut child, step + 5, now);
        carry(&mut parent, &mut child, &mut to_child, now);
        carry(&mut child, &mut parent, &mut to_parent, now);
        answer(&mut parent);
        answer(&mut child);
    }
    (to_parent, to_child)
}

fn speak(session: &mut Session<u32>, step: usize, now: Instant) {
    // Refused before the handshake is done.
    match step % 9 {
        0 => drop(session.send(Lane::Data, Payload::Inline(b"message"), vec![1, 2])),
        1 => drop(session.send(Lane::Control, Payload::Inline(b"urgent"), vec![])),
        2 => drop(session.send(Lane::Data, Payload::Inline(&[5; 20_000]), vec![3])),
        3 | 6 => {
            let timeout = Some(Duration::from_secs(3));
            if let Ok(id) = session.request(Payload::Inline(b"request"), vec![], timeout, now)
                && step == 6
            {
                session.cancel(id);
            }
        }
        4 => drop(session.send_gap(12)),
        5 => drop(session.send(Lane::Data, Payload::Memory { len: 5000, descriptor: 9 }, vec![])),
        7 => drop(session.request(Payload::Inline(&[6; 17_000]), vec![4], None, now)),
        _ => session.finish(),
    }
}

fn answer(session: &mut Session<u32>) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Message(message) => session.handled(message.into_parts().2),
            Event::Request { id, message, .. } => {
                let (payload, _, charge) = message.into_parts();
                session.handled(charge);
                match payload {
                    Payload::Inline(bytes) if bytes.len() < 100 => {
                        session.respond(id, Payload::Inline(b"reply"), vec![5]).unwrap();
                    }
                    _ => session.fail(id, &Failure::Refused { reason: "too long".to_owned() }),
                }
            }
            _ => {}
        }
    }
}

fn carry(from: &mut Session<u32>, to: &mut Session<u32>, reads: &mut Vec<Read>, now: Instant) {
    while let Some(transmit) = from.poll_transmit() {
        let bytes = transmit.bytes()[..transmit.bytes().len().min(30_000)].to_vec();
        let descriptors = transmit.descriptors().to_vec();
        from.handle_sent(bytes.len());
        reads.push(Read { bytes: bytes.clone(), descriptors: descriptors.len() as u8 });
        to.handle_input(&bytes, descriptors, now);
    }
}
