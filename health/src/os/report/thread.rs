//! One thread: its state, and what it waits in.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::stat::{Stat, State};
use super::system_call::{Call, SystemCall};
use crate::os::files::read_at;
use crate::os::text::{behind, number};

/// What one thread of a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadReport {
    pub(super) tid: u32,
    pub(super) stat: Stat,
    pub(super) wait_channel: Option<String>,
    pub(super) call: Option<Call>,
    pub(super) switches: Option<Switches>,
    /// Whether it was in this state in both of two looks.
    pub(super) still: bool,
}

impl ThreadReport {
    /// Looks at a thread in the folder `task`. `None` if it has ended, or may not be looked at.
    pub(super) fn of(task: impl AsFd, tid: u32) -> Option<Self> {
        let task = task.as_fd();
        let file = |name: &str| read_at(task, format!("{tid}/{name}"));
        let stat = stat(task, tid)?;
        let wait_channel = file("wchan").and_then(|text| parse_wait_channel(&text));
        let call = file("syscall").and_then(|text| Call::parse(&text));
        let switches = file("status").and_then(|status| Switches::parse(&status));
        Some(Self { tid, stat, wait_channel, call, switches, still: false })
    }

    /// Notes whether it is in the same state still, if that is one that others pass through.
    pub(super) fn look_again(&mut self, task: impl AsFd) {
        self.still = match self.stat.state {
            state @ (State::Running | State::Uninterruptible) => {
                stat(task.as_fd(), self.tid).is_some_and(|stat| stat.state == state)
            }
            _ => true,
        };
    }

    /// Its id: that of the process, if it is the first one.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// What it calls itself: words of its choice, to be escaped where they are printed.
    pub fn name(&self) -> &str {
        &self.stat.name
    }

    /// What it does.
    pub fn state(&self) -> State {
        self.stat.state
    }

    /// The function of the kernel in which it waits (`wchan`).
    pub fn wait_channel(&self) -> Option<&str> {
        self.wait_channel.as_deref()
    }

    /// The system call in which it waits. `None` also while it runs.
    pub fn system_call(&self) -> Option<SystemCall> {
        self.call.and_then(Call::inside)
    }

    /// The processor time that it has used, in the coarse ticks of `/proc`.
    pub fn processor_time(&self) -> Duration {
        self.stat.processor
    }

    /// How often it has left a processor so far.
    pub fn switches(&self) -> Option<Switches> {
        self.switches
    }
}

fn stat(task: BorrowedFd<'_>, tid: u32) -> Option<Stat> {
    Stat::parse(&read_at(task, format!("{tid}/stat"))?)
}

/// By which all system calls enter the kernel: where the stack can't be followed further, they are named, and say nothing.
const ENTRIES: [&str; 4] = ["do_syscall_", "el0_", "entry_", "x64_sys_call"];

/// The name of a function, or `None` if there is none: `0` is written where it is not known or not for us.
fn parse_wait_channel(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let is_symbol = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    if text.is_empty() || text == b"0" || text.len() > 128 || !text.iter().all(is_symbol) {
        return None;
    }
    let name = String::from_utf8(text.to_vec()).ok()?;
    (!ENTRIES.iter().any(|entry| name.starts_with(entry))).then_some(name)
}

/// How often a thread, or several, left a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    voluntary: u64,
    forced: u64,
}

impl Switches {
    /// Because it had to wait for something.
    pub fn voluntary(self) -> u64 {
        self.voluntary
    }

    /// Because its time was up, or somebody else was more important.
    pub fn forced(self) -> u64 {
        self.forced
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            voluntary: self.voluntary.saturating_add(other.voluntary),
            forced: self.forced.saturating_add(other.forced),
        }
    }

    pub(super) fn parse(status: &[u8]) -> Option<Self> {
        let field = |name| behind(status, name).and_then(number);
        Some(Self {
            voluntary: field("voluntary_ctxt_switches:")?,
            forced: field("nonvoluntary_ctxt_switches:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wait_channel_is_the_name_of_a_function() {
        assert_eq!(parse_wait_channel(b"futex_wait_queue").as_deref(), Some("futex_wait_queue"));
        assert_eq!(parse_wait_channel(b"nfs_wait_bit.part.0\n").as_deref(), Some("nfs_wait_bit.part.0"));
        for none in [&b"0"[..], b"", b"do_syscall_64", b"a b", b"\x1b[31m", &[b'a'; 129]] {
            assert_eq!(parse_wait_channel(none), None);
        }
    }

    #[test]
    fn both_kinds_of_switches_are_told_apart() {
        let status = b"Name:\tx\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(Switches::parse(status), Some(Switches { voluntary: 7, forced: 2 }));
        assert_eq!(Switches::parse(b"voluntary_ctxt_switches:\t7\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Switches::parse(&bytes);
            prop_assert!(parse_wait_channel(&bytes).is_none_or(|name| name.len() <= 128 && name.is_ascii()));
        }
    }
}
