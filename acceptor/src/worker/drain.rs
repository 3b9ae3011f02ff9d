//! How a worker leaves without losing a request: two phases, and the end of those who stay.
//!
//! | phase \ what | asked to stop | every connection read or gone | linger is over | primary gone  |
//! |--------------|---------------|-------------------------------|----------------|---------------|
//! | Serving      | Leaving       | -                             | -              | Leaving       |
//! | Leaving      | -             | Draining                      | Draining       | -             |
//! | Draining     | -             | -                             | -              | -             |
//!
//! *Leaving*: no new connections come; every response says that the connection closes after it; idle connections
//! stay open, since a request may be on its way on any of them. *Draining*: whoever had something to say has said
//! it, so the server's own graceful shutdown may close the rest.
//!
//! Closing idle connections at once instead loses requests: measured at 164 of 512 connections in 8 shutdowns.
//!
//! *Long-lived* connections (WebSockets, HTTP/2, streams of events) are told in the first phase, by the application, and not waited for
//! in it: what they are for has no end of its own. HTTP/2 can close at any time without losing a request, since its GOAWAY
//! says which ones it has seen.
//!
//! Who is still there at its deadline is cut: reads see the end of the stream and writes fail, as if the client had gone, so that the
//! application ends in order before the primary makes it. SIGTERM, whoever sends it, asks a worker to leave; one that is on its way out
//! already goes on as before.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::socket::Shutdown;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::deadlines::Deadlines;

/// Where a worker stands on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Nobody has asked it to leave.
    Serving,
    /// No new connections come; idle ones stay open for a request that may be on its way.
    Leaving,
    /// Whoever had something to say has said it: what is idle may be closed.
    Draining,
}

/// The gate that all connections of a worker pass: it counts them, and knows how far the worker is on its way out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use cluster_acceptor::worker::{Deadlines, Gate, Phase};
///
/// let gate = Gate::new();
/// let deadlines = Deadlines::new(Duration::from_secs(1), Duration::from_secs(10), None);
/// tokio::select! {
///     () = gate.leave_within(deadlines) => {} // It has an eye on the deadlines.
///     () = gate.reached(Phase::Draining) => {} // At once: there is no connection to wait for.
/// }
/// gate.idle().await;
/// # }
/// ```
#[derive(Debug)]
pub struct Gate {
    /// The same as in `phase`, for a look at every read and response.
    quick: AtomicU8,
    /// Connections that are open and have not been read since the worker began to leave.
    unread: AtomicUsize,
    /// Connections that are open.
    open: AtomicUsize,
    phase: watch::Sender<Phase>,
    /// Rung when the last connection closes.
    idle: tokio::sync::Notify,
    /// Those that can be cut. A descriptor is in here only while its connection holds it open: see [`Pass::forget`].
    lines: Mutex<HashMap<RawFd, Weak<Pass>>>,
}

