//! System calls that a signal interrupts.

use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster_ipc::session::{Config, Event};
use cluster_ipc::{Error, Kind, Lane, Online, Outbox, Socket, Welcome, adopt_stdin};
use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::alone::{alone, copy, is_asleep, role, thread, until};
use crate::sys;
use crate::wires::{Driver, End, expect_message, pair, wait_for_event, wait_until_ready, write_raw};

/// How often each wait is interrupted.
const TIMES: usize = 50;

/// A wait that is interrupted goes on. (Reads and writes never wait here, so the kernel has no reason to interrupt them; a
/// write to memory can't be interrupted.)
#[test]
fn eintr_ends_no_wait() {
    alone(|| {
        sys::interrupt_by(Signal::USR1);
        for driver in Driver::BOTH {
            // For a message.
            let (mut here, there) = pair(Config::new());
            let waiting = thread("waits", move || {
                let mut there = End::new(driver, there);
                (there.message(), there)
            });
            interrupt(&waiting);
            here.send(Lane::Data, b"after all", vec![]).unwrap();
            here.flush(Instant::now());
            let (message, there) = waiting.join().unwrap();
            assert_eq!(&message.unwrap().unwrap().value[..], b"after all", "{driver:?}");

            // For an answer.
            let waiting = thread("waits", move || (there.request(b"question", vec![]), there));
            interrupt(&waiting);
            let Event::Request { id, .. } = wait_for_event(&mut here) else { panic!("a request is next") };
            here.respond(id, b"answer", vec![]).unwrap();
            here.flush(Instant::now());
            let (answer, there) = waiting.join().unwrap();
            assert_eq!(&answer.unwrap().0[..], b"answer", "{driver:?}");

            // For room to write.
            let waiting = thread("waits", move || (there.send(&vec![1; 1 << 20], vec![]), there));
            interrupt(&waiting);
            assert_eq!(expect_message(&mut here).0.len(), 1 << 20, "{driver:?}");
            waiting.join().unwrap().0.unwrap();
        }
    });
}

fn interrupt<T>(thread: &std::thread::JoinHandle<T>) {
    for _ in 0..TIMES {
        until("the thread waits", || is_asleep("waits"));
        let before = sys::handled();
        sys::interrupt(thread, Signal::USR1);
        until("the signal was handled", || sys::handled() > before);
    }
    assert!(!thread.is_finished());
}

/// A child that waits for the rest of its Welcome.
#[test]
fn eintr_does_not_end_an_adoption() {
    if role().as_deref() == Some("child") {
        sys::interrupt_by(Signal::USR1);
        let adopting = thread("waits", adopt_stdin);
        interrupt(&adopting);
        #[allow(clippy::print_stdout, reason = "this is how the parent knows")]
        {
            println!("ready");
        }
        let (mut channel, welcome, _) = adopting.join().unwrap().unwrap().unwrap().into_parts();
        assert_eq!(welcome.payload().len(), 10_000);
        channel.try_send(Online::frame(sys::handled().to_string())).unwrap();
        channel.flush().unwrap();
        return;
    }
    alone(|| {
        let (ours, theirs) = Socket::pair().unwrap();
        let mut outbox = Outbox::<std::os::fd::OwnedFd>::new();
        outbox.push(Welcome::frame(std::process::id(), [1; 10_000], vec![])).unwrap();
        let bytes = outbox.poll_transmit().unwrap().bytes().to_vec();
        write_raw(&ours, &bytes[..100], &[]);
        let mut command = copy("child");
        let mut child = command.stdin(Stdio::from(theirs.into_fd())).stdout(Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0, "the child ended early");
        }
        write_raw(&ours, &bytes[100..], &[]);
        let mut channel = cluster_ipc::Channel::new(ours);
        let answer = loop {
            match channel.poll_frame() {
                Ok(Some(frame)) if frame.kind() == Kind::Online => break Online::parse(&frame).unwrap(),
                Ok(None) => drop(wait_until_ready(channel.as_fd(), PollFlags::IN, Duration::from_secs(1))),
                Err(Error::PeerGone) => panic!("the child gave up: {}", child.wait().unwrap()),
                other => panic!("got {other:?}"),
            }
        };
        let handled: usize = std::str::from_utf8(answer.payload()).unwrap().parse().unwrap();
        assert!(handled >= TIMES, "it was interrupted");
        assert!(child.wait().unwrap().success());
    });
}
