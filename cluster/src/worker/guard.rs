//! No orphan: a worker doesn't outlive its primary by more than a moment, whatever it is doing.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};

use crate::{Error, Result};

/// The thread's name.
pub(crate) const NAME: &str = "orphan-guard";

/// The thread polls and sleeps; it needs next to no stack.
const STACK: usize = 64 << 10;

/// Watches the lifeline, a pipe whose other end only the primary holds, on a thread of its own: it works while the
/// runtime is blocked. When the primary is gone, the process has `timeout` to drain before it is killed.
///
/// A *stopped* process runs no thread at all. The kernel wakes it when its process group is orphaned (`SIGHUP`,
/// then `SIGCONT`, see `setpgid(2)`); where the next parent happens to be in the same session it would
/// not, so the parent's death is also made to send `SIGCONT`. That signal is tied to the parent's *thread*; coming too
/// early it does no harm.
pub(super) fn watch(lifeline: OwnedFd, timeout: Duration) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::CONT))
        .map_err(Error::os("ask to be woken at the primary's death"))?;
    thread::Builder::new()
        .name(NAME.to_owned())
        .stack_size(STACK)
        .spawn(move || {
            wait_for_end(&lifeline);
            thread::sleep(timeout);
            // Not `exit`: that would run handlers which may wait for what the blocked runtime holds.
            let _ = kill_process(getpid(), Signal::KILL);
        })
        .map(drop)
        .map_err(Error::os("start the orphan guard"))
}

/// Nobody ever writes to the lifeline: any event is its end, and an error means that it can't be trusted.
fn wait_for_end(lifeline: &OwnedFd) {
    loop {
        match poll(&mut [PollFd::new(lifeline, PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}
