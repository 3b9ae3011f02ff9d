//! A child in another language, that joins by the page on the wire format: `child.py`.

#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "common/alone.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod alone;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/wires.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod wires;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use bytes::Bytes;
use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Event, Failure, Window};
use cluster_ipc::{Arrival, Connection, Error, Lane, Spawn, TrySendError};

use crate::alone::alone;
use crate::frames::{
    BLOCKED, CHUNK, CONTROL, CREDIT, DATA, MESSAGE, MORE, MUST_UNDERSTAND, ONLINE, RawFrame, SKIPPABLE,
};
use crate::wires::wait_for_event;

type Halves = (Sender<[u8], Raw>, Receiver<Bytes, Raw>);

fn has_python() -> bool {
    let version = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("skipped: python3 is not installed (apt-get install python3)");
    }
    is_there
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/child.py"));
    command
}

fn is_message(
    arrival: Option<Arrival<Bytes, cluster_ipc::blocking::Responder<Raw>>>,
) -> (Bytes, Vec<OwnedFd>) {
    match arrival {
        Some(Arrival::Message(parcel)) => (parcel.value, parcel.descriptors),
        other => panic!("{other:?} instead of a message"),
    }
}

/// Written by the page on the wire format, and by nothing else.
#[test]
fn a_child_in_python_joins_by_the_wire_format_alone() {
    if !has_python() {
        return;
    }
    alone(|| {
        // Memory above 100 kB, so that each way to send a message is used.
        let config = Config::new().memory_above(100_000);
        let spawn = Spawn::from(python()).config(config).greeting("you are");
        let (mut child, connection) = spawn.spawn().unwrap();
        let endpoint = Endpoint::new(connection).unwrap();
        assert_eq!(&endpoint.opened().unwrap().payload()[..], b"python");
        let (sender, mut receiver): Halves = endpoint.split();

        let Some(Arrival::Request(question, responder)) = receiver.next().unwrap() else {
            panic!("a question")
        };
        assert_eq!(&question.value[..], b"what is my name?");
        responder.reply(&b"Monty"[..]).unwrap();

        let client = sender.client::<Bytes>().timeout(None);
        assert_eq!(&client.request(&b"again "[..]).unwrap()[..], b"again again ");
        let refused = client.request(&b"fail"[..]).unwrap_err();
        assert!(matches!(refused, Error::Failed(Failure::Refused { reason }) if reason == "as you wish"));
        let (mut reader, writer) = std::io::pipe().unwrap();
        client.request_with(&b"with a pipe"[..], vec![OwnedFd::from(writer)]).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "what it has no use for it closes");
        let long = vec![5; 50_000];
        assert_eq!(client.request(&long[..]).unwrap().len(), 100_000);

        // In one frame, in several, in memory, larger than its window.
        for len in [0, 1, 16 << 10, (16 << 10) + 1, 60_000, 200_000] {
            let bytes = vec![len as u8; len];
            let (mut reader, writer) = std::io::pipe().unwrap();
            sender.send_with(&bytes, vec![OwnedFd::from(writer)]).unwrap();
            let (back, mut descriptors) = is_message(receiver.next().unwrap());
            assert!(back == bytes, "{len} bytes came back as {}", back.len());
            std::fs::File::from(descriptors.remove(0)).write_all(b"through it").unwrap();
            let mut through = String::new();
            reader.read_to_string(&mut through).unwrap();
            assert_eq!(through, "through it", "the very same pipe, and the child has closed its copy");
        }

        // Far more than either window.
        let sending = std::thread::spawn(move || {
            for number in 0..3000u32 {
                sender.send(&number.to_le_bytes()[..]).unwrap();
            }
        });
        for number in 0..3000u32 {
            assert_eq!(is_message(receiver.next().unwrap()).0[..], number.to_le_bytes());
        }
        sending.join().unwrap();
        drop(client);
        assert_eq!(&is_message(receiver.next().unwrap()).0[..], b"you are Monty");
        assert!(receiver.next().unwrap().is_none(), "it said that this was all");
        drop(receiver);
        assert!(child.wait().unwrap().success());
    });
}

