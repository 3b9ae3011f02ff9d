//! Threads that ask.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use super::super::Error;
use super::Timing;
use super::schedule::{Due, Schedule, Ticket};
use super::target::{Outcome, Target};
use super::wait::now;
use crate::Probe;

/// Asks members, again and again, in threads of its own, and hands over what came of it.
///
/// `K` names a member and should name one *life* of it, as for a [`Monitor`](crate::Monitor).
///
/// A driver waits until its [descriptor](AsFd) is readable, which it is exactly while answers wait, and then calls
/// [`try_recv`](Self::try_recv) until it returns `None`: that suits poll, epoll (also edge-triggered), mio and tokio. Those without a
/// loop call [`recv_timeout`](Self::recv_timeout). If the driver feeds a `Monitor`, it calls
/// [`handle_timeout`](crate::Monitor::handle_timeout) first when that is due: so the monitor knows of a stall before it hears of the
/// probes that failed because of it.
///
/// - At most so many probes are under way at a time as there are threads (default 4), and one of each kind for each member. More
///   members than threads × period / timeout that don't answer are asked less often than they should be.
/// - Once a member is removed, no answer of it comes any more; what is under way is broken off.
/// - While 1024 answers wait, nobody is asked.
/// - Dropped, it breaks off what is under way (a program is killed), and its threads end. That takes as long as it takes the system to
///   start a program, or to end one: a second at most.
///
/// ```
/// use std::net::TcpListener;
/// use std::time::Duration;
/// use cluster_health::{Heartbeat, Monitor, Probe};
/// use cluster_health::os::{Prober, Target, Timing};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let mut monitor = Monitor::new(Heartbeat::new());
/// let prober = Prober::new()?;
/// let timing = Timing::new().period(Duration::from_millis(10));
/// prober.insert("anna", Probe::Liveness, Target::Tcp(server.local_addr()?), timing);
///
/// let answer = prober.recv_timeout(Duration::from_secs(60)).expect("an answer comes");
/// assert_eq!((answer.key, answer.outcome.answer()), ("anna", Some(Ok(()))));
/// if let Some(result) = answer.outcome.answer() {
///     monitor.handle_probe(answer.key, answer.probe, result, answer.began, answer.ended);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prober<K> {
    shared: Arc<Shared<K>>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<K> {
    /// Who was asked.
    pub key: K,
    /// What about.
    pub probe: Probe,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was begun.
    pub began: Instant,
    /// When it was over.
    pub ended: Instant,
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    /// There may be something to do for a thread.
    work: Condvar,
    /// There is an answer.
    answered: Condvar,
    /// Readable exactly while answers wait. Changed only under the lock.
    readable: OwnedFd,
    /// For each thread: readable when what it does is of no use any more. Changed only under the lock.
    interrupts: Vec<OwnedFd>,
}

#[derive(Debug)]
struct State<K> {
    schedule: Schedule<K>,
    targets: HashMap<(K, Probe), Arc<Target>>,
    answers: VecDeque<Answer<K>>,
    /// What each thread carries out.
    tickets: Vec<Option<Ticket>>,
    /// Until when somebody waits for the next probe, so that not all wake up for it.
    watched: Option<Instant>,
    is_closed: bool,
}

/// While so many answers wait, nobody is asked.
const MOST_ANSWERS: usize = 1024;
/// There are no more threads than that.
const MOST_THREADS: usize = 64;

