//! The worker's side: what an application does in each worker process.
//!
//! ```text
//!   control channel ──▶ control (task) ──▶ drain gate ──▶ layer, draining()
//!   data channel    ──▶ intake (task)  ──▶ Listener::accept ──▶ Stream
//!   board           ◀── beat (task), counters
//!   lifeline        ──▶ guard (thread)
//! ```

mod beat;
mod begin;
mod claimed;
mod control;
mod counters;
mod gauges;
mod guard;
mod leave;
mod listener;
mod listening;
mod shared;
mod span;
mod tasks;
mod udp;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_acceptor::worker::{Deadlines, Gate, Intake, Phase};
use cluster_acceptor::{Claims, Listeners};
use cluster_ipc::board::WorkerBoard;
use cluster_shared_state::tokio::SharedState;
use cluster_supervisor::{Counted, Ledger, WorkerId, os};
use parking_lot::Mutex;

use self::control::Control;
use self::counters::Counters;
use self::gauges::Gauges;
pub(crate) use self::guard::NAME as GUARD;
pub use self::listener::Listener;
pub use self::udp::UdpSocket;
use crate::messages::{Desk, Messages, Pool};
use crate::status::{ClusterStatus, SlotStatus, WorkerStatus, millis};
use crate::wire::{Request, StatusReply, ToPrimary};
use crate::{AcceptStatus, Mode, Result};

/// Descriptors that a worker leaves unused for connections, unless its limit is small: its own files come and go.
const SPARE_DESCRIPTORS: u64 = 32;

/// A worker process, as it sees itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    id: WorkerId,
    gate: Arc<Gate>,
    board: Arc<WorkerBoard>,
    intake: Arc<Intake>,
    /// Absent in inline mode, where there is no primary to talk to.
    control: Option<Control>,
    said_ready: AtomicBool,
    /// What this worker listens on.
    claims: Claims,
    /// In inline mode: there is no primary that keeps them.
    own: Option<Mutex<Listeners>>,
    /// How many connections there may be at a time.
    most: Option<u32>,
    /// What the application counts.
    gauges: Arc<Gauges>,
    counters: Arc<Counters>,
    /// What all workers share.
    state: SharedState,
    messages: Messages,
    /// How long a drain may take.
    deadlines: Deadlines,
    /// What the primary handed over, until somebody takes it.
    descriptors: Mutex<HashMap<String, OwnedFd>>,
    desk: Desk,
    /// In inline mode: there is no primary that has it.
    _pool: Option<Pool>,
    started: Instant,
}

/// What connects a worker to the others. Without a primary the control channel is absent.
struct Wires {
    control: Option<Control>,
    state: SharedState,
    messages: Messages,
    desk: Desk,
    pool: Option<Pool>,
}

#[cfg(feature = "http")]
impl Inner {
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn board(&self) -> &Arc<WorkerBoard> {
        &self.board
    }
}

impl Inner {
    /// Tells the primary that this listener's connections are welcome, and that the worker is ready.
    async fn say_accepting(&self, listener: u8) {
        let Some(control) = &self.control else { return };
        if let Err(error) =
            control.send(&ToPrimary::Accepting { listener, capacity: capacity(self.most) }).await
        {
            tracing::debug!(%error, "could not say that connections are welcome");
        }
        self.say_ready().await;
    }

    fn say_dropped(&self, listener: u8) {
        if let Some(own) = &self.own {
            let (mut own, now) = (own.lock(), Instant::now());
            own.release(listener, 0, now);
            // Nobody needs the numbers here.
            drop(own.expire(Duration::ZERO, now));
        }
        if let Some(control) = &self.control
            && !self.gate.is_leaving()
        {
            control.send_later(&ToPrimary::Dropped { listener });
        }
    }

    /// Tells the primary that this worker is ready, unless it knows.
    async fn say_ready(&self) {
        // Whoever is ready has its handlers.
        self.messages.settle();
        let Some(control) = &self.control else { return };
        if self.said_ready.load(Ordering::SeqCst) {
            return;
        }
        // Whoever gets connections has the whole state.
        if let Err(error) = self.state.live().await {
            // Either the primary is gone, or something is wrong here: then the start times out, and another is tried.
            return tracing::error!(%error, "not ready: the shared state can't be had");
        }
        // The flag is set afterwards: a future dropped while it waits must not leave it unsaid. Twice is no harm.
        match control.send(&ToPrimary::Ready).await {
            Ok(()) => self.said_ready.store(true, Ordering::SeqCst),
            Err(error) => tracing::debug!(%error, "could not say ready"),
        }
    }

    /// Tells the primary that this worker drains and ends without having been asked by it, and does so.
    async fn leave_by_itself(&self, deadlines: Deadlines) {
        if let Some(control) = &self.control {
            control.send_later(&ToPrimary::Leaving);
        }
        self.gate.leave_within(deadlines).await;
    }

