//! The system calls that neither std nor rustix's features here have: all that a test wants to do to its own process.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::unix::thread::RawPthread;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

/// `SIG_DFL`, as an address.
const DEFAULT: usize = 0;

unsafe extern "C" {
    safe fn signal(number: c_int, handler: usize) -> usize;
    safe fn siginterrupt(number: c_int, interrupt: c_int) -> c_int;
    fn pthread_kill(thread: RawPthread, number: c_int) -> c_int;
    safe fn setuid(user: u32) -> c_int;
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// How many signals have been handled since [`interrupt_by`].
pub(crate) fn handled() -> usize {
    HANDLED.load(Ordering::SeqCst)
}

/// From now on this signal interrupts system calls: it has a handler, without `SA_RESTART`.
pub(crate) fn interrupt_by(number: Signal) {
    signal(number.as_raw(), count as extern "C" fn(c_int) as usize);
    assert_eq!(siginterrupt(number.as_raw(), 1), 0);
}

/// From now on this signal ends the process, as it does one that isn't written in Rust: std ignores `SIGPIPE`.
pub(crate) fn die_by(number: Signal) {
    signal(number.as_raw(), DEFAULT);
}

/// Sends a signal to one thread of this process.
pub(crate) fn interrupt<T>(thread: &std::thread::JoinHandle<T>, number: Signal) {
    use std::os::unix::thread::JoinHandleExt;
    // SAFETY: the thread has not been joined or detached, since its handle is here: its id is valid.
    let sent = unsafe { pthread_kill(thread.as_pthread_t(), number.as_raw()) };
    assert_eq!(sent, 0);
}

/// From now on this process has no privileges, with all its threads. Its descriptors can still be counted.
pub(crate) fn become_nobody() {
    if rustix::process::getuid().is_root() {
        assert_eq!(setuid(65_534), 0, "root may become anybody");
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
    }
}