/// Sends by `say` so often, and has as many messages back.
fn exchange(config: Config, count: usize, say: fn(&mut Connection, usize) -> Result<bool, TrySendError<()>>) {
    let (mut child, mut connection) = Spawn::from(python()).config(config).spawn().unwrap();
    let (mut said, mut expected, mut back) = (0, 0, 0);
    while said < count || back < expected {
        while said < count
            && let Ok(is_answered) = say(&mut connection, said)
        {
            said += 1;
            expected += usize::from(is_answered);
        }
        match wait_for_event(&mut connection) {
            Event::Message(message) => {
                back += 1;
                connection.handled(message.into_parts().2);
            }
            Event::Request { id, message, .. } => {
                connection.handled(message.into_parts().2);
                connection.respond(id, b"Monty", vec![]).unwrap();
            }
            Event::Opened(_) | Event::Writable => {}
            event => panic!("{event:?} after {said} of {count}, and {back} of {expected} back"),
        }
    }
    connection.finish();
    assert!(matches!(wait_for_event(&mut connection), Event::Message(_)), "its last words");
    assert!(matches!(wait_for_event(&mut connection), Event::Finished));
    drop(connection);
    assert!(child.wait().unwrap().success());
}

/// Some times its windows, of each thing that is counted.
#[test]
fn a_child_in_python_gives_back_credit_for_everything() {
    if !has_python() {
        return;
    }
    alone(|| {
        let in_stream = || Config::new().memory_above(usize::MAX);
        exchange(in_stream(), 50, |parent, _| {
            parent.send(Lane::Control, b"!", vec![]).map(|()| true).map_err(|unsent| unsent.map(drop))
        });
        // Gaps cost a message too.
        exchange(in_stream(), 600, |parent, number| match number % 2 {
            0 => parent.send_gap(1).map(|()| false),
            _ => parent.send(Lane::Data, b"x", vec![]).map(|()| true).map_err(|unsent| unsent.map(drop)),
        });
        // Memory costs a descriptor.
        exchange(Config::new().memory_above(20_000), 50, |parent, _| {
            let sent = parent.send(Lane::Data, &[1; 20_001], vec![]);
            sent.map(|()| true).map_err(|unsent| unsent.map(drop))
        });
        // Each larger than either window.
        let window = Window { bytes: 1000, messages: 4, descriptors: 4 };
        exchange(in_stream().window(window), 10, |parent, _| {
            let sent = parent.send(Lane::Data, &[1; 200_000], vec![]);
            sent.map(|()| true).map_err(|unsent| unsent.map(drop))
        });
    });
}

/// The one who speaks by hand here. Descriptors don't matter.
fn hear(channel: &mut UnixStream, kind: u8) -> RawFrame {
    loop {
        let mut bytes = vec![0; 16];
        channel.read_exact(&mut bytes).expect("it goes on");
        bytes.resize(16 + u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize, 0);
        channel.read_exact(&mut bytes[16..]).expect("it goes on");
        let frame = RawFrame::take(&mut bytes).unwrap();
        if frame.kind == kind {
            return frame;
        }
    }
}

/// Credit that comes between the chunks of a message is credit, and is not told twice.
#[test]
fn a_child_in_python_takes_credit_between_chunks() {
    if !has_python() {
        return;
    }
    alone(|| {
        let (mut parent, theirs) = UnixStream::pair().unwrap();
        // One message at a time, and its question is the first.
        let settings = [(1, 1 << 20), (2, 1 << 20), (3, 1), (8, 8)];
        parent.write_all(&frames::welcome(&settings, b"").bytes()).unwrap();
        let mut command = python();
        let mut child = command.env("CLUSTER_IPC_FD", "0").stdin(OwnedFd::from(theirs)).spawn().unwrap();
        drop(command);
        hear(&mut parent, ONLINE);
        parent.write_all(&frames::message("short").bytes()).unwrap();
        hear(&mut parent, BLOCKED);
        let long = [&6u64.to_le_bytes()[..], b"abc"].concat();
        let credit: Vec<u8> = [1u64 << 20, 3, 0].into_iter().flat_map(u64::to_le_bytes).collect();
        for frame in [
            RawFrame::new(MESSAGE, DATA, 0, &long).flags(MUST_UNDERSTAND | MORE),
            RawFrame::new(CREDIT, CONTROL, 1, &credit),
            // Of a later version, and not important.
            RawFrame::new(200, CONTROL, 0, b"?").flags(SKIPPABLE),
            RawFrame::new(CHUNK, DATA, 0, b"def"),
        ] {
            parent.write_all(&frame.bytes()).unwrap();
        }
        assert_eq!(hear(&mut parent, MESSAGE).payload, b"short");
        assert_eq!(hear(&mut parent, MESSAGE).payload, b"abcdef");
        drop(parent);
        assert_eq!(child.wait().unwrap().code(), Some(1), "the end without a word is an error");
    });
}