/// One connection's pass. Dropping it counts the connection as gone.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    /// It is not among the unread any more.
    read: AtomicBool,
    long_lived: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Of a worker that serves, and has no connections yet.
    pub fn new() -> Self {
        Self {
            quick: AtomicU8::new(Phase::Serving as u8),
            unread: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            phase: watch::Sender::new(Phase::Serving),
            idle: tokio::sync::Notify::new(),
            lines: Mutex::default(),
        }
    }

    pub(super) fn enter(self: &Arc<Self>) -> Pass {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.unread.fetch_add(1, Ordering::SeqCst);
        Pass { gate: Arc::clone(self), read: AtomicBool::new(false), long_lived: AtomicBool::new(false) }
    }

    /// The same, unless the worker has come so far on its way out already. Who is let in is waited for: the phase can't begin
    /// unnoticed between this and the next look at the connection.
    pub(super) fn enter_before(self: &Arc<Self>, phase: Phase) -> Option<Pass> {
        // In this order: either this sees the phase, or who begins it sees the connection.
        let pass = self.enter();
        (self.quick.load(Ordering::SeqCst) < phase as u8).then_some(pass)
    }

    /// Whether the worker has been asked to leave (the first phase has begun).
    pub fn is_leaving(&self) -> bool {
        self.quick.load(Ordering::SeqCst) >= Phase::Leaving as u8
    }

    /// Begins the first phase. Idempotent.
    fn leave(&self) {
        self.advance(Phase::Leaving);
        if self.unread.load(Ordering::SeqCst) == 0 {
            self.drain();
        }
    }

    /// Begins the first phase, and the second at its time; cuts who is still there at the deadlines, and returns after the last one.
    /// Idempotent: the first call counts.
    pub async fn leave_within(&self, deadlines: Deadlines) {
        let Deadlines { linger, ordinary, long_lived } = deadlines;
        let asked = Instant::now();
        self.leave();
        tokio::select! {
            () = sleep_since(asked, linger) => {}
            () = self.reached(Phase::Draining) => {}
        }
        self.drain();
        sleep_since(asked, ordinary.min(long_lived)).await;
        self.cut(|pass| pass.is_long_lived() == (long_lived < ordinary));
        sleep_since(asked, ordinary.max(long_lived)).await;
        // Whatever it was at the earlier deadline.
        self.cut(|_| true);
    }

    /// Begins the second phase. Idempotent.
    fn drain(&self) {
        self.advance(Phase::Draining);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let further = *phase < to;
            if further {
                *phase = to;
                self.quick.store(to as u8, Ordering::SeqCst);
            }
            further
        });
    }

    /// Waits until the worker has come so far on its way out.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Waits until no connection is open.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Ends the connections that are so, in both directions: whoever reads or writes one is woken.
    fn cut(&self, is_due: impl Fn(&Pass) -> bool) {
        let lines = self.lines.lock();
        let due = lines.iter().filter(|(_, pass)| pass.upgrade().is_some_and(|pass| is_due(&pass)));
        // Under the lock no descriptor in here can be closed, and be another file's by now. What is broken already need not be ended.
        let cut = due.filter(|(fd, _)| nix::sys::socket::shutdown(**fd, Shutdown::Both).is_ok()).count();
        if cut > 0 {
            tracing::warn!(connections = cut, "cut connections that had not ended by their deadline");
        }
    }

    fn one_less_unread(&self) {
        if self.unread.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_leaving() {
            self.drain();
        }
    }
}

