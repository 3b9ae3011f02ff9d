//! Scenes that need a process of their own: programs without a trampoline, strangers, parents that are killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster_supervisor::StopSignal;
use cluster_supervisor::os::{ChildSpec, Executable, Resource, User, open_descriptors, trampoline};
use rustix::net::SendFlags;

use crate::look::{children, is_root, output, spec, wait_readable};
use crate::settings::{self, NOBODY};
use crate::{failures, notify, plain, privileges};

/// Names the scene that a process is to play.
pub(crate) const SCENE: &str = "CLUSTER_SPEC_SCENE";

/// As in `trampoline/mod.rs`.
pub(crate) const MARKER: &str = "cluster-supervisor-trampoline/1";

/// A process of this program that plays a scene.
pub(crate) fn stage(scene: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(SCENE, scene).stdin(Stdio::null());
    command
}

/// Plays the scene of a program that has no trampoline, or not always. True if that was it.
pub(crate) fn forgets_its_trampoline() -> bool {
    let Ok(scene) = std::env::var(SCENE) else { return false };
    let is_child = std::env::args().next().as_deref() == Some(MARKER);
    match (&*scene, is_child) {
        ("never", false) => {
            let error = spec("true").umask(0).spawn().unwrap_err();
            println!("{error}");
        }
        ("silent" | "ends" | "nonsense", false) => {
            trampoline();
            let before = open_descriptors().unwrap();
            // Only for the one that says nothing is its end waited for.
            let timeout = Duration::from_millis(if scene == "silent" { 300 } else { 60_000 });
            let error = spec("true").umask(0).start_timeout(timeout).spawn().unwrap_err();
            println!("{error}");
            println!("{} {:?}", open_descriptors().unwrap() - before, children());
        }
        // Never spawns: a library that went wrong would make an endless chain of these.
        ("silent" | "never", true) => loop {
            std::thread::park();
        },
        ("ends", true) => std::process::exit(7),
        ("nonsense", true) => {
            let stdin = std::io::stdin();
            rustix::net::send(stdin.as_fd(), b"hello?", SendFlags::NOSIGNAL).unwrap();
            loop {
                std::thread::park();
            }
        }
        _ => return false,
    }
    true
}

/// Plays another scene. True if that was it.
pub(crate) fn play() -> bool {
    match std::env::var(SCENE).as_deref() {
        Ok("parent") => be_a_parent(),
        Ok("order") => {
            let uid = rustix::process::getuid().as_raw();
            let spec = spec("true").limit(Resource::Data, 9, 8).user(User::new(uid, 0));
            println!("{}", spec.spawn().unwrap_err());
        }
        Ok("notify") => notify::send(&std::env::var("NOTIFY_SOCKET").unwrap(), b"READY=1\nSTATUS=up"),
        Ok("attacker") => privileges::attack(),
        Ok("setter") => privileges::be_a_setter_of_users(),
        Ok("powerless") => privileges::be_powerless(),
        Ok("managed") => plain::be_managed(),
        Ok("deaf") => settings::be_deaf(),
        Ok("current") => plain::show_what_is_running(),
        Ok("no_stdin") => plain::close_stdin(),
        Ok("directory") => failures::enter_a_directory(),
        Ok("no_proc") => failures::do_without_proc(),
        Ok("between") => privileges::stand_between(),
        Ok("notify_below") => assert!(stage("notify").status().unwrap().success()),
        _ => return false,
    }
    true
}

fn be_a_parent() -> ! {
    let child = spec("sleep").args(["1000"]).death_signal(StopSignal::Kill).spawn().unwrap();
    println!("{}", child.pid());
    loop {
        std::thread::park();
    }
}

pub(crate) fn limits_are_set_before_the_user() {
    // Somebody to whom both are forbidden is told of the first.
    let spec = ChildSpec::new(Executable::current().unwrap()).env(SCENE, "order");
    let spec = if is_root() { spec.user(User::new(NOBODY, NOBODY)) } else { spec };
    let text = output(&spec);
    assert!(text.starts_with("could not set the limits"), "{text}");
}

pub(crate) fn a_child_follows_a_parent_that_was_killed() {
    let mut parent = stage("parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(cmdline.ends_with(b"1000\0"), "it runs");
    parent.kill().unwrap();
    parent.wait().unwrap();
    // It holds the other end of this pipe, as the last.
    wait_readable(stdout.get_ref());
    line.clear();
    assert_eq!(stdout.read_line(&mut line).unwrap(), 0);
}

pub(crate) fn a_program_without_a_trampoline_is_told_what_to_do() {
    let output = stage("never").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("call `cluster_supervisor::os::trampoline()` first thing in `main`"), "{text}");
}

pub(crate) fn a_child_that_is_no_trampoline_is_ended() {
    for (scene, reason) in [
        ("silent", "did not answer in time (killed by signal 9 (SIGKILL))"),
        ("ends", "ended before the program began (exited with code 7)"),
        ("nonsense", "answered with nonsense (killed by signal 9 (SIGKILL))"),
    ] {
        let output = stage(scene).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let error = lines.next().unwrap();
        assert!(error.contains(reason) && error.contains("first thing in `main`"), "{scene}: {error}");
        assert_eq!(lines.next(), Some("0 \"\""), "{scene}: no descriptor and no child is left");
    }
}

pub(crate) fn a_trampoline_refuses_strangers() {
    let run = |stdin: OwnedFd| {
        let output = Command::new("/proc/self/exe").arg0(MARKER).stdin(stdin).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(File::open("/dev/null").unwrap().into());
    assert_eq!(code, Some(126));
    assert!(text.contains("stdin is no socket"), "{text}");
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let (code, text) = run(theirs.into());
    assert_eq!(code, Some(126));
    assert!(text.contains("stdin is another socket"), "{text}");
    let packets = rustix::net::SocketType::SEQPACKET;
    let pair = || {
        rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            packets,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    };
    let (ours, theirs) = pair();
    rustix::net::send(&ours, b"describe", SendFlags::NOSIGNAL).unwrap();
    let (code, text) = run(theirs);
    assert_eq!(code, Some(126));
    assert!(text.contains("has not sent a description"), "{text}");
    let (ours, theirs) = pair();
    drop(ours);
    let (code, text) = run(theirs);
    assert_eq!(code, Some(126));
    assert!(text.contains("the socket to the parent failed"), "{text}");
    std::io::stdout().flush().unwrap();
}