impl<K: Copy + Eq + Hash + Send + 'static> Prober<K> {
    /// Four threads, and nobody to ask yet.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the system has no thread or descriptor left.
    pub fn new() -> Result<Self, Error> {
        Self::with_threads(4)
    }

    /// So many threads, 1 to 64, and nobody to ask yet.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_threads(threads: usize) -> Result<Self, Error> {
        let threads = threads.clamp(1, MOST_THREADS);
        let event = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|errno| Error::Start { what: "a descriptor", source: errno.into() })
        };
        let state = State {
            schedule: Schedule::new(threads, fastrand::u64(..)),
            targets: HashMap::new(),
            answers: VecDeque::new(),
            tickets: vec![None; threads],
            watched: None,
            is_closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            answered: Condvar::new(),
            readable: event()?,
            interrupts: (0..threads).map(|_| event()).collect::<Result<_, _>>()?,
        });
        // Dropped half-way, it ends those that have begun.
        let mut prober = Self { shared, threads: Vec::new() };
        for place in 0..threads {
            let shared = Arc::clone(&prober.shared);
            let thread = Builder::new()
                .name(format!("probes {place}"))
                .spawn(move || shared.work(place))
                .map_err(|source| Error::Start { what: "a thread", source })?;
            prober.threads.push(thread);
        }
        Ok(prober)
    }

    /// Asks this of a member from now on, the first time at random within the first period. What was asked of it by this kind of probe
    /// before is [removed](Self::remove_probe).
    pub fn insert(&self, key: K, probe: Probe, target: Target, timing: Timing) {
        let mut state = self.shared.lock();
        self.shared.forget(&mut state, |of| of == (key, probe));
        state.targets.insert((key, probe), Arc::new(target));
        state.schedule.insert(key, probe, timing, now());
        self.shared.interrupt_orphans(&state);
        self.shared.work.notify_one();
    }

    /// Asks nothing of a member any more, and forgets answers of it that were not received. Idempotent.
    pub fn remove(&self, key: K) {
        let mut state = self.shared.lock();
        self.shared.forget(&mut state, |(of, _)| of == key);
        state.schedule.remove(key);
        self.shared.interrupt_orphans(&state);
    }

    /// Asks only this no more: [`Probe::Startup`] of a member that has begun, say.
    pub fn remove_probe(&self, key: K, probe: Probe) {
        let mut state = self.shared.lock();
        self.shared.forget(&mut state, |of| of == (key, probe));
        state.schedule.remove_probe(key, probe);
        self.shared.interrupt_orphans(&state);
    }

    /// The oldest answer that was not received yet, without waiting.
    pub fn try_recv(&self) -> Option<Answer<K>> {
        self.shared.take(&mut self.shared.lock())
    }

    /// The oldest answer that was not received yet. Waits for one, so long at most.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Answer<K>> {
        let state = self.shared.lock();
        let waited =
            self.shared.answered.wait_timeout_while(state, timeout, |state| state.answers.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.shared.take(&mut state)
    }
}

impl<K> AsFd for Prober<K> {
    /// Readable exactly while answers wait. Not to be read from or written to.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.readable.as_fd()
    }
}

impl<K> Drop for Prober<K> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        self.shared.interrupts.iter().for_each(raise);
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // It has panicked, then, and is over all the same.
            let _ = thread.join();
        }
    }
}

impl<K> Shared<K> {
    /// A thread that panics does so in the hash function of a caller's key: what it leaves is as good as before.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Shared<K> {
    fn forget(&self, state: &mut State<K>, is_forgotten: impl Fn((K, Probe)) -> bool) {
        state.targets.retain(|of, _| !is_forgotten(*of));
        state.answers.retain(|answer| !is_forgotten((answer.key, answer.probe)));
        self.show(state);
        self.work.notify_all();
    }

    /// Breaks off what is of no use any more.
    fn interrupt_orphans(&self, state: &State<K>) {
        for (ticket, interrupt) in state.tickets.iter().zip(&self.interrupts) {
            if ticket.is_some_and(|ticket| !state.schedule.is_current(ticket)) {
                raise(interrupt);
            }
        }
    }

    fn take(&self, state: &mut State<K>) -> Option<Answer<K>> {
        if state.answers.len() >= MOST_ANSWERS {
            self.work.notify_all();
        }
        let answer = state.answers.pop_front();
        self.show(state);
        answer
    }

    /// Lets the descriptor be readable only while answers wait.
    fn show(&self, state: &State<K>) {
        if state.answers.is_empty() {
            clear(&self.readable);
        }
    }

