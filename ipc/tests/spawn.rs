//! Children with a channel: real processes, of this binary, and of a shell.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "common/alone.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod alone;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::session::{Config, Failure};
use cluster_ipc::{Channel, Error, Socket, Spawn, Welcome, adopt, adopt_stdin};
use rustix::process::{Pid, Signal, kill_process};

use crate::alone::{alone, copy, role};

/// More than a socket takes at once: the child reads the beginning while the parent writes the rest.
const LONG: usize = 300_000;

fn quiet(role: &str) -> Command {
    let mut command = copy(role);
    command.stdout(Stdio::null());
    command
}

/// In the child: doubles the number that each request is, until the parent says that this was all.
fn double(endpoint: Endpoint) {
    let (_sender, receiver): (Sender<()>, Receiver<u64>) = endpoint.split();
    receiver.serve(|number| if number < 1000 { Ok(number * 2) } else { Err("too many".to_owned()) }).unwrap();
}

/// In the parent: two requests, one of which fails.
fn ask(endpoint: Endpoint) {
    let (sender, _receiver): (Sender<u64>, Receiver<()>) = endpoint.split();
    let client = sender.client::<u64>();
    assert_eq!(client.request(&21).unwrap(), 42);
    let refused = client.request(&1000).unwrap_err();
    assert!(matches!(refused, Error::Failed(Failure::Refused { reason }) if reason == "too many"));
}

