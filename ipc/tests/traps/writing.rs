//! What a write may do: take a part, take nothing, take all but the descriptors, wait, or kill.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_ipc::session::{Config, Event, Window};
use cluster_ipc::{Channel, Connection, Error, Frame, Handed, Kind, Lane, Read, Received, Sent, Socket};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use crate::alone::{alone, deadline, is_asleep, null, open_descriptors, thread, until};
use crate::sys;
use crate::wires::{
    Driver, End, expect_message, is_closed_everywhere, is_of, next_event, nulls, pair, pipes, raw,
    shrink_buffers, wait_for_event, wait_until_ready,
};

/// Whatever waits for room in the socket still holds its descriptors, and they arrive once.
#[test]
fn eagain_loses_no_descriptors() {
    alone(|| {
        let now = Instant::now();
        let (mut here, mut there) = pair(Config::new());
        while here.flush(now) {
            here.send(Lane::Data, &[0; 60_000], vec![]).unwrap();
        }
        let (readers, writers) = pipes(20);
        let open = open_descriptors().len();
        for reader in readers {
            here.send(Lane::Data, b"after all", vec![reader]).unwrap();
            assert!(!here.flush(now), "the socket is full: the test shows nothing");
        }
        assert_eq!(open_descriptors().len(), open, "what could not be written is still held");
        let mut arrived = Vec::new();
        while arrived.len() < 20 {
            here.flush(now);
            arrived.extend(expect_message(&mut there).1);
        }
        assert!(arrived.iter().zip(&writers).all(|(reader, writer)| is_of(reader, writer)), "each once");
        assert!(here.flush(now) && next_event(&mut there).is_none());
        drop(arrived);
        assert!(writers.iter().all(is_closed_everywhere), "no copy is left");

        for driver in Driver::BOTH {
            let (here, mut there) = pair(Config::new());
            shrink_buffers([&here, &there]);
            let here = End::new(driver, here);
            let (readers, writers) = pipes(40);
            // More than the socket takes, while nobody reads: nearly each write meets a full socket.
            let reading = std::thread::spawn(move || {
                let next = |_| expect_message(&mut there);
                (0..40).map(next).flat_map(|(_, descriptors)| descriptors).collect::<Vec<_>>()
            });
            for reader in readers {
                here.send(&[1; 5000], vec![reader]).unwrap();
            }
            let arrived = reading.join().unwrap();
            assert!(arrived.iter().zip(&writers).all(|(reader, writer)| is_of(reader, writer)), "{driver:?}");
            assert_eq!(arrived.len(), 40, "{driver:?}");
        }
    });
}

/// Reads all that is there; how many bytes and descriptors.
fn count_arrivals(socket: &Socket) -> (usize, usize) {
    let (mut buffer, mut descriptors, mut bytes) = (vec![0; 64 << 10], Vec::new(), 0);
    while let Received::Bytes(more) = socket.receive(&mut buffer, &mut descriptors).unwrap() {
        bytes += more;
    }
    (bytes, descriptors.len())
}

/// The descriptors went with the first byte; the rest of the frame goes without.
#[test]
fn partial_write_sends_descriptors_once() {
    const LEN: usize = 1 << 20;
    alone(|| {
        // Two descriptors with a frame of 1 MiB, by each of the three ways to write one.
        let count = |mut write: Box<dyn FnMut() -> bool>, other: &Socket, name| {
            let (mut parts, mut arrived) = (0, (0, 0));
            loop {
                let done = write();
                let (bytes, descriptors) = count_arrivals(other);
                (parts, arrived) = (parts + 1, (arrived.0 + bytes, arrived.1 + descriptors));
                if done {
                    break;
                }
            }
            assert!(parts > 3, "{name}: the frame went out in {parts} writes: the test shows nothing");
            assert!((LEN..LEN + 4096).contains(&arrived.0), "{name}: {} bytes arrived", arrived.0);
            assert_eq!(arrived.1, 2, "{name}: each descriptor arrives once");
        };
        let (one, other) = Socket::pair().unwrap();
        let mut channel = Channel::new(one);
        let frame = Frame::new(Kind::Message, 0, vec![1; LEN]).with_descriptors(nulls(2));
        channel.try_send(frame).unwrap();
        count(Box::new(move || channel.flush().unwrap()), &other, "queued");

        let (one, other) = Socket::pair().unwrap();
        let mut channel = Channel::new(one);
        let (file, payload) = (null(), vec![1; LEN]);
        let both = [file.as_fd(), file.as_fd()];
        let handed = channel.send_borrowed(Kind::Message, 0, &payload, &both).unwrap();
        assert_eq!(handed, Handed::Sent);
        count(Box::new(move || channel.flush().unwrap()), &other, "borrowed");

        let (mut here, there) = pair(Config::new().memory_above(usize::MAX));
        shrink_buffers([&here, &there]);
        here.send(Lane::Data, &vec![1; LEN], nulls(2)).unwrap();
        count(Box::new(move || here.flush(Instant::now())), &raw(&there), "in a session");
    });
}

