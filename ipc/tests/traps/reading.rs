//! What a read may do to bytes and descriptors.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use cluster_ipc::session::Config;
use cluster_ipc::{
    Channel, Decoder, Error, Frame, Kind, Lane, MAX_DESCRIPTORS, Outbox, Received, Socket, tokio as tasks,
};

use crate::alone::{alone, null, open_descriptors};
use crate::wires::{
    Driver, End, KNOWN, MESSAGE, expect_closed, expect_message, frame, is_closed_everywhere, is_of, nulls,
    pair, pipes, raise_limit, raw, runtime, wait_for, wait_for_event, with_room_for, write_raw,
};

fn message(payload: &'static [u8], descriptors: Vec<OwnedFd>) -> Frame<OwnedFd> {
    Frame::new(Kind::Message, 0, payload).with_descriptors(descriptors)
}

/// A read stops after bytes that came with descriptors, although more is there, and nothing happens after that which
/// would tell a driver to look again.
#[test]
fn short_read_is_not_drained() {
    alone(|| {
        let now = Instant::now();
        for driver in Driver::BOTH {
            let (mut here, there) = pair(Config::new());
            here.send(Lane::Data, b"carries", vec![null()]).unwrap();
            here.send(Lane::Data, b"plain", vec![]).unwrap();
            here.send(Lane::Data, b"carries too", vec![null(), null()]).unwrap();
            here.send(Lane::Data, b"plain too", vec![]).unwrap();
            assert!(here.flush(now));
            let mut end = End::new(driver, there);
            let taken = [(); 4].map(|()| end.message().unwrap().expect("a message"));
            let taken = taken.map(|parcel| (parcel.value, parcel.descriptors.len()));
            let taken = taken.each_ref().map(|(bytes, descriptors)| (&bytes[..], *descriptors));
            assert_eq!(
                taken,
                [(&b"carries"[..], 1), (b"plain", 0), (b"carries too", 2), (b"plain too", 0)],
                "{driver:?}"
            );
        }
        // The layer below: frames.
        let (mut here, there) = Channel::pair().unwrap();
        here.try_send(message(b"carries", vec![null()])).unwrap();
        here.try_send(message(b"plain", vec![])).unwrap();
        assert!(here.flush().unwrap());
        let runtime = runtime();
        wait_for(&runtime, async {
            let mut there = tasks::Channel::new(there).unwrap();
            assert_eq!(&there.recv().await.unwrap().payload()[..], b"carries");
            assert_eq!(&there.recv().await.unwrap().payload()[..], b"plain");
        });
    });
}

/// A short read without descriptors took all that was there, also where such as carry some come next: who has had one need
/// not look again before the kernel tells of more. What comes then wakes it, and so does the end.
#[test]
fn short_read_without_descriptors_is_drained() {
    alone(|| {
        let (here, there) = Socket::pair().unwrap();
        let file = null();
        here.send(&[IoSlice::new(b"plain")], &[]).unwrap();
        here.send(&[IoSlice::new(b"carries")], &[file.as_fd()]).unwrap();
        let (mut buffer, mut descriptors) = ([0; 64], Vec::new());
        assert_eq!(there.receive(&mut buffer, &mut descriptors).unwrap(), Received::Bytes(12));
        assert_eq!(descriptors.len(), 1, "it goes on to bytes with descriptors, and stops behind them");

        let (mut here, there) = Channel::pair().unwrap();
        wait_for(&runtime(), async {
            let mut there = tasks::Channel::new(there).unwrap();
            for round in 0..3 {
                here.try_send(message(b"plain", vec![])).unwrap();
                here.try_send(message(b"carries", vec![null()])).unwrap();
                here.try_send(message(b"plain too", vec![])).unwrap();
                assert!(here.flush().unwrap());
                for expected in [&b"plain"[..], b"carries", b"plain too"] {
                    assert_eq!(&there.recv().await.unwrap().payload()[..], expected, "round {round}");
                }
            }
            here.try_send(message(b"the last", vec![])).unwrap();
            assert!(here.flush().unwrap());
            drop(here);
            assert_eq!(&there.recv().await.unwrap().payload()[..], b"the last");
            assert!(matches!(there.recv().await, Err(Error::PeerGone)));
        });
    });
}

