//! Lengths and identifiers that lie.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cluster_ipc::session::{Config, Event, Outcome};
use cluster_ipc::{Channel, DEFAULT_MAX_FRAME, Decoder, Error, Lane, Read, Socket, TrySendError};
use rustix::event::PollFlags;

use crate::alone::{alone, open_descriptors};
use crate::wires::{
    Driver, End, IN_MEMORY, KNOWN, MESSAGE, MORE, expect_closed, frame, header, is_closed_everywhere, is_of,
    next_event, nulls, pair, pipes, raw, wait_for_event, wait_until_ready, write_raw,
};

/// The longest length there is: added to that of the header it must not become a small one, where numbers have 32 bits.
/// (Here they have 64, so it shows that the limit comes before any sum.)
#[test]
fn u32_length_does_not_overflow() {
    alone(|| {
        for len in [u32::MAX, u32::MAX - 15, u32::MAX - 16, 1 << 31, DEFAULT_MAX_FRAME as u32 + 1] {
            let refused = |error: &Error| matches!(error, Error::FrameTooLarge { len: told, max: DEFAULT_MAX_FRAME } if *told == len as usize);
            let head = header(len, MESSAGE, KNOWN, 1);
            let mut decoder = Decoder::<u32>::new();
            decoder.push(&head, [1]).unwrap();
            assert!(refused(&decoder.poll_frame().unwrap_err()));
            assert!(matches!(decoder.poll_frame(), Err(Error::PeerGone)), "an error is final");
            assert!(matches!(decoder.push(b"x", []), Err(Error::PeerGone)), "an error is final");

            let (here, there) = Socket::pair().unwrap();
            write_raw(&here, &head, &nulls(1));
            let mut there = Channel::new(there);
            assert!(refused(&there.poll_frame().unwrap_err()));

            for driver in Driver::BOTH {
                let (here, there) = pair(Config::new());
                let (readers, writers) = pipes(1);
                write_raw(&raw(&here), &head, &readers);
                drop(readers);
                let mut there = End::new(driver, there);
                let error = there.message().unwrap_err();
                assert!(refused(&error), "{driver:?} got {error:?}");
                assert!(is_closed_everywhere(&writers[0]), "{driver:?} keeps what came with it");
            }
        }
        // A message of several frames, or in memory, whose length has 64 bits.
        for (flags, len) in
            [(MORE, u64::MAX), (MORE, (64 << 20) + 1), (IN_MEMORY, u64::MAX), (IN_MEMORY, 1 << 40)]
        {
            let (here, mut there) = pair(Config::new());
            let body = [&len.to_le_bytes()[..], b"beginning"].concat();
            write_raw(&raw(&here), &frame(MESSAGE, KNOWN | flags, 1, &body), &nulls(1));
            let error = expect_closed(&mut there);
            assert!(matches!(error, Error::FrameTooLarge { .. }), "got {error:?}");
        }
    });
}

/// How much address space this process has taken, in bytes: reserved, whether used or not.
fn taken() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Memory follows what arrived, never what was announced.
#[test]
fn announced_length_allocates_nothing() {
    const MUCH: usize = 1 << 30;
    // The allocator reserves 64 MiB for a thread's arena, whenever it likes.
    const LITTLE: usize = 256 << 20;
    alone(|| {
        // Above the limit: an error. Within it: nothing yet.
        let (here, there) = Socket::pair().unwrap();
        let mut there = Channel::new(there).max_frame(MUCH);
        let before = taken();
        write_raw(&here, &header(MUCH as u32, MESSAGE, KNOWN, 0), &[]);
        assert!(there.poll_frame().unwrap().is_none());
        write_raw(&here, &[0; 30_000], &[]);
        assert!(there.poll_frame().unwrap().is_none());
        assert!(taken() < before + LITTLE, "a frame of 30 kB took {} MiB", (taken() - before) >> 20);

        for len in [u32::MAX, MUCH as u32 + 1] {
            let (here, there) = Socket::pair().unwrap();
            let mut there = Channel::new(there).max_frame(MUCH);
            let before = taken();
            write_raw(&here, &header(len, MESSAGE, KNOWN, 0), &[]);
            assert!(matches!(there.poll_frame(), Err(Error::FrameTooLarge { .. })));
            assert!(taken() < before + LITTLE, "an error took {} MiB", (taken() - before) >> 20);
        }

        let config = Config::new().max_message(4 << 30);
        let (here, mut there) = pair(config);
        let before = taken();
        let body = [&(4u64 << 30).to_le_bytes()[..], &[0; 10_000]].concat();
        write_raw(&raw(&here), &frame(MESSAGE, KNOWN | MORE, 0, &body), &[]);
        while there.read(Instant::now()) == Read::Some {}
        assert!(there.poll_event().is_none() && there.session().is_open());
        assert!(taken() < before + LITTLE, "a message of 10 kB took {} MiB", (taken() - before) >> 20);
    });
}