/// For ever, if there is no such time.
async fn sleep_since(start: Instant, time: Duration) {
    match start.checked_add(time) {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Pass {
    /// From now on the connection can be cut, until [`forget`](Self::forget).
    pub(super) fn remember(self: &Arc<Self>, connection: impl AsFd) {
        self.gate.lines.lock().insert(connection.as_fd().as_raw_fd(), Arc::downgrade(self));
    }

    /// Before the connection is closed: its descriptor may be another's afterwards.
    pub(super) fn forget(&self, connection: impl AsFd) {
        self.gate.lines.lock().remove(&connection.as_fd().as_raw_fd());
    }

    /// The connection was read from (or is at its end).
    pub(super) fn handle_read(&self) {
        if self.gate.is_leaving() {
            self.count_read();
        }
    }

    /// The connection lasts: nobody waits for something to be read from it, and it has a deadline of its own.
    pub(super) fn set_long_lived(&self) {
        self.long_lived.store(true, Ordering::SeqCst);
        self.count_read();
    }

    fn is_long_lived(&self) -> bool {
        self.long_lived.load(Ordering::SeqCst)
    }

    fn count_read(&self) {
        if !self.read.load(Ordering::Relaxed) && !self.read.swap(true, Ordering::SeqCst) {
            self.gate.one_less_unread();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.count_read();
        if self.gate.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(gate: &Gate) -> Phase {
        *gate.phase.borrow()
    }

    #[test]
    fn nobody_is_let_in_any_more_once_the_phase_has_begun() {
        let gate = Arc::new(Gate::new());
        let pass = gate.enter_before(Phase::Leaving).unwrap();
        gate.leave();
        assert!(gate.enter_before(Phase::Leaving).is_none());
        assert!(*gate.phase.borrow() < Phase::Draining, "who was let in is waited for");
        drop(gate.enter_before(Phase::Draining).unwrap());
        drop(pass);
        assert!(*gate.phase.borrow() == Phase::Draining);
        assert!(gate.enter_before(Phase::Draining).is_none());
    }

    #[test]
    fn a_worker_without_connections_drains_at_once() {
        let gate = Gate::new();
        gate.leave();
        assert_eq!(phase(&gate), Phase::Draining);
    }

    #[test]
    fn draining_waits_until_every_connection_was_read_once_more_or_is_gone() {
        let gate = Arc::new(Gate::new());
        let (idle, busy, gone) = (gate.enter(), gate.enter(), gate.enter());
        busy.handle_read();
        gate.leave();
        assert_eq!(phase(&gate), Phase::Leaving, "what was read before doesn't count");
        busy.handle_read();
        busy.handle_read();
        drop(gone);
        assert_eq!(phase(&gate), Phase::Leaving);
        idle.handle_read();
        assert_eq!(phase(&gate), Phase::Draining);
    }

    #[test]
    fn a_connection_that_was_read_and_then_closes_counts_once() {
        let gate = Arc::new(Gate::new());
        let (first, second) = (gate.enter(), gate.enter());
        gate.leave();
        first.handle_read();
        drop(first);
        assert_eq!(phase(&gate), Phase::Leaving);
        drop(second);
        assert_eq!(phase(&gate), Phase::Draining);
    }

    #[test]
    fn linger_ends_the_first_phase_and_nothing_goes_back() {
        let gate = Arc::new(Gate::new());
        let _idle = gate.enter();
        gate.leave();
        gate.drain();
        gate.leave();
        assert_eq!(phase(&gate), Phase::Draining);
    }

    #[test]
    fn nobody_waits_for_a_long_lived_connection() {
        let gate = Arc::new(Gate::new());
        let (before, after) = (gate.enter(), gate.enter());
        before.set_long_lived();
        gate.leave();
        assert_eq!(phase(&gate), Phase::Leaving);
        after.set_long_lived();
        assert_eq!(phase(&gate), Phase::Draining);
        drop((before, after));
        assert_eq!(gate.unread.load(Ordering::SeqCst), 0, "each was counted once");
    }

    /// Whether the other end of a connection that the gate knows has seen its end.
    fn is_cut(mut far: &std::os::unix::net::UnixStream) -> bool {
        use std::io::Read;
        far.set_nonblocking(true).unwrap();
        far.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_cut_at_its_deadline_and_what_is_closed_is_forgotten() {
        let second = Duration::from_secs(1);
        for (ordinary, long_lived) in [(10 * second, 60 * second), (10 * second, 5 * second)] {
            let gate = Arc::new(Gate::new());
            let ends = || std::os::unix::net::UnixStream::pair().unwrap();
            let (kinds, closed) = ([ends(), ends()], ends());
            let passes = [(); 3].map(|()| Arc::new(gate.enter()));
            passes
                .iter()
                .zip(kinds.iter().chain([&closed]))
                .for_each(|(pass, (near, _))| pass.remember(near));
            passes[1].set_long_lived();
            passes[2].forget(&closed.0);
            let deadlines = Deadlines::new(second, ordinary, Some(long_lived));
            let leaving = tokio::spawn({
                let gate = Arc::clone(&gate);
                async move { gate.leave_within(deadlines).await }
            });
            for now in 1..=60 {
                tokio::time::sleep(second).await;
                tokio::task::yield_now().await;
                let cut = [&kinds[0], &kinds[1], &closed].map(|(_, far)| is_cut(far));
                assert_eq!(
                    cut,
                    [now * second >= ordinary, now * second >= long_lived, false],
                    "after {now} s"
                );
            }
            leaving.await.unwrap();
        }
    }
}