/// The same where the reader is told of a death rather than of bytes: last words end at `would block`, not at the first
/// short read.
#[test]
fn short_read_does_not_end_the_last_words() {
    alone(|| {
        let now = Instant::now();
        let (mut here, mut there) = pair(Config::new());
        // Another holds a copy of the peer's end: the stream doesn't end.
        let copy = raw(&here);
        for _ in 0..3 {
            here.send(Lane::Data, b"carries", vec![null()]).unwrap();
            here.send(Lane::Data, b"plain", vec![]).unwrap();
        }
        assert!(here.flush(now));
        drop(here);
        there.handle_exit(now);
        let words: Vec<usize> = (0..6).map(|_| expect_message(&mut there).1.len()).collect();
        assert_eq!(words, [1, 0, 1, 0, 1, 0]);
        assert!(matches!(expect_closed(&mut there), Error::PeerGone));
        drop(copy);
    });
}

/// Bytes read without room for descriptors lose them, silently. So each read has room, even one of a single byte.
#[test]
fn read_eats_no_descriptors() {
    alone(|| {
        let (readers, writers) = pipes(5);
        let mut readers = readers.into_iter();
        let (here, there) = Socket::pair().unwrap();
        let mut outbox = Outbox::new();
        for count in [1, 0, 3, 1] {
            let descriptors = readers.by_ref().take(count).collect();
            outbox.push(message(b"payload", descriptors)).unwrap();
        }
        while let Some(transmit) = outbox.poll_transmit() {
            let descriptors: Vec<_> = transmit.descriptors().iter().map(AsFd::as_fd).collect();
            here.send(&[IoSlice::new(&transmit.bytes()[..1])], &descriptors).unwrap();
            outbox.handle_sent(1);
        }
        let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
        let (mut byte, mut arrived) = ([0; 1], Vec::new());
        while let Received::Bytes(1) = there.receive(&mut byte, &mut arrived).unwrap() {
            decoder.push(&byte, arrived.drain(..)).unwrap();
            frames.extend(decoder.poll_frame().unwrap());
        }
        let counts: Vec<usize> = frames.iter().map(|frame| frame.descriptors().len()).collect();
        assert_eq!(counts, [1, 0, 3, 1]);
        let descriptors = frames.iter().flat_map(Frame::descriptors);
        assert!(descriptors.zip(&writers).all(|(reader, writer)| is_of(reader, writer)), "each its own");
    });
}

/// The kernel takes descriptors without a byte, says "success", and loses them.
#[test]
fn zero_length_body_eats_no_descriptors() {
    alone(|| {
        let (here, there) = Socket::pair().unwrap();
        let (readers, writers) = pipes(1);
        for body in [&[][..], &[IoSlice::new(b"")], &[IoSlice::new(b""), IoSlice::new(b"")]] {
            let sent = here.send(body, &[readers[0].as_fd()]);
            assert!(matches!(sent, Err(Error::Os { .. })), "got {sent:?}");
        }
        let (mut buffer, mut arrived) = ([0; 64], Vec::new());
        assert_eq!(there.receive(&mut buffer, &mut arrived).unwrap(), Received::WouldBlock);
        assert!(!is_closed_everywhere(&writers[0]), "what was not sent is still the sender's");
        // A message without bytes has a header, so its descriptors arrive.
        for driver in Driver::BOTH {
            let (mut here, there) = pair(Config::new());
            here.send(Lane::Data, b"", vec![readers[0].try_clone().unwrap()]).unwrap();
            assert!(here.flush(Instant::now()));
            let parcel = End::new(driver, there).message().unwrap().unwrap();
            assert!(parcel.value.is_empty() && is_of(&parcel.descriptors[0], &writers[0]), "{driver:?}");
        }
    });
}

