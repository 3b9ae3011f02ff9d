//! Descriptors of a capture. One test, so that they can be counted.
#![cfg(feature = "os")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and has a clock and threads"
)]

#[path = "output/children.rs"]
mod children;
mod processes;

use std::os::fd::AsFd;

use children::{capture, standing_still, start};
use cluster_supervisor::os::{CaptureLimits, Stream, open_descriptors};
use processes::{DEADLINE, until};
use rustix::fs::OFlags;
use rustix::io::FdFlags;

#[test]
fn none_is_left_over_however_a_child_or_the_capture_ends() {
    let before = open_descriptors().unwrap();
    children_that_end_and_are_finished();
    assert_eq!(open_descriptors().unwrap(), before);
    pipes_close_at_their_end_and_at_finish();
    assert_eq!(open_descriptors().unwrap(), before);
    a_capture_is_dropped_with_all_its_pipes();
    assert_eq!(open_descriptors().unwrap(), before);
    a_capture_whose_sink_stands_still_is_dropped();
    assert_eq!(open_descriptors().unwrap(), before);
    what_can_not_be_watched_is_closed();
    assert_eq!(open_descriptors().unwrap(), before);
    what_is_watched_is_non_blocking_and_close_on_exec();
    assert_eq!(open_descriptors().unwrap(), before);
}

fn children_that_end_and_are_finished() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let own = open_descriptors().unwrap();
    for key in 0..20 {
        start(&capture, key, "echo a; echo b >&2").wait();
        capture.finish(key).unwrap();
    }
    assert_eq!(open_descriptors().unwrap(), own);
    capture.close(DEADLINE).unwrap();
}

fn pipes_close_at_their_end_and_at_finish() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let own = open_descriptors().unwrap();
    let (pipe, writer) = std::io::pipe().unwrap();
    capture.watch(1, Stream::Stdout, pipe).unwrap();
    drop(writer);
    until("it is closed at its end", || open_descriptors().unwrap() == own);
    let (pipe, writer) = std::io::pipe().unwrap();
    capture.watch(1, Stream::Stderr, pipe).unwrap();
    capture.finish(1).unwrap();
    assert_eq!(open_descriptors().unwrap(), own + 1, "only the other end is open");
    drop(writer);
}

fn a_capture_is_dropped_with_all_its_pipes() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let mut writers = Vec::new();
    for key in 0..10 {
        let (pipe, writer) = std::io::pipe().unwrap();
        capture.watch(key, Stream::Stdout, pipe).unwrap();
        writers.push(writer);
    }
    drop(capture);
    for mut writer in writers {
        let error = std::io::Write::write(&mut writer, b"a").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}

fn a_capture_whose_sink_stands_still_is_dropped() {
    let (capture, open, gone) = standing_still();
    let mut child = start(&capture, 1, "yes");
    until("there are lines", || !capture.tail(1).unwrap().is_empty());
    let with_sink = open_descriptors().unwrap();
    drop(capture);
    // Both pipes, epoll and its bell: the sink's thread, which still stands, must hold none of them.
    assert_eq!(open_descriptors().unwrap(), with_sink - 4);
    child.wait();
    drop(open);
    assert!(gone.recv_timeout(DEADLINE).is_err(), "the sink is dropped");
}

fn what_can_not_be_watched_is_closed() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let own = open_descriptors().unwrap();
    assert!(capture.watch(1, Stream::Stdout, std::fs::File::open("/dev/null").unwrap()).is_err());
    assert_eq!(open_descriptors().unwrap(), own);
    capture.close(DEADLINE).unwrap();
}

fn what_is_watched_is_non_blocking_and_close_on_exec() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let (pipe, writer) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&pipe, FdFlags::empty()).unwrap();
    // A copy shows what is of the description; the flag of the descriptor is shown by /proc.
    let copy = pipe.as_fd().try_clone_to_owned().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&pipe);
    capture.watch(1, Stream::Stdout, pipe).unwrap();
    assert!(rustix::fs::fcntl_getfl(&copy).unwrap().contains(OFlags::NONBLOCK));
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & OFlags::CLOEXEC.bits(), 0, "{info}");
    drop(writer);
    capture.close(DEADLINE).unwrap();
}