/// A write to a peer that is gone is an error and not a signal, which would end the process.
#[test]
fn sigpipe_is_never_raised() {
    alone(|| {
        sys::die_by(Signal::PIPE);
        let (here, there) = Socket::pair().unwrap();
        drop(there);
        assert!(matches!(here.send(&[std::io::IoSlice::new(b"x")], &[]), Err(Error::PeerGone)));
        assert!(matches!(here.send(&[std::io::IoSlice::new(b"x")], &[null().as_fd()]), Err(Error::PeerGone)));
        for driver in Driver::BOTH {
            let (here, there) = pair(Config::new());
            drop(there);
            let here = End::new(driver, here);
            assert!(matches!(here.send(b"x", nulls(1)), Err(Error::PeerGone)), "{driver:?}");
            assert!(matches!(here.request(b"x", nulls(1)), Err(Error::PeerGone)), "{driver:?}");
        }
    });
}

/// Clears `O_NONBLOCK` on the open file of an end, as anybody with a copy of its descriptor may.
fn make_blocking(end: impl AsFd) {
    let copy = end.as_fd().try_clone_to_owned().unwrap();
    fcntl_setfl(&copy, fcntl_getfl(&copy).unwrap() - OFlags::NONBLOCK).unwrap();
    assert!(!fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK), "the flag is shared");
}

/// A call that blocks would show: the check is stuck.
#[test]
fn o_nonblock_shared_with_others_is_not_relied_on() {
    alone(|| {
        let now = Instant::now();
        let (one, other) = Socket::pair().unwrap();
        make_blocking(&one);
        assert_eq!(one.receive(&mut [0; 8], &mut Vec::new()).unwrap(), Received::WouldBlock);
        while one.send(&[std::io::IoSlice::new(&[0; 4096])], &[]).unwrap() != Sent::WouldBlock {}
        drop(other);

        let (mut here, mut there) = pair(Config::new());
        make_blocking(&here);
        assert_eq!(here.read(now), Read::Drained);
        while here.flush(now) {
            here.send(Lane::Data, &[0; 60_000], vec![]).unwrap();
        }
        assert_eq!(there.read(now), Read::Some);

        for driver in Driver::BOTH {
            let (here, mut there) = pair(Config::new());
            make_blocking(&here);
            let mut here = End::new(driver, here);
            // In either direction more than a socket takes, and one of the two always waits for the other.
            let peer = std::thread::spawn(move || {
                there.send(Lane::Data, &vec![7; 1 << 20], vec![]).unwrap();
                let len = expect_message(&mut there).0.len();
                while !there.flush(Instant::now()) {
                    wait_until_ready(there.as_fd(), PollFlags::OUT, Duration::from_millis(10));
                }
                len
            });
            here.send(&vec![8; 1 << 20], vec![]).unwrap();
            assert_eq!(here.message().unwrap().unwrap().value.len(), 1 << 20, "{driver:?}");
            assert_eq!(peer.join().unwrap(), 1 << 20, "{driver:?}");
        }
    });
}

