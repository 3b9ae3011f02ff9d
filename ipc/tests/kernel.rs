//! What only a kernel shows: descriptors over a real socket, the limit of open files, a peer that dies.
//!
//! One test function, so that this process's descriptors can be counted: a neighbour's would be counted too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};

use cluster_ipc::{Channel, Error, Frame, Handed, Kind, MAX_DESCRIPTORS, Received, Socket, TrySendError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn message(payload: impl Into<Vec<u8>>, descriptors: Vec<OwnedFd>) -> Frame<OwnedFd> {
    Frame::new(Kind::Message, 0, payload.into()).with_descriptors(descriptors)
}

fn each_keeps_the_descriptors(name: &str, check: impl FnOnce()) {
    let before = open_descriptors();
    check();
    assert_eq!(open_descriptors(), before, "{name} leaks descriptors");
}

#[test]
fn a_real_socket_keeps_every_descriptor_accounted_for() {
    each_keeps_the_descriptors("descriptors_follow_their_frame", descriptors_follow_their_frame);
    each_keeps_the_descriptors("a_large_frame_is_sent_in_parts", a_large_frame_is_sent_in_parts);
    each_keeps_the_descriptors("borrowed_descriptors_stay", borrowed_descriptors_stay_the_senders);
    each_keeps_the_descriptors("lost_descriptors_are_an_error", lost_descriptors_are_an_error);
    each_keeps_the_descriptors(
        "in_flight_ones_are_dropped",
        descriptors_in_flight_are_dropped_with_the_receiver,
    );
    each_keeps_the_descriptors("last_words_are_delivered", last_words_are_delivered_before_the_end);
    each_keeps_the_descriptors("unread_input", a_peer_that_died_with_unread_input_is_gone_not_an_error);
    each_keeps_the_descriptors("close_on_exec", everything_is_closed_on_exec);
    each_keeps_the_descriptors("failed_write", a_failed_write_does_not_hide_the_last_words);
}

fn descriptors_follow_their_frame() {
    let (mut here, mut there) = Channel::pair().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    here.try_send(message(*b"plain", vec![])).unwrap();
    here.try_send(message(*b"pipe", vec![reader.into()])).unwrap();
    here.try_send(message(*b"many", (0..MAX_DESCRIPTORS).map(|_| null()).collect())).unwrap();
    assert!(here.flush().unwrap());
    assert_eq!(there.poll_frame().unwrap().unwrap().descriptors().len(), 0);
    let mut with_pipe = there.poll_frame().unwrap().unwrap();
    writer.write_all(b"through the pipe").unwrap();
    drop(writer);
    let pipe = File::from(with_pipe.take_descriptors().remove(0));
    assert_eq!(std::io::read_to_string(pipe).unwrap(), "through the pipe");
    assert_eq!(there.poll_frame().unwrap().unwrap().descriptors().len(), MAX_DESCRIPTORS);
    assert!(there.poll_frame().unwrap().is_none());
}

/// 1 MiB doesn't fit into a socket's buffer: the descriptor must go out once, with the first part.
fn a_large_frame_is_sent_in_parts() {
    let (mut here, mut there) = Channel::pair().unwrap();
    here.try_send(message(vec![b'x'; 1 << 20], vec![null()])).unwrap();
    let mut parts = 0;
    let frame = loop {
        parts += usize::from(!here.flush().unwrap());
        if let Some(frame) = there.poll_frame().unwrap() {
            break frame;
        }
    };
    assert!(parts > 0, "the frame went out in one write: the test shows nothing");
    assert_eq!((frame.payload().len(), frame.descriptors().len()), (1 << 20, 1));
}

fn borrowed_descriptors_stay_the_senders() {
    let (mut here, mut there) = Channel::pair().unwrap();
    let file = null();
    let mut sent = 0;
    while here.send_borrowed(Kind::Message, 0, &[0; 1000], &[file.as_fd()]).unwrap() == Handed::Sent {
        sent += 1;
    }
    assert!(sent > 10, "the socket's buffer takes some");
    let mut received = 0;
    while let Some(frame) = there.poll_frame().unwrap() {
        assert_eq!((frame.payload().len(), frame.descriptors().len()), (1000, 1));
        received += 1;
        // What a partial write left over goes out as soon as there is room.
        here.flush().unwrap();
    }
    assert_eq!(received, sent);
}

/// At the limit of open files the kernel delivers some descriptors and drops the rest.
fn lost_descriptors_are_an_error() {
    let (mut here, mut there) = Channel::pair().unwrap();
    here.try_send(message(*b"five", (0..5).map(|_| null()).collect())).unwrap();
    here.flush().unwrap();
    let limit = getrlimit(Resource::Nofile);
    let highest = null();
    let in_use = std::os::fd::AsRawFd::as_raw_fd(&highest) as u64 + 1;
    setrlimit(Resource::Nofile, Rlimit { current: Some(in_use + 2), maximum: limit.maximum }).unwrap();
    let received = there.poll_frame();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(matches!(received, Err(Error::DescriptorsLost)), "got {received:?}");
    assert!(matches!(there.try_send(message(*b"", vec![])), Err(TrySendError::Closed(_))));
    // Which frames the lost ones belonged to can't be known any more: the error is final.
    here.try_send(message(*b"later", vec![])).unwrap();
    here.flush().unwrap();
    assert!(matches!(there.poll_frame(), Err(Error::PeerGone)));
}

fn descriptors_in_flight_are_dropped_with_the_receiver() {
    let (mut here, there) = Channel::pair().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    here.try_send(message(*b"pipe", vec![reader.into()])).unwrap();
    here.flush().unwrap();
    drop(there);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

fn last_words_are_delivered_before_the_end() {
    let (mut here, mut there) = Channel::pair().unwrap();
    here.try_send(message(*b"last words", vec![null()])).unwrap();
    here.flush().unwrap();
    drop(here);
    assert_eq!(&there.poll_frame().unwrap().unwrap().payload()[..], b"last words");
    assert!(matches!(there.poll_frame(), Err(Error::PeerGone)));
    assert!(matches!(there.try_send(message(*b"late", vec![])), Err(TrySendError::Closed(_))));
}

fn a_failed_write_does_not_hide_the_last_words() {
    let (mut here, mut there) = Channel::pair().unwrap();
    here.try_send(message(*b"last words", vec![])).unwrap();
    here.flush().unwrap();
    drop(here);
    there.try_send(message(*b"too late", vec![])).unwrap();
    assert!(matches!(there.flush(), Err(Error::PeerGone)));
    assert_eq!(&there.poll_frame().unwrap().unwrap().payload()[..], b"last words");
    assert!(matches!(there.poll_frame(), Err(Error::PeerGone)));
}

fn a_peer_that_died_with_unread_input_is_gone_not_an_error() {
    let (here, there) = Socket::pair().unwrap();
    here.send(&[IoSlice::new(b"unread")], &[]).unwrap();
    there.send(&[IoSlice::new(b"last words")], &[]).unwrap();
    drop(there);
    let (mut buffer, mut none) = ([0; 64], Vec::new());
    assert_eq!(here.receive(&mut buffer, &mut none).unwrap(), Received::Bytes(10));
    assert_eq!(here.receive(&mut buffer, &mut none).unwrap(), Received::PeerGone);
    // Would raise SIGPIPE and end the test if the guard were missing.
    assert!(matches!(here.send(&[IoSlice::new(b"x")], &[]), Err(Error::PeerGone)));
}

fn everything_is_closed_on_exec() {
    let (mut here, mut there) = Channel::pair().unwrap();
    here.try_send(message(*b"one", vec![null()])).unwrap();
    here.flush().unwrap();
    let frame = there.poll_frame().unwrap().unwrap();
    for fd in [here.as_fd(), there.as_fd(), frame.descriptors()[0].as_fd()] {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