    /// What a thread does all its life.
    fn work(&self, place: usize) {
        let mut state = self.lock();
        while !state.is_closed {
            let has_room = state.answers.len() < MOST_ANSWERS;
            let due = if has_room { state.schedule.poll_due(now()) } else { None };
            state = match due {
                Some(due) => self.carry_out(state, due, place),
                None => self.rest(state, has_room),
            };
        }
    }

    /// Waits until there may be something to do.
    fn rest<'a>(&'a self, mut state: MutexGuard<'a, State<K>>, has_room: bool) -> MutexGuard<'a, State<K>> {
        let next = if has_room { state.schedule.poll_timeout() } else { None };
        let watch = next.filter(|next| state.watched.is_none_or(|watched| *next < watched));
        let Some(watch) = watch else {
            return self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.watched = Some(watch);
        let timeout = watch.saturating_duration_since(now());
        let (mut state, _) = self.work.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
        if state.watched == Some(watch) {
            state.watched = None;
        }
        state
    }

    fn carry_out<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<K>>,
        due: Due<K>,
        place: usize,
    ) -> MutexGuard<'a, State<K>> {
        let Due { ticket, key, probe, timeout } = due;
        // What is due has a target: both change together, everywhere.
        let Some(target) = state.targets.get(&(key, probe)).cloned() else {
            state.schedule.handle_done(ticket, now());
            return state;
        };
        self.set_ticket(&mut state, place, Some(ticket));
        // Another one watches now, or has something to do at once.
        self.work.notify_one();
        drop(state);

        let began = now();
        let interrupt = self.interrupts.get(place).map(AsFd::as_fd);
        let outcome = target.ask_unless(timeout, interrupt);

        let mut state = self.lock();
        let ended = now();
        self.set_ticket(&mut state, place, None);
        let counts = state.schedule.handle_done(ticket, ended);
        if let Some(outcome) = outcome.filter(|_| counts && !state.is_closed) {
            if state.answers.is_empty() {
                raise(&self.readable);
            }
            state.answers.push_back(Answer { key, probe, outcome, began, ended });
            self.answered.notify_one();
        }
        state
    }

    /// Begins or ends something. Interrupts were meant for what has ended.
    fn set_ticket(&self, state: &mut State<K>, place: usize, ticket: Option<Ticket>) {
        if let Some(current) = state.tickets.get_mut(place) {
            *current = ticket;
        }
        if let Some(interrupt) = self.interrupts.get(place).filter(|_| !state.is_closed) {
            clear(interrupt);
        }
    }
}

/// Makes an event readable. That fails only if it is so already, 2⁶⁴ times.
fn raise(event: &OwnedFd) {
    let _ = write(event, &1_u64.to_ne_bytes());
}

/// Makes an event not readable. That fails only if it isn't.
fn clear(event: &OwnedFd) {
    let _ = read(event, &mut [0; 8]);
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests with threads have a clock")]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::thread::park_timeout;

    use super::*;

    #[test]
    fn nobody_is_asked_while_many_answers_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Whoever is asked there is well, or isn't once the queue is full: an answer either way.
        let address: SocketAddr = listener.local_addr().unwrap();
        let prober = Prober::new().unwrap();
        let timing = Timing::new().period(Duration::ZERO).timeout(Duration::ZERO);
        for key in 0..8 {
            prober.insert(key, Probe::Liveness, Target::Tcp(address), timing);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_idle = || {
            let state = prober.shared.lock();
            state.answers.len() >= MOST_ANSWERS && state.tickets.iter().all(Option::is_none)
        };
        while !is_idle() {
            assert!(Instant::now() < deadline, "the answers never fill the room for them");
            park_timeout(Duration::from_millis(1));
        }
        let waiting = prober.shared.lock().answers.len();
        assert!(waiting < MOST_ANSWERS + 4, "each thread had one under way at most, not {waiting}");
        for _ in 0..2 * waiting {
            assert!(prober.recv_timeout(Duration::from_secs(60)).is_some(), "it goes on when there is room");
        }
    }
}