/// Both write more than the sockets hold before either reads: who waits for room must read meanwhile.
#[test]
fn both_sides_blocking_in_write_finish() {
    const EACH: usize = 15;
    alone(|| {
        for driver in Driver::BOTH {
            let (one, other) = pair(Config::new().memory_above(usize::MAX));
            shrink_buffers([&one, &other]);
            let flood = move |connection: Connection| {
                let mut end = End::new(driver, connection);
                for number in 0..EACH {
                    end.send(&vec![number as u8; 200_000], vec![]).unwrap();
                }
                for number in 0..EACH {
                    let bytes = end.message().unwrap().unwrap().value;
                    assert!(bytes.len() == 200_000 && bytes.iter().all(|byte| *byte == number as u8));
                }
            };
            let there = std::thread::spawn(move || flood(other));
            flood(one);
            there.join().unwrap();
        }
    });
}

/// The same with a reader beside the writer: whoever of them waits for the socket must know what the other wants of it.
#[test]
fn write_finishes_while_another_thread_waits_for_a_message() {
    alone(|| {
        let (here, mut there) = pair(Config::new().memory_above(usize::MAX));
        shrink_buffers([&here, &there]);
        let End::Blocking(sender, mut receiver) = End::new(Driver::Blocking, here) else { unreachable!() };
        let waiting = thread("reader", move || receiver.next_before(deadline()).map(drop));
        until("the reader waits", || is_asleep("reader"));
        let writing = std::thread::spawn(move || sender.send(&vec![1; 1 << 20]));
        assert_eq!(expect_message(&mut there).0.len(), 1 << 20);
        until("the writer knows that it is done", || writing.is_finished());
        writing.join().unwrap().unwrap();
        there.send(Lane::Data, b"at last", vec![]).unwrap();
        there.flush(Instant::now());
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn request_goes_out_while_another_thread_waits_for_a_message() {
    alone(|| {
        let (here, mut there) = pair(Config::new());
        let End::Blocking(sender, mut receiver) = End::new(Driver::Blocking, here) else { unreachable!() };
        let waiting = thread("reader", move || receiver.next_before(deadline()).map(drop));
        until("the reader waits", || is_asleep("reader"));
        let client = sender.client().timeout(None);
        let asking = std::thread::spawn(move || client.request_with(b"question", vec![]));
        let Event::Request { id, .. } = wait_for_event(&mut there) else { panic!("the request is next") };
        there.respond(id, b"answer", vec![]).unwrap();
        there.flush(Instant::now());
        let (answer, _): (bytes::Bytes, Vec<OwnedFd>) = asking.join().unwrap().unwrap();
        assert_eq!(&answer[..], b"answer");
        there.send(Lane::Data, b"at last", vec![]).unwrap();
        there.flush(Instant::now());
        waiting.join().unwrap().unwrap();
    });
}

/// The window and what waits for the socket are full in both directions. Credit gets through all the same, before the
/// data that waits.
#[test]
fn credit_is_not_blocked_behind_data() {
    const MESSAGE: [u8; 1000] = [0; 1000];
    alone(|| {
        let now = Instant::now();
        let window = Window { bytes: 1 << 20, messages: 100_000, descriptors: 0 };
        let (mut here, mut there) = pair(Config::new().window(window).outbox(2 << 20));
        shrink_buffers([&here, &there]);
        let fill = |end: &mut Connection| {
            while end.send(Lane::Data, &MESSAGE, vec![]).is_ok() {}
            end.flush(now);
            assert!(end.session().unsent() > 900_000, "the socket takes little");
        };
        fill(&mut here);
        fill(&mut there);
        // `there` reads what `here` has in its outbox, and handles it: `here` must get credit for more although the data
        // of `there` fills the stream in that direction, and has not been read by then.
        for _ in 0..2 {
            let mut handled = 0;
            let credit = loop {
                here.flush(now);
                if let Some(Event::Message(message)) = next_event(&mut there) {
                    there.handled(message.into_parts().2);
                    handled += 1;
                }
                there.flush(now);
                // One read at a time: no more than the credit that stands in the stream first.
                here.read(now);
                if matches!(here.poll_event(), Some(Event::Writable)) {
                    break there.session().unsent();
                }
                assert!(handled < 1100, "all was handled, and no credit has come");
            };
            assert!(credit > 400_000, "credit came behind {} bytes of data", (1 << 20) - credit);
            std::mem::swap(&mut here, &mut there);
        }
    });
}

/// Several threads, clones of one sender: frames don't mix, and each thread's messages stay in order.
#[test]
fn threads_writing_to_one_stream_do_not_mix() {
    const THREADS: usize = 4;
    const EACH: usize = 100;
    alone(|| {
        let (here, there) = pair(Config::new().memory_above(60_000));
        shrink_buffers([&here, &there]);
        let End::Blocking(sender, receiver) = End::new(Driver::Blocking, here) else { unreachable!() };
        let mut there = End::new(Driver::Blocking, there);
        let threads = (0..THREADS).map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    // Up to some frames' worth; above that, memory of its own.
                    let len = 2 + (thread * 7919 + number * 104_729) % 80_000;
                    let mut bytes = vec![(thread * 100 + number) as u8; len];
                    (bytes[0], bytes[1]) = (thread as u8, number as u8);
                    match number % 4 {
                        // Small ones overtake the data, in the middle of a message.
                        0 => sender.send_urgent(&bytes[..2.max(len % 1000)]).unwrap(),
                        1 => sender.send_with(&bytes, vec![null()]).unwrap(),
                        2 => sender.feed(&bytes).unwrap(),
                        _ => sender.send(&bytes).unwrap(),
                    }
                }
                sender.flush().unwrap();
            })
        });
        let threads: Vec<_> = threads.collect();
        let (mut urgent, mut data) = ([0; THREADS], [0; THREADS]);
        for _ in 0..THREADS * EACH {
            let parcel = there.message().unwrap().unwrap();
            let (thread, number) = (usize::from(parcel.value[0]), usize::from(parcel.value[1]));
            let filling = (thread * 100 + number) as u8;
            assert!(parcel.value[2..].iter().all(|byte| *byte == filling), "frames were mixed");
            assert_eq!(parcel.descriptors.len(), usize::from(number % 4 == 1));
            let order = if number % 4 == 0 { &mut urgent[thread] } else { &mut data[thread] };
            assert!(*order <= number, "order within a thread and a lane");
            *order = number + 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop((sender, receiver));
        assert!(there.message().unwrap().is_none(), "there is no more");
    });
}

