//! One connection, many threads: who waits drives.
//!
//! ```text
//!  nobody waits      every call flushes what it queued, as far as the socket takes it
//!  one waits         it is the leader: it polls the socket, reads, writes, routes
//!  more wait         the others are followers: they sleep until the leader has routed something, or leaves; then
//!                    one of them leads
//! ```

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::clock::now;
use crate::codec::Encode;
use crate::routing::Routes;
use crate::{Connection, Error, Read, Socket, TrySendError};

/// So much may be queued by `feed` before it is written.
const BATCH: usize = 64 << 10;

/// So long the last handle waits for a peer that doesn't read, as a socket of the kernel would (`SO_LINGER`).
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes followers.
    news: Condvar,
    /// Wakes the leader out of its poll.
    bell: OwnedFd,
    socket: Arc<Socket>,
    process: Option<Arc<OwnedFd>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) routes: Routes<()>,
    led: bool,
    /// The leader asked the socket for room to write.
    watches_room: bool,
    followers: usize,
    /// With so much queued, `feed` writes.
    write_at: usize,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Result<Self, Error> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(Error::os("make an eventfd for threads that wait"))?;
        let connection = connection.map_transport(Arc::new);
        let (socket, process) = (connection.transport(), connection.process());
        let state = State {
            routes: Routes::new(connection),
            led: false,
            watches_room: false,
            followers: 0,
            write_at: BATCH,
        };
        Ok(Self { state: Mutex::new(state), news: Condvar::new(), bell, socket, process })
    }

    /// A panic elsewhere leaves the state whole: nothing in here calls out while it is being changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` returns something, driving the connection meanwhile. `None` when the deadline comes first.
    /// `ready` must return something once the connection is closed.
    pub(super) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut Routes<()>) -> Option<R>,
    ) -> Option<R> {
        let mut state = self.lock();
        let mut looked = false;
        loop {
            if let Some(result) = ready(&mut state.routes) {
                self.leave(state);
                return Some(result);
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                // Who has no time to wait gets what is there.
                if !std::mem::replace(&mut looked, true) && self.catch_up(&mut state) {
                    continue;
                }
                self.leave(state);
                return None;
            }
            state = if state.led { self.follow(state, deadline) } else { self.lead(state, deadline) };
        }
    }

    /// Encodes `message` and passes it to `attempt` until there is room for it, waiting as long as there is none.
    pub(super) fn offer<C: Encode<M>, M: ?Sized, R>(
        &self,
        deadline: Option<Instant>,
        message: &M,
        descriptors: Vec<OwnedFd>,
        mut attempt: impl FnMut(&mut Routes<()>, &[u8], Vec<OwnedFd>) -> Result<R, TrySendError<Vec<OwnedFd>>>,
    ) -> Result<R, Error> {
        let mut state = self.lock();
        let mut scratch = std::mem::take(&mut state.routes.scratch);
        let bytes = match C::encode(message, &mut scratch) {
            Ok(bytes) => bytes,
            Err(error) => {
                state.routes.scratch = scratch;
                return Err(error);
            }
        };
        let mut unsent = match attempt(&mut state.routes, bytes, descriptors) {
            Ok(done) => {
                state.routes.scratch = scratch;
                return Ok(done);
            }
            Err(TrySendError::Full(descriptors)) => Some(descriptors),
            Err(error) => return Err(state.routes.refusal(&error)),
        };
        drop(state);
        let done =
            self.wait(deadline, |routes| match attempt(routes, bytes, unsent.take().unwrap_or_default()) {
                Ok(done) => Some(Ok(done)),
                Err(TrySendError::Full(descriptors)) => {
                    unsent = Some(descriptors);
                    None
                }
                Err(error) => Some(Err(routes.refusal(&error))),
            });
        self.lock().routes.scratch = scratch;
        done.unwrap_or(Err(Error::TimedOut))
    }

    /// Writes what `ready` queued, and lets a follower lead if nobody does.
    fn leave(&self, mut state: MutexGuard<'_, State>) {
        self.flush(&mut state);
        self.route(&mut state);
        if state.followers > 0 && !state.led {
            self.news.notify_one();
        }
    }

    /// Writes what is queued. What the socket doesn't take is left to the leader, if there is one. `true` if there was news
    /// for anybody.
    pub(super) fn flush(&self, state: &mut State) -> bool {
        if !state.routes.connection.wants_flush() {
            return false;
        }
        let flushed = state.routes.connection.flush(now());
        if !flushed && state.led && !state.watches_room {
            self.ring();
        }
        self.route(state)
    }

    /// Writes what is queued, and waits until the socket has taken it.
    pub(super) fn drain(&self) -> Result<(), Error> {
        self.drain_unless(|| false)
    }

    /// The same, or until `is_over`; [`wake_all`](Self::wake_all) has it asked again.
    pub(super) fn drain_unless(&self, mut is_over: impl FnMut() -> bool) -> Result<(), Error> {
        let drained = self.wait(None, |routes| {
            if is_over() {
                return Some(Ok(()));
            }
            if routes.connection.wants_flush() {
                routes.connection.flush(now());
            }
            let session = routes.connection.session();
            match session.is_closed() {
                // What was sent before the end was sent.
                true if session.unsent() == 0 => Some(Ok(())),
                true => Some(Err(routes.closed().cloned().unwrap_or(Error::PeerGone))),
                false => (!routes.connection.wants_flush()).then_some(Ok(())),
            }
        });
        drained.unwrap_or(Err(Error::Closed))
    }

    /// Writes what is queued once it is worth a system call.
    pub(super) fn flush_batch(&self) {
        let mut state = self.lock();
        if state.routes.connection.session().unsent() < state.write_at {
            return;
        }
        self.flush(&mut state);
        // A socket that has just refused is not asked again for each message.
        state.write_at = state.routes.connection.session().unsent() + BATCH;
    }

    /// Ends the connection on this side.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.routes.connection.close(Error::Closed);
        self.route(&mut state);
        self.ring();
    }

    /// Wakes all who wait, to see whether they still have to.
    pub(super) fn wake_all(&self) {
        // With the lock, so that nobody is between looking and going to sleep.
        let _state = self.lock();
        self.ring();
        self.news.notify_all();
    }

    /// Wakes the leader.
    pub(super) fn ring(&self) {
        // A full counter is a rung bell.
        rustix::io::write(&self.bell, &1u64.to_ne_bytes()).ok();
    }

    /// Reads what is there if nobody else does. `true` if there was news.
    pub(super) fn catch_up(&self, state: &mut State) -> bool {
        let flushed = self.flush(state);
        if state.led {
            return flushed;
        }
        while state.routes.connection.read(now()) == Read::Some {}
        self.route(state) || flushed
    }

    /// Brings every event to its place. `true` if there was any.
    fn route(&self, state: &mut State) -> bool {
        let routed = state.routes.route(|()| {}).any;
        if routed {
            self.tell_followers(state);
        }
        routed
    }

    fn tell_followers(&self, state: &State) {
        if state.followers > 0 {
            self.news.notify_all();
        }
    }

    fn follow<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        // What was queued on the way here goes now: the leader may sleep for long.
        let before = state.routes.connection.session().unsent();
        if self.flush(&mut state) || state.routes.connection.session().unsent() != before {
            return state;
        }
        // A request that began after the leader went to sleep may have an earlier deadline than the leader knows.
        let until = [deadline, state.routes.connection.poll_timeout()].into_iter().flatten().min();
        state.followers += 1;
        let mut state = match until {
            None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let rest = until.saturating_duration_since(now());
                self.news.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.followers -= 1;
        if until.is_some() {
            state.routes.connection.handle_timeout(now());
            self.route(&mut state);
        }
        state
    }

    /// One turn: write, wait for the socket, read, route.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let start = now();
        if state.routes.connection.wants_flush() {
            let before = state.routes.connection.session().unsent();
            state.routes.connection.flush(start);
            let routed = self.route(&mut state);
            // What was waited for may have come true, here or for a follower.
            if routed || state.routes.connection.session().unsent() != before {
                self.tell_followers(&state);
                return state;
            }
        }
        let connection = &state.routes.connection;
        let until = [deadline, connection.poll_timeout()].into_iter().flatten().min();
        let room = connection.wants_write();
        (state.led, state.watches_room) = (true, room);
        drop(state);
        let woken = self.poll(room, until.map(|until| until.saturating_duration_since(start)));
        let mut state = self.lock();
        state.led = false;
        state.take_in(woken);
        self.route(&mut state);
        state
    }

    fn poll(&self, room: bool, timeout: Option<Duration>) -> Woken {
        let interest = if room { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [
            PollFd::new(&*self.socket, interest),
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::new(&self.bell, PollFlags::IN),
        ];
        if let Some(process) = &self.process {
            fds[2] = PollFd::new(&**process, PollFlags::IN);
        }
        let watched = if self.process.is_some() { 3 } else { 2 };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let (watched, _) = fds.split_at_mut(watched);
        // Interrupted, or out of memory for a moment: as if nothing had happened.
        if poll(watched, timeout.as_ref()).is_err() {
            return Woken::default();
        }
        // Room to write is no reason to read; everything else is, errors and the end included.
        let happened =
            |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().difference(PollFlags::OUT).is_empty());
        if happened(1) {
            rustix::io::read(&self.bell, &mut [0; 8]).ok();
        }
        Woken { socket: happened(0), process: happened(2) }
    }
}

impl State {
    /// What woke the one who polled.
    fn take_in(&mut self, woken: Woken) {
        let now = now();
        let connection = &mut self.routes.connection;
        if woken.process {
            connection.handle_exit(now);
        } else if woken.socket {
            connection.read(now);
        }
        connection.handle_timeout(now);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    socket: bool,
    process: bool,
}

impl Drop for Shared {
    /// The last words: waits for [`LINGER`] at most until the socket has taken them.
    fn drop(&mut self) {
        let until = now().checked_add(LINGER);
        loop {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let connection = &mut state.routes.connection;
            if !connection.wants_flush() || connection.flush(now()) {
                return;
            }
            let rest = until.map(|until| until.saturating_duration_since(now()));
            if rest.is_none_or(|rest| rest.is_zero()) {
                return;
            }
            let (room, retry) = (connection.wants_write(), connection.poll_timeout());
            let retry = retry.map(|retry| retry.saturating_duration_since(now()));
            let woken = self.poll(room, [rest, retry].into_iter().flatten().min());
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.take_in(woken);
            state.routes.route(|()| {});
        }
    }
}
