//! A child that finds its channel on stdin, in real processes: this test starts itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster_ipc::{Channel, Error, Kind, Online, Socket, Welcome, adopt_stdin};

/// Tells the copy of this test that runs as the child what to do; the library itself needs no such variable.
const CHILD: &str = "CLUSTER_IPC_TEST_CHILD";

fn run_child(test: &str, stdin: Stdio) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(stdin)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn a_child_finds_its_welcome_and_answers() {
    if is_child() {
        assert!(cluster_ipc::is_child() && cluster_ipc::is_child(), "looking consumes nothing");
        let (mut channel, welcome, descriptors) = adopt_stdin().unwrap().unwrap().into_parts();
        assert!(cluster_ipc::is_child(), "it still is one");
        assert!(matches!(adopt_stdin(), Err(Error::AlreadyAdopted)));
        let stdin = std::fs::read_link("/proc/self/fd/0").unwrap();
        let answer = format!("{} {} {}", welcome.payload().len(), descriptors.len(), stdin.display());
        channel.try_send(Online::frame(answer)).unwrap();
        channel.flush().unwrap();
        return;
    }
    let (ours, theirs) = Socket::pair().unwrap();
    let mut channel = Channel::new(ours);
    let (keep, _) = std::io::pipe().unwrap();
    channel.try_send(Welcome::frame(std::process::id(), b"hello", vec![keep.into()])).unwrap();
    channel.flush().unwrap();
    let mut child = run_child("a_child_finds_its_welcome_and_answers", theirs.into_fd().into());
    assert!(child.wait().unwrap().success());
    let answer = Online::parse(&channel.poll_frame().unwrap().unwrap()).unwrap();
    assert_eq!(&answer.payload()[..], b"5 1 /dev/null");
    // Another test may be between fork and exec, with a copy of everything.
    let deadline = Instant::now() + Duration::from_secs(30);
    let end = loop {
        match channel.poll_frame() {
            Ok(None) if Instant::now() < deadline => std::thread::yield_now(),
            end => break end,
        }
    };
    assert!(matches!(end, Err(Error::PeerGone)), "the child kept its end to itself");
}

#[test]
fn a_process_that_no_parent_of_ours_started_adopts_nothing() {
    assert!(!cluster_ipc::is_child());
    if is_child() {
        assert!(adopt_stdin().unwrap().is_none());
        return;
    }
    let test = "a_process_that_no_parent_of_ours_started_adopts_nothing";
    let (talkative, _) = {
        let (ours, theirs) = Socket::pair().unwrap();
        ours.send(&[std::io::IoSlice::new(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n")], &[]).unwrap();
        (theirs.into_fd(), ours)
    };
    for stdin in [Stdio::null(), Stdio::piped(), talkative.into()] {
        assert!(run_child(test, stdin).wait().unwrap().success());
    }
}

#[test]
fn a_child_says_why_it_rejects_a_welcome() {
    if is_child() {
        assert!(matches!(adopt_stdin(), Err(Error::Version { min: 9, max: 9, .. })));
        return;
    }
    let (ours, theirs) = Socket::pair().unwrap();
    let mut channel = Channel::new(ours);
    let mut payload = Welcome::frame::<u8>(std::process::id(), b"", vec![]).payload().to_vec();
    payload[4..8].copy_from_slice(&[9, 0, 9, 0]);
    channel.try_send(cluster_ipc::Frame::new(Kind::Welcome, 0, payload)).unwrap();
    channel.flush().unwrap();
    let mut child = run_child("a_child_says_why_it_rejects_a_welcome", theirs.into_fd().into());
    assert!(child.wait().unwrap().success());
    let error = Online::parse(&channel.poll_frame().unwrap().unwrap()).unwrap_err();
    assert!(error.to_string().contains("speaks protocol versions 9 to 9"), "{error}");
}

#[test]
fn a_child_whose_parent_is_another_is_an_orphan() {
    if is_child() {
        assert!(matches!(adopt_stdin(), Err(Error::Orphaned { parent: 1 })));
        return;
    }
    let (ours, theirs) = Socket::pair().unwrap();
    let mut channel = Channel::new(ours);
    channel.try_send(Welcome::frame(1, b"", vec![])).unwrap();
    channel.flush().unwrap();
    let mut child = run_child("a_child_whose_parent_is_another_is_an_orphan", theirs.into_fd().into());
    assert!(child.wait().unwrap().success());
}
