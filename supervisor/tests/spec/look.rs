//! Looking at processes from outside, and specifications to look at.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;

use cluster_supervisor::os::{Child, ChildSpec, Executable, Stdio, open_descriptors};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a condition may take to come true. Generous: the machines are shared.
const DEADLINE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Whether tests may do what takes privileges.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process has a capability, by its number in `linux/capability.h`.
pub(crate) fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> number & 1 == 1
}

/// Runs a test and sees that it leaves neither descriptors nor children, not even dead ones.
pub(crate) fn leaving_nothing_behind(test: fn()) {
    let before = open_descriptors().unwrap();
    test();
    assert_eq!(open_descriptors().unwrap(), before, "every descriptor is given back");
    assert_eq!(children(), "", "every child is reaped");
}

/// The pids of this process's children, zombies included.
pub(crate) fn children() -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok()).collect()
}

pub(crate) fn spec(program: &str) -> ChildSpec {
    ChildSpec::new(Executable::find(program).unwrap())
}

/// A specification like that one, started through the trampoline, with a setting that changes nothing.
pub(crate) fn through_trampoline(spec: &ChildSpec) -> ChildSpec {
    let spec = spec.clone().nice(rustix::process::getpriority_process(None).unwrap());
    assert!(spec.needs_trampoline());
    spec
}

/// Waits until a descriptor has something to tell.
#[track_caller]
pub(crate) fn wait_readable(fd: impl AsFd) {
    assert!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&DEADLINE)).unwrap() > 0, "waited in vain");
}

/// Reads until the end, or until `enough`.
pub(crate) fn read_until(from: &mut (impl Read + AsFd), enough: impl Fn(&[u8]) -> bool) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while !enough(&bytes) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_readable(&*from);
            }
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What a child writes to stdout until its end.
pub(crate) fn output(spec: &ChildSpec) -> String {
    let mut child = spec.clone().stdout(Stdio::Piped).spawn().unwrap();
    let text = read_until(&mut child.take_stdout().unwrap(), |_| false);
    child.wait().unwrap();
    text
}

/// A running `cat`, past its start.
pub(crate) struct Cat {
    pub(crate) child: Child,
    /// It would end with them.
    _ends: (PipeWriter, PipeReader),
}

impl Cat {
    pub(crate) fn start(with: impl FnOnce(ChildSpec) -> ChildSpec) -> Self {
        let spec = with(spec("cat").stdin(Stdio::Piped).stdout(Stdio::Piped));
        Self::running(spec.spawn().unwrap())
    }

    /// Waits until it answers: only then its loader has closed what it had open.
    fn running(mut child: Child) -> Self {
        let mut stdin = child.take_stdin().unwrap();
        stdin.write_all(b"x").unwrap();
        let mut stdout = child.take_stdout().unwrap();
        assert_eq!(read_until(&mut stdout, |bytes| !bytes.is_empty()), "x");
        Self { child, _ends: (stdin, stdout) }
    }

    pub(crate) fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.pid())).unwrap()
    }

    /// A line of its status, such as `Umask`.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// A field of its stat, counted as in `man 5 proc_pid_stat`.
    pub(crate) fn stat(&self, field: usize) -> i32 {
        stat(self.child.pid(), field)
    }

    /// Soft and hard limit.
    pub(crate) fn limit(&self, name: &str) -> (String, String) {
        let limits = self.proc("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = line.split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
    }

    pub(crate) fn env(&self, key: &str) -> Option<String> {
        let environ = self.proc("environ");
        environ.split('\0').find_map(|entry| entry.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    }

    pub(crate) fn descriptors(&self) -> BTreeSet<u32> {
        let listing = fs::read_dir(format!("/proc/{}/fd", self.child.pid())).unwrap();
        listing.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn end(self) {
        self.child.kill_and_reap().unwrap();
    }
}

/// A field of a process's stat, counted as in `man 5 proc_pid_stat`.
pub(crate) fn stat(pid: u32, field: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
}