/// More descriptors in flight than a user without privileges may have: not an error, no reason to spin, and all arrive
/// once the other side reads.
#[test]
fn too_many_references_are_waited_for() {
    const COUNT: usize = 200;
    alone(|| {
        sys::become_nobody();
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
        let now = Instant::now();
        let (mut here, mut there) = pair(Config::new());
        for number in 0..COUNT {
            let refused = here.send(Lane::Data, &(number as u64).to_le_bytes(), vec![null()]).is_err();
            assert!(!refused, "there is credit");
            if !here.flush(now) {
                break;
            }
        }
        assert!(here.session().unsent() > 0 && !here.session().is_closed());
        // The socket has room: whoever waited for that would not wait at all.
        assert!(!here.wants_write(), "there is nothing to wait for but time");
        assert!(here.poll_timeout().is_some(), "and that has to be known");
        assert!(!here.flush(now), "not before then");
        while expect_message(&mut there).0[..] != 64u64.to_le_bytes() {
            here.flush(Instant::now());
        }
        drop((here, there));

        for driver in Driver::BOTH {
            let (here, mut there) = pair(Config::new());
            let sent = std::sync::Arc::new(AtomicUsize::new(0));
            let count = std::sync::Arc::clone(&sent);
            let sending = std::thread::spawn(move || {
                let here = End::new(driver, here);
                for number in 0..COUNT {
                    here.send(&(number as u64).to_le_bytes(), vec![null()])?;
                    count.fetch_add(1, Ordering::SeqCst);
                }
                // Not until all was read: dropping it is another test.
                Ok::<_, Error>(here)
            });
            // Another stream of this user shows when there are too many.
            let (probe, _other) = Socket::pair().unwrap();
            until("too many are in flight", || {
                sent.load(Ordering::SeqCst) >= 60
                    && probe.send(&[std::io::IoSlice::new(b"x")], &[probe.as_fd()]).unwrap()
                        == Sent::TooManyInFlight
            });
            for number in 0..COUNT {
                let (bytes, descriptors) = expect_message(&mut there);
                assert_eq!(bytes[..], (number as u64).to_le_bytes(), "{driver:?}");
                assert_eq!(descriptors.len(), 1, "{driver:?}");
            }
            drop(sending.join().unwrap().unwrap());
        }
    });
}
