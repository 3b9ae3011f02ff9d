//! The threads behind a capture: one that reads all pipes, one that calls the sink.

use std::fmt;
use std::hash::Hash;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};

use super::super::Error;
use super::batch::Batch;
use super::pipes::Pipes;
use super::poller::Poller;
use super::{CaptureLimits, Sink, Stream, Tail};

/// Reads the output of children line by line, and never makes one wait for long.
///
/// Give it the read ends of their pipes with [`watch`](Self::watch); each line goes to the [`Sink`], and the last ones
/// of each child are kept for [`finish`](Self::finish).
/// `K` names a child, for example a [`WorkerId`](crate::WorkerId): one key, one life.
///
/// # Threads
///
/// One thread reads the pipes of all children, in turns of 16 KiB; a second one calls the sink.
/// Between them is a queue of bounded size. A child whose share of it is full waits for the sink as long as
/// [`patience`](CaptureLimits::patience) says; then its lines are dropped and counted until the sink comes back for
/// more, and a line that says so stands in their place: see [`Line::dropped`](super::Line::dropped).
/// So a slow sink costs lines and a dead one costs all lines, but no child stands still.
///
/// # Drop
///
/// All pipes are closed: a child that goes on to write gets `EPIPE` (and `SIGPIPE`).
/// The sink gets what waits for it, which nobody waits for; [`close`](Self::close) does.
///
/// # Example
///
/// ```
/// use std::process::{Command, Stdio};
/// use std::time::Duration;
/// use cluster_supervisor::os::{Capture, CaptureLimits, Line, Stream};
///
/// let capture = Capture::start(CaptureLimits::new(), |line: Line<'_, u32>| {
///     println!("[{} {}] {}", line.source(), line.stream(), line.to_text());
/// })?;
///
/// let (stdout, child_stdout) = std::io::pipe()?;
/// let (stderr, child_stderr) = std::io::pipe()?;
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo starts; echo no luck >&2; exit 1"]).stdin(Stdio::null());
/// let mut child = command.stdout(child_stdout).stderr(child_stderr).spawn()?;
/// // The command holds our copies of the child's ends: without them the pipes end when the child does.
/// drop(command);
/// capture.watch(7, Stream::Stdout, stdout)?;
/// capture.watch(7, Stream::Stderr, stderr)?;
///
/// let status = child.wait()?;
/// let tail = capture.finish(7).expect("it is watched");
/// assert!(tail.iter().any(|line| line.to_string() == "err: no luck"));
/// println!("child 7 {status}; its last lines:\n{tail}");
/// capture.close(Duration::from_secs(1))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Capture<K: Copy + Eq + Hash> {
    shared: Arc<Shared<K>>,
    poller: Arc<Poller>,
    reader: Option<JoinHandle<()>>,
}

struct Shared<K> {
    /// Who wants the state passes here first. The reader takes it again and again, and a mutex is not fair: without
    /// this a caller might wait as long as a child writes.
    turnstile: Mutex<()>,
    state: Mutex<State<K>>,
    changed: Condvar,
}

struct State<K> {
    pipes: Pipes<K>,
    /// The reader's thread is to end.
    is_stopped: bool,
    /// No more lines will come.
    is_ending: bool,
    /// The sink's thread is gone.
    is_done: bool,
}