    fn count(&self, name: &str, by: u64) {
        let say = |number| {
            let message = ToPrimary::Counter { number, name: name.to_owned() };
            // Without a primary there is nobody to tell.
            self.control.as_ref().is_none_or(|control| control.try_send(&message))
        };
        if let Some(number) = self.counters.number(name, say) {
            self.board.count(number, by);
        }
    }
}

/// How many connections this process can hold before it comes near its limit of open files. One too many, and the kernel
/// drops descriptors on their way here.
fn capacity(most: Option<u32>) -> u32 {
    let limit = os::OpenFiles::current().soft();
    let open = os::open_descriptors().unwrap_or(0);
    let spare = SPARE_DESCRIPTORS.min(limit / 4);
    let capacity = u32::try_from(limit.saturating_sub(open + spare).max(1)).unwrap_or(u32::MAX);
    most.map_or(capacity, |most| capacity.min(most))
}

impl Worker {
    #[cfg(feature = "http")]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Which worker this is.
    pub fn id(&self) -> WorkerId {
        self.inner.id
    }

    /// This process.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// The worker's slot: `0..workers`, the same over restarts.
    pub fn slot(&self) -> u32 {
        self.inner.id.slot()
    }

    /// Says that this worker is ready. A worker that listens need not: its first `accept` does.
    pub async fn ready(&self) {
        self.inner.say_ready().await;
    }

    /// Says whether this worker can take work now. While it can't it gets no connections; those it has go on. A worker that has said
    /// nothing can. In inline mode it has no effect.
    pub async fn set_ready(&self, ready: bool) {
        if let Some(control) = &self.inner.control {
            // Without a primary there is nobody to tell.
            let _ = control.send(&ToPrimary::Readiness(ready)).await;
        }
    }

    /// Reports a value of the application, under a name of its choice: for [limits](crate::health::Limit) that the primary checks it
    /// against ([`Builder::health`](crate::Builder::health); not in inline mode), and for the [status](WorkerStatus::gauges). Of one name only
    /// the last value of each heartbeat is sent. Up to 64 names, of up to 64 bytes, are kept; others have no effect.
    pub fn gauge(&self, name: &str, value: f64) {
        self.inner.gauges.set(name, value);
    }

    /// Adds to a counter of the application, under a name of its choice. What all workers have counted, also those that have ended, in
    /// whatever way, is summed up by name in the [status](ClusterStatus::counters).
    ///
    /// It costs an addition in shared memory and no message, but for the first of a name: with a worker that is killed before that is sent, which is
    /// a moment, what it counted by that name is lost. Up to 64 names of a worker, of up to 64 bytes, are kept, and 256 of the cluster; others
    /// have no effect.
    ///
    /// ```no_run
    /// # fn example(worker: cluster::Worker, bytes: u64) {
    /// worker.count("uploads", 1);
    /// worker.count("uploaded_bytes", bytes);
    /// # }
    /// ```
    pub fn count(&self, name: &str, by: u64) {
        self.inner.count(name, by);
    }

    /// The state that all workers and the primary share: a replicated map, read here and ordered by the primary. A worker has all of it before it
    /// is ready, and a read sees what was acknowledged to anybody before it, whether this worker had a turn since or not
    /// ([how, and when not](SharedState#read-levels)). In inline mode it is this process's own.
    ///
    /// What others call by names of their own:
    ///
    /// | there | here |
    /// |---|---|
    /// | `getState(key)` | [`get`](SharedState::get) |
    /// | `getAllState()` | [`view`](SharedState::view) |
    /// | `setState(key, value)`, `setRemoteState` | [`set`](SharedState::set) |
    /// | `deleteState(key)` | [`delete`](SharedState::delete) |
    /// | `getRemoteState(key)` | [`sync`](SharedState::sync), then `get` |
    /// | `subscribe(key, (new, old) => …)` | [`watch`](SharedState::watch), as a stream or by a callback |
    ///
    /// ```no_run
    /// # async fn example(worker: cluster::Worker) -> Result<(), Box<dyn std::error::Error>> {
    /// let visits = worker.state().increment("visits", 1).await?;
    /// # Ok(()) }
    /// ```
    pub fn state(&self) -> SharedState {
        self.inner.state.clone()
    }

    /// Messages to and from the other processes. Handlers are best set before this worker is ready: from then on
    /// requests that nobody answers are refused at once. In inline mode all that is sent to the primary comes back.
    pub fn messages(&self) -> Messages {
        self.inner.messages.clone()
    }

    /// Takes a descriptor that the primary handed over under this name: [`Settings::descriptor`](crate::Settings::descriptor). `None` if it
    /// did not, or it was taken before.
    pub fn take_descriptor(&self, name: &str) -> Option<OwnedFd> {
        self.inner.descriptors.lock().remove(name)
    }