/// An answer that comes after its request timed out belongs to nobody, also when another request was made since. Until it
/// comes, its place is taken.
#[test]
fn id_is_not_reused_after_a_time_out() {
    alone(|| {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let (mut here, mut there) = pair(Config::new().max_requests(2));
        let base = open_descriptors().len();
        let first = here.request(b"first", vec![], Some(Duration::from_millis(1)), now).unwrap();
        assert!(here.flush(now));
        let Event::Request { id: asked, .. } = wait_for_event(&mut there) else {
            panic!("a request is next")
        };
        // `here` has given up; `there`, which doesn't read for a while, answers.
        here.handle_timeout(later);
        assert!(
            matches!(next_event(&mut here), Some(Event::Completed(id, Outcome::TimedOut)) if id == first)
        );
        let second = here.request(b"second", vec![], None, later).unwrap();
        let third = here.request(b"third", vec![], None, later);
        assert!(matches!(third, Err(TrySendError::Full(_))), "the first one's place is still taken");
        let (readers, writers) = pipes(3);
        there.respond(asked, b"answer to the first", readers).unwrap();
        assert!(there.flush(now));
        assert!(matches!(next_event(&mut here), Some(Event::Writable)), "only its place is free now");
        assert!(next_event(&mut here).is_none(), "a late answer is nobody's");
        assert_eq!(here.session().late_replies(), 1);
        assert!(writers.iter().all(is_closed_everywhere), "its descriptors are closed");
        drop(writers);
        // The next one gets the place, but not the number.
        let third = here.request(b"third", vec![], None, later).unwrap();
        assert!(third != first && third != second);
        assert!(here.flush(later));
        let (readers, writers) = pipes(2);
        for reader in readers {
            let asked = loop {
                match wait_for_event(&mut there) {
                    Event::Request { id, message, .. } => break (id, message.bytes().clone()),
                    Event::Cancelled(_) => {}
                    other => panic!("got {other:?}"),
                }
            };
            there.respond(asked.0, &asked.1, vec![reader]).unwrap();
        }
        assert!(there.flush(now));
        for (call, words, writer) in [(second, &b"second"[..], &writers[0]), (third, b"third", &writers[1])] {
            let Event::Completed(id, Outcome::Reply(message)) = wait_for_event(&mut here) else { panic!() };
            assert_eq!((id, &message.bytes()[..]), (call, words));
            assert!(is_of(&message.descriptors()[0], writer));
        }
        drop(writers);
        assert_eq!(open_descriptors().len(), base);
        // The same answer twice, or one to a request that never was, is an error of the peer.
        let evil = raw(&there);
        write_raw(&evil, &frame(18, KNOWN, 0, b"once more"), &[]);
        assert!(matches!(expect_closed(&mut here), Error::OutOfPlace { .. }));
        drop((here, there, evil));

        // Through the drivers, a place used again and again.
        for driver in Driver::BOTH {
            let (here, mut there) = pair(Config::new().max_requests(1));
            let answering = std::thread::spawn(move || {
                for number in 0..20 {
                    let (id, bytes) = loop {
                        match wait_for_event(&mut there) {
                            Event::Request { id, message, .. } => break (id, message.bytes().clone()),
                            Event::Cancelled(_) => {}
                            other => panic!("got {other:?}"),
                        }
                    };
                    if number % 2 == 0 {
                        // Not before the other side has given up; it has said so, but that hasn't been read.
                        wait_until_ready(there.as_fd(), PollFlags::IN, Duration::from_secs(30));
                    }
                    there.respond(id, &bytes, nulls(1)).unwrap();
                    there.flush(Instant::now());
                }
                there
            });
            let end = End::new(driver, here);
            for number in 0..20u8 {
                let answer = match (&end, number % 2) {
                    (End::Blocking(sender, _), 0) => {
                        let client = sender.client::<bytes::Bytes>().timeout(Duration::from_millis(5));
                        client.request_with(&[number], vec![])
                    }
                    (End::Tokio(sender, _, runtime), 0) => runtime.block_on(async {
                        let client = sender.client().timeout(Duration::from_millis(5));
                        client.request_with(&[number], vec![]).await
                    }),
                    _ => end.request(&[number], vec![]),
                };
                match (answer, number % 2) {
                    (Err(Error::TimedOut), 0) => {}
                    (Ok((bytes, descriptors)), 1) => {
                        assert_eq!((&bytes[..], descriptors.len()), (&[number][..], 1), "{driver:?}");
                    }
                    (other, _) => panic!("{driver:?}, request {number}: got {other:?}"),
                }
            }
            let mut there = answering.join().unwrap();
            there.send(Lane::Data, b"still here", vec![]).unwrap();
            there.flush(Instant::now());
            let mut end = end;
            assert_eq!(&end.message().unwrap().unwrap().value[..], b"still here", "{driver:?}");
            assert_eq!(there.session().late_replies(), 0);
        }
    });
}