impl<K: Copy + Eq + Hash + Send + 'static> Capture<K> {
    /// Starts both threads.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] at the limit of open files or of threads; nothing is left then.
    pub fn start(limits: CaptureLimits, sink: impl Sink<K> + 'static) -> Result<Self, Error> {
        let poller = Arc::new(Poller::new()?);
        let pipes = Pipes::new(limits, poller.clone());
        let state = State { pipes, is_stopped: false, is_ending: false, is_done: false };
        let shared =
            Arc::new(Shared { turnstile: Mutex::new(()), state: Mutex::new(state), changed: Condvar::new() });
        // If the second thread can't be started, dropping this ends the first.
        let mut capture = Self { shared: shared.clone(), poller: poller.clone(), reader: None };
        let own = shared.clone();
        capture.reader = Some(start_thread("output-reader", move || own.read(&poller))?);
        start_thread("output-sink", move || shared.feed(sink))?;
        Ok(capture)
    }

    /// Reads a stream of a child from now on. `pipe` is the read end; it becomes non-blocking and close-on-exec.
    ///
    /// Anything that can be polled will do: a socket or the near end of a terminal, too.
    /// At its end it is closed, without waiting for [`finish`](Self::finish); the last lines stay until then.
    ///
    /// # Errors
    ///
    /// [`Error::Captured`] when this stream of this child is watched already; [`Error::Os`] when the kernel is out of
    /// memory or `pipe` can't be polled (a file). `pipe` is closed then.
    pub fn watch(&self, source: K, stream: Stream, pipe: impl Into<OwnedFd>) -> Result<(), Error> {
        let pipe = pipe.into();
        ioctl_fionbio(&pipe, true).map_err(Error::os("make the output of a child non-blocking"))?;
        fcntl_setfd(&pipe, FdFlags::CLOEXEC)
            .map_err(Error::os("make the output of a child close-on-exec"))?;
        self.shared.lock().pipes.watch((source, stream), pipe)
    }

    /// A child has ended: hands out what it left in its pipes, closes them, and returns its last lines.
    ///
    /// To be called after its exit: then these are all its lines, dropped ones as well. `None` if it isn't watched.
    /// It doesn't wait, neither for the sink nor for a grandchild that holds a pipe: what that writes later is lost to
    /// it (`EPIPE`). What a child that never ends here has written stays in memory: its last lines.
    pub fn finish(&self, source: K) -> Option<Tail> {
        let mut state = self.shared.lock();
        let tail = state.pipes.finish(source);
        self.shared.tell_sink(&state);
        tail
    }

    /// The last lines of a child until now, for example of one that hangs. `None` if it isn't watched.
    pub fn tail(&self, source: K) -> Option<Tail> {
        self.shared.lock().pipes.tail(source)
    }

    /// How many lines were dropped, of all children.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().pipes.dropped()
    }

    /// Finishes all children, and waits until the sink has got all lines and is dropped, but no longer than `within`.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the sink did not take them in time; it may still do so later.
    pub fn close(mut self, within: Duration) -> Result<(), Error> {
        self.end();
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, within, |state| !state.is_done);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_done {
            return Ok(());
        }
        Err(Error::os("hand the last lines to the sink in time")(std::io::ErrorKind::TimedOut))
    }
}

impl<K: Copy + Eq + Hash> Capture<K> {
    fn end(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        self.shared.lock().is_stopped = true;
        self.poller.ring();
        // It runs no code of the caller's but what hashes and compares keys, and never waits for the sink.
        let _ = reader.join();
        let mut state = self.shared.lock();
        state.pipes.end();
        // Only now: the sink's thread must not leave before it has these.
        state.is_ending = true;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl<K: Copy + Eq + Hash> Drop for Capture<K> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<K: Copy + Eq + Hash> fmt::Debug for Capture<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        let _turn = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Shared<K> {
    /// The reader's thread.
    fn read(&self, poller: &Poller) {
        // A panic is a fault of ours, or of the caller's keys. Whatever it was, children must not wait for a reader.
        let _abandoned = Abandoned(self);
        let mut ready = Vec::new();
        loop {
            let state = self.lock();
            if state.is_stopped {
                return;
            }
            let timeout = state.pipes.next_timeout().map(|until| until.saturating_duration_since(now()));
            drop(state);
            poller.wait(&mut ready, timeout);
            for token in ready.drain(..) {
                // Locked for each anew: whoever calls waits for one turn only.
                let mut state = self.lock();
                state.pipes.handle_ready(token, now());
                self.tell_sink(&state);
            }
            self.lock().pipes.resume(now());
        }
    }

    /// The sink's thread.
    fn feed(&self, sink: impl Sink<K>) {
        // Also when the sink panics, somebody may wait for this.
        let _done = Done(self);
        let mut sink = sink;
        let mut batch = Batch::new();
        while let Some(taken) = self.next_batch(mem::replace(&mut batch, Batch::new())) {
            taken.lines().for_each(|line| sink.line(line));
            sink.flush();
            batch = taken;
            batch.clear();
        }
    }

    /// Waits for lines and takes them; `None` when there are none and none will come.
    fn next_batch(&self, spare: Batch<K>) -> Option<Batch<K>> {
        let is_idle = |state: &mut State<K>| !state.pipes.has_lines() && !state.is_ending;
        let waited = self.changed.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.pipes.has_lines().then(|| state.pipes.take(spare))
    }

    fn tell_sink(&self, state: &State<K>) {
        if state.pipes.has_lines() {
            self.changed.notify_one();
        }
    }
}

/// Closes all pipes when the reader's thread panics: a child gets `EPIPE` then, instead of waiting for ever.
struct Abandoned<'a, K>(&'a Shared<K>);

impl<K> Drop for Abandoned<'_, K> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().pipes.abandon();
        }
    }
}

/// Says that the sink's thread is gone, however it ended.
struct Done<'a, K>(&'a Shared<K>);

impl<K> Drop for Done<'_, K> {
    fn drop(&mut self) {
        self.0.lock().is_done = true;
        self.0.changed.notify_all();
    }
}

fn start_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(Error::os("start a thread for the output"))
}

#[expect(clippy::disallowed_methods, reason = "a driver looks at the clock")]
fn now() -> Instant {
    Instant::now()
}