    /// Resolves when the worker has been asked to leave: the first phase of a drain. What has no end of its own, a WebSocket or a
    /// stream of events, ends itself now; a request that ends by itself need not know.
    ///
    /// Say of such a connection that it is [long-lived](crate::Connection): then nobody waits for something to be read from it,
    /// and it has a [deadline](crate::Builder::long_lived_deadline) of its own, at which it is cut.
    ///
    /// ```no_run
    /// # async fn example(worker: cluster::Worker, mut stream: cluster::Stream) -> std::io::Result<()> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut buffer = [0; 1024];
    /// loop {
    ///     tokio::select! {
    ///         read = stream.read(&mut buffer) => match read? {
    ///             0 => return Ok(()),
    ///             n => stream.write_all(&buffer[..n]).await?,
    ///         },
    ///         () = worker.leaving() => return stream.write_all(b"goodbye").await,
    ///     }
    /// }
    /// # }
    /// ```
    pub fn leaving(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(&self.inner.gate);
        async move { gate.reached(Phase::Leaving).await }
    }

    /// Resolves when the server should shut down gracefully: finish what it is doing, close idle connections, accept no more.
    ///
    /// This is the second phase of a drain. In the first, no new connections come, every response says `Connection:
    /// close` (with the [`layer`](Self::layer)), and idle connections stay open until their next request or for the `linger` time, since
    /// a request may be on its way on any of them. HTTP/2 clients get their GOAWAY in the second phase; nothing is lost on
    /// either side of it.
    ///
    /// Whoever is still connected at the deadline of [`Policy`](cluster_supervisor::Policy)'s stop sequence, or at [that of long-lived
    /// connections](crate::Builder::long_lived_deadline), is cut off, so that the server ends. A worker that gets SIGTERM goes the same way, from
    /// then on; a second one changes nothing.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(&self.inner.gate);
        async move { gate.reached(Phase::Draining).await }
    }

    /// Whether this worker has been asked to leave (the first phase has begun).
    pub fn is_leaving(&self) -> bool {
        self.inner.gate.is_leaving()
    }

    /// Resolves when the worker drains and its last connection is closed. For servers that keep no account of their
    /// connections themselves, or not of all: for axum, a WebSocket is none of its connections any more.
    pub async fn drained(&self) {
        self.inner.gate.reached(Phase::Draining).await;
        self.inner.gate.idle().await;
    }

    /// How everybody is: asks the primary. Of hundreds of workers with many [gauges](Self::gauge) each these may be left out: it is one message, of at
    /// most 1 MiB.
    ///
    /// # Errors
    ///
    /// When the primary is gone, or silent for 5 s.
    pub async fn status(&self) -> Result<ClusterStatus> {
        match &self.inner.control {
            Some(control) => control.request::<StatusReply>(&Request::Status).await,
            None => Ok(self.status_of_one()),
        }
    }

    fn status_of_one(&self) -> ClusterStatus {
        let pid = std::process::id();
        let mut worker = WorkerStatus::of(&self.inner.board.figures());
        worker.slot = self.slot();
        worker.generation = self.inner.id.generation();
        worker.pid = Some(pid);
        worker.state = if self.is_leaving() { "draining" } else { "ready" }.to_owned();
        worker.uptime_ms = millis(self.inner.started.elapsed());
        worker.gauges = self.inner.gauges.all();
        let listening = self.inner.own.as_ref().map_or_else(Vec::new, |own| own.lock().addresses());
        worker.addresses.clone_from(&listening);
        let (id, figures) = (self.inner.id, self.inner.board.figures());
        let mut ledger = Ledger::new();
        ledger.begin(id);
        ledger.observe(id, &Counted::new(figures.taken, figures.requests, figures.errors));
        ClusterStatus {
            primary_pid: pid,
            uptime_ms: worker.uptime_ms,
            listening,
            workers: vec![worker],
            totals: ledger.totals(),
            slots: ledger.slots().map(|(slot, totals)| SlotStatus { slot, totals }).collect(),
            counters: self.inner.counters.all(&self.inner.board.counters()),
            accept: AcceptStatus::default(),
            executable: None,
            roll: None,
        }
    }
}

impl Inner {
    fn new(
        id: WorkerId,
        gate: Arc<Gate>,
        board: Arc<WorkerBoard>,
        intake: Arc<Intake>,
        wires: Wires,
        most: Option<u32>,
    ) -> Self {
        let Wires { control, state, messages, desk, pool } = wires;
        let is_alone = control.is_none();
        Self {
            id,
            gate,
            board,
            intake,
            control,
            said_ready: AtomicBool::new(false),
            claims: Claims::default(),
            own: is_alone.then(|| Mutex::new(Listeners::new(Mode::Shared))),
            most,
            gauges: Arc::default(),
            counters: Arc::default(),
            state,
            messages,
            deadlines: Deadlines::new(Duration::ZERO, Duration::ZERO, None),
            descriptors: Mutex::default(),
            desk,
            _pool: pool,
            started: Instant::now(),
        }
    }
}