/// Room for n descriptors may admit n + 1, because control messages are padded. So what arrives is counted against what
/// frames claim, and what nobody claims is closed.
#[test]
fn cmsg_padding_admits_no_unclaimed_descriptor() {
    alone(|| {
        raise_limit();
        let (here, mut there) = pair(Config::new());
        let evil = raw(&here);
        let base = open_descriptors().len();
        let mut claimed = 0;
        let error = loop {
            let two = nulls(2);
            write_raw(&evil, &frame(MESSAGE, KNOWN, 1, b"claims one"), &two);
            drop(two);
            match wait_for_event(&mut there) {
                cluster_ipc::session::Event::Message(message) => {
                    let (_, descriptors, charge) = message.into_parts();
                    assert_eq!(descriptors.len(), 1, "as many as the header claims");
                    there.handled(charge);
                    claimed += 1;
                    let waiting = open_descriptors().len() - base - 1;
                    assert!(waiting <= 2 * MAX_DESCRIPTORS, "what waits unclaimed is bounded");
                }
                cluster_ipc::session::Event::Closed(error) => break error,
                other => panic!("got {other:?}"),
            }
        };
        assert!(matches!(error, Error::DescriptorsUnclaimed { .. }), "got {error:?}");
        assert!(claimed >= MAX_DESCRIPTORS, "one full frame's worth may wait");
        assert_eq!(open_descriptors().len(), base, "those that nobody claimed are closed at once");

        let (here, mut there) = pair(Config::new());
        let evil = raw(&here);
        let (readers, writers) = pipes(1);
        write_raw(&evil, &frame(MESSAGE, KNOWN, 2, b"claims two"), &readers);
        drop(readers);
        let error = expect_closed(&mut there);
        assert!(matches!(error, Error::DescriptorsMissing { claimed: 2, waiting: 1 }), "got {error:?}");
        assert!(is_closed_everywhere(&writers[0]), "the one that came is closed");

        // There is room for as many as the kernel lets through.
        let (mut here, mut there) = pair(Config::new());
        here.send(Lane::Data, b"as many as may be", nulls(MAX_DESCRIPTORS)).unwrap();
        here.flush(Instant::now());
        assert_eq!(expect_message(&mut there).1.len(), MAX_DESCRIPTORS);
    });
}

/// At the limit of open files some descriptors are lost on arrival. Nobody can know whose: the connection ends, and those
/// that did arrive are closed.
#[test]
fn ctrunc_at_emfile_is_an_error_and_leaks_nothing() {
    alone(|| {
        for driver in Driver::BOTH {
            let (mut here, there) = pair(Config::new());
            let mut there = End::new(driver, there);
            here.send(Lane::Data, b"first", vec![]).unwrap();
            here.flush(Instant::now());
            assert_eq!(&there.message().unwrap().unwrap().value[..], b"first");
            let (readers, writers) = pipes(5);
            here.send(Lane::Data, b"five", readers).unwrap();
            here.flush(Instant::now());
            let before = open_descriptors().len();
            let received = with_room_for(2, || there.message());
            assert!(matches!(received, Err(Error::DescriptorsLost)), "{driver:?} got {received:?}");
            assert_eq!(open_descriptors().len(), before, "{driver:?} leaks");
            assert!(writers.iter().all(is_closed_everywhere), "{driver:?} keeps descriptors");
            // It is final, for all who hold a part of the connection.
            assert!(matches!(there.message(), Err(Error::DescriptorsLost)));
            assert!(matches!(there.send(b"more", vec![]), Err(Error::DescriptorsLost)));
            assert!(matches!(there.request(b"more", vec![]), Err(Error::DescriptorsLost)));
        }
    });
}

/// Whoever waits for an answer must learn that none will come, even if nobody drops the dead connection.
#[test]
fn ctrunc_at_emfile_is_told_to_the_peer() {
    alone(|| {
        for driver in Driver::BOTH {
            let (mut here, there) = pair(Config::new());
            let mut there = End::new(driver, there);
            here.request(b"five", nulls(5), None, Instant::now()).unwrap();
            here.flush(Instant::now());
            let received = with_room_for(2, || there.message());
            assert!(matches!(received, Err(Error::DescriptorsLost)), "{driver:?} got {received:?}");
            let completed = wait_for_event(&mut here);
            assert!(
                matches!(
                    completed,
                    cluster_ipc::session::Event::Completed(_, cluster_ipc::session::Outcome::PeerGone)
                ),
                "{driver:?} got {completed:?}"
            );
        }
    });
}