#[test]
fn a_child_gets_a_long_greeting_and_descriptors() {
    if role().as_deref() == Some("child") {
        let adopted = adopt().unwrap();
        assert!(matches!(adopt(), Err(Error::AlreadyAdopted)), "once is enough");
        let endpoint = Endpoint::new(adopted.connect(Config::new(), &vec![9; LONG]).unwrap()).unwrap();
        let mut opened = endpoint.opened().unwrap();
        assert!(opened.payload().len() == LONG && opened.payload().iter().all(|byte| *byte == 7));
        let mut descriptors = opened.take_descriptors();
        std::fs::File::from(descriptors.remove(1)).write_all(b"hello").unwrap();
        drop(descriptors);
        return double(endpoint);
    }
    alone(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let (other, _) = std::io::pipe().unwrap();
        let spawn = Spawn::from(quiet("child")).greeting(vec![7; LONG]);
        let (mut child, connection) =
            spawn.descriptors(vec![OwnedFd::from(other), OwnedFd::from(writer)]).spawn().unwrap();
        let endpoint = Endpoint::new(connection).unwrap();
        assert_eq!(endpoint.opened().unwrap().payload().len(), LONG, "the child's may be as long");
        assert_eq!(std::io::read_to_string(reader).unwrap(), "hello");
        ask(endpoint);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_channel_on_another_descriptor_leaves_stdin_to_the_child() {
    if role().as_deref() == Some("child") {
        let adopted = adopt().unwrap();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        assert_eq!(line, "typed by somebody\n");
        return double(Endpoint::new(adopted.connect(Config::new(), b"").unwrap()).unwrap());
    }
    alone(|| {
        let mut command = quiet("child");
        command.stdin(Stdio::piped());
        let (mut child, connection) = Spawn::from(command).on_descriptor(7).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed by somebody\n").unwrap();
        ask(Endpoint::new(connection).unwrap());
        assert!(child.wait().unwrap().success());
    });
}

/// What is wrong, and what to do about it.
fn assert_is_helpful(error: &Error) {
    assert!(matches!(error, Error::NotAdopted { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("CLUSTER_IPC_FD") && text.contains("parent"), "{text}");
}

#[test]
fn a_process_that_nobody_gave_a_channel_is_told_so() {
    if role().as_deref() == Some("child") {
        assert_is_helpful(&adopt().unwrap_err());
        assert!(adopt_stdin().unwrap().is_none());
        return;
    }
    alone(|| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        // A socket in which somebody speaks, but no parent of this kind.
        (&ours).write_all(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n").unwrap();
        let stdins = [
            OwnedFd::from(std::fs::File::open("/dev/null").unwrap()),
            OwnedFd::from(theirs),
            OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()),
        ];
        for stdin in &stdins {
            for variable in [None, Some("0"), Some("7"), Some("-1"), Some("nonsense")] {
                let mut command = quiet("child");
                command.env_remove("CLUSTER_IPC_FD").stdin(stdin.try_clone().unwrap());
                if let Some(value) = variable {
                    command.env("CLUSTER_IPC_FD", value);
                }
                assert!(command.status().unwrap().success(), "{variable:?}, {stdin:?}");
            }
        }
    });
}

/// The same command with its stdin as descriptor 7, and nothing on stdin.
fn on_seven(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 7<&0 </dev/null", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).stdout(Stdio::null());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// The variable is inherited, the channel is not; and what now has its number is not taken for it.
#[test]
fn a_grandchild_inherits_the_variable_and_is_no_child_by_that() {
    match role().as_deref() {
        Some("child") => {
            let adopted = adopt().unwrap();
            assert!(quiet("grandchild").stdin(Stdio::null()).status().unwrap().success());
            // On the same number: a channel, but one that the parent of another left there.
            let (ours, theirs) = Socket::pair().unwrap();
            let mut other = Channel::new(ours);
            other.try_send(Welcome::frame(1, b"for another", vec![])).unwrap();
            other.flush().unwrap();
            let copied = theirs.into_fd();
            let grandchild = on_seven(&quiet("grandchild")).stdin(copied.try_clone().unwrap()).status();
            assert!(grandchild.unwrap().success());
            let left = Channel::new(Socket::from_fd(copied)).poll_frame().unwrap().unwrap();
            assert_eq!(Welcome::parse(&left).unwrap().parent(), 1, "it was looked at and not taken");
            return double(Endpoint::new(adopted.connect(Config::new(), b"").unwrap()).unwrap());
        }
        Some("grandchild") => {
            assert_eq!(std::env::var("CLUSTER_IPC_FD").unwrap(), "7");
            return assert_is_helpful(&adopt().unwrap_err());
        }
        _ => {}
    }
    alone(|| {
        let (mut child, connection) = Spawn::from(quiet("child")).on_descriptor(7).spawn().unwrap();
        ask(Endpoint::new(connection).unwrap());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    alone(|| {
        for number in [None, Some(7)] {
            let mut spawn = Spawn::new("/no/such/program").greeting("hello");
            if let Some(number) = number {
                spawn = spawn.on_descriptor(number);
            }
            let error = spawn.spawn().unwrap_err();
            assert!(matches!(error, Error::Spawn { .. }), "{error:?}");
            assert!(error.to_string().contains("/no/such/program"), "{error}");
        }
        let error = Spawn::new("true").greeting(vec![0; 2 << 20]).spawn().unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    });
}

/// A shell that ends at once and leaves a grandchild behind with its stdin, which is the channel: no end of the stream
/// tells of the child's death.
#[test]
fn a_child_that_dies_is_noticed_though_a_grandchild_holds_the_channel() {
    alone(|| {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0; sleep 600 >/dev/null & echo $!"]).stdout(Stdio::piped());
        let (mut child, connection) = Spawn::from(command).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let opened = Endpoint::new(connection).unwrap().opened();
        let still_there = kill_process(grandchild, Signal::KILL).is_ok();
        assert!(matches!(opened, Err(Error::PeerGone)), "{opened:?}");
        assert!(still_there, "the grandchild held the channel all the time");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_child_that_does_not_know_the_protocol_is_not_waited_for_long() {
    alone(|| {
        // It never reads, and would live on.
        let mut command = Command::new("sleep");
        command.arg("600");
        let config = Config::new().handshake_timeout(std::time::Duration::from_millis(100));
        let (mut child, connection) = Spawn::from(command).config(config).spawn().unwrap();
        let opened = Endpoint::new(connection).unwrap().opened();
        assert!(matches!(opened, Err(Error::HandshakeTimeout)), "{opened:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
