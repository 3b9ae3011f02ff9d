//! `cargo bench -p benches --bench ipc`: what the parts of `cluster-ipc` cost, each beside what it stands on.
//!
//! Side by side with other libraries and languages: `cargo run --release -p benches --bin vs_ipc`.
#![allow(missing_docs, reason = "what criterion's macros make")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use bytes::Bytes;
use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::codec::{Decode, Encode, Postcard, Raw};
use cluster_ipc::hub::{Hub, Policy, Subscription};
use cluster_ipc::session::{Config, Event, Payload, Session};
use cluster_ipc::{Decoder, Frame, Kind, Lane, Outbox};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

const SIZES: [usize; 4] = [64, 1 << 10, 64 << 10, 1 << 20];

/// Messages in one go: as many as fit into a socket's buffer together.
const BATCH: usize = 64;

/// Frames to bytes and back, beside a copy of the same bytes.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    for size in [64, 1 << 10, 16 << 10] {
        let payload = Bytes::from(vec![7; size]);
        group.throughput(Throughput::Bytes((size * BATCH) as u64));
        group.bench_with_input(BenchmarkId::new("outbox to decoder", size), &payload, |b, payload| {
            let (mut outbox, mut decoder) = (Outbox::<u32>::new(), Decoder::<u32>::new());
            b.iter(|| {
                for _ in 0..BATCH {
                    assert!(outbox.push(Frame::new(Kind::Message, 0, payload.clone())).is_ok());
                }
                while let Some(transmit) = outbox.poll_transmit() {
                    let bytes = transmit.bytes().len().min(64 << 10);
                    assert!(decoder.push(&transmit.bytes()[..bytes], []).is_ok());
                    outbox.handle_sent(bytes);
                    while let Ok(Some(frame)) = decoder.poll_frame() {
                        black_box(frame.payload().len());
                    }
                }
            });
        });
        let (from, mut to) = (vec![7u8; size * BATCH], vec![0u8; size * BATCH]);
        group.bench_function(BenchmarkId::new("memcpy", size), |b| {
            b.iter(|| to.copy_from_slice(black_box(&from)));
        });
    }
    group.finish();
}

/// A message through two sessions, without a socket.
fn session(c: &mut Criterion) {
    let now = Instant::now();
    let mut parent = Session::<u32>::parent(Config::new(), b"", vec![], now);
    let mut child = Session::<u32>::child(Config::new(), b"", now);
    let carry = |from: &mut Session<u32>, to: &mut Session<u32>| {
        while let Some(transmit) = from.poll_transmit() {
            let len = transmit.bytes().len();
            to.handle_input(transmit.bytes(), [], now);
            from.handle_sent(len);
        }
    };
    carry(&mut parent, &mut child);
    carry(&mut child, &mut parent);
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("64 B messages", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                assert!(parent.send(Lane::Data, Payload::Inline(&[7; 64]), vec![]).is_ok());
            }
            carry(&mut parent, &mut child);
            while let Some(event) = child.poll_event() {
                if let Event::Message(message) = event {
                    child.handled(message.into_parts().2);
                }
            }
            carry(&mut child, &mut parent);
            while parent.poll_event().is_some() {}
        });
    });
    group.bench_function("64 B requests", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                assert!(parent.request(Payload::Inline(&[7; 64]), vec![], None, now).is_ok());
            }
            carry(&mut parent, &mut child);
            while let Some(event) = child.poll_event() {
                if let Event::Request { id, message, .. } = event {
                    child.handled(message.into_parts().2);
                    assert!(child.respond(id, Payload::Inline(&[7; 64]), vec![]).is_ok());
                }
            }
            carry(&mut child, &mut parent);
            while let Some(event) = parent.poll_event() {
                if let Event::Completed(_, cluster_ipc::session::Outcome::Reply(message)) = event {
                    parent.handled(message.into_parts().2);
                }
            }
            carry(&mut parent, &mut child);
        });
    });
    group.finish();
}

#[derive(Serialize, Deserialize)]
struct Data<'a> {
    id: u64,
    kind: &'a str,
    #[serde(with = "serde_bytes")]
    payload: &'a [u8],
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let data = Data { id: 7, kind: "data-set", payload: &[7; 64] };
    let mut scratch = Vec::new();
    group.bench_function("encode 64 B", |b| {
        b.iter(|| Postcard::encode(black_box(&data), &mut scratch).map(<[u8]>::len));
    });
    let owned = (7u64, "data-set".to_owned(), vec![7u8; 64]);
    let encoded = Postcard::encode(&owned, &mut scratch).map(Bytes::copy_from_slice).unwrap_or_default();
    group.bench_function("decode 64 B, owned", |b| {
        b.iter(|| <Postcard as Decode<(u64, String, Vec<u8>)>>::decode(black_box(encoded.clone())));
    });
    group.finish();
}

type Ends = (Sender<[u8], Raw>, Receiver<Bytes, Raw>);

/// Through a real socket within one thread: system calls and ours, no waiting and no other core.
fn socket(c: &mut Criterion) {
    let mut group = c.benchmark_group("socket pair, one thread");
    let (Ok((here, there)), Ok((mut one, mut other))) = (Endpoint::pair(Config::new()), UnixStream::pair())
    else {
        return;
    };
    let (mut here, mut there): (Ends, Ends) = (here.split(), there.split());
    // The handshake needs both ends to move.
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(there.1.recv().is_ok()));
        assert!(here.0.send(b"first").is_ok());
    });
    for size in SIZES.into_iter().filter(|size| *size <= 64 << 10) {
        let count = (128 << 10) / size.max(4 << 10);
        let payload = vec![7u8; size];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("ours", size), |b| {
            b.iter(|| {
                for _ in 0..count {
                    assert!(here.0.feed(&payload).is_ok());
                }
                assert!(here.0.flush().is_ok());
                for _ in 0..count {
                    assert!(matches!(there.1.recv(), Ok(Some(message)) if message.len() == size));
                }
            });
        });
        let mut buffer = vec![0u8; size * count];
        group.bench_function(BenchmarkId::new("raw, one write and one read", size), |b| {
            b.iter(|| {
                for piece in buffer.chunks_exact_mut(size) {
                    piece.copy_from_slice(&payload);
                }
                assert!(one.write_all(&buffer).is_ok() && other.read_exact(&mut buffer).is_ok());
            });
        });
    }
    let file = std::fs::File::open("/dev/null").map(OwnedFd::from);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a descriptor", |b| {
        b.iter(|| {
            let copy: Vec<OwnedFd> = file.iter().filter_map(|file| file.try_clone().ok()).collect();
            assert!(here.0.send_with(b".", copy).is_ok());
            assert!(matches!(there.1.recv_raw(), Ok(Some(message)) if message.descriptors().len() == 1));
        });
    });
    drop(here.1.next_before(Instant::now()));
    group.finish();
}

fn hub(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub");
    for subscribers in [1u32, 8, 64] {
        let mut hub = Hub::new();
        for key in 0..subscribers {
            hub.subscribe(key, Subscription::new(Policy::DropOldest));
        }
        let message = Bytes::from_static(&[7; 64]);
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(BenchmarkId::new("publish and take", subscribers), |b| {
            b.iter(|| {
                assert!(hub.publish(message.clone()).is_ok());
                while let Some(key) = hub.poll_ready() {
                    while hub.peek(key).is_some() {
                        hub.handle_sent(key);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames, session, codec, socket, hub);
criterion_main!(benches);
