//! The worker's side: what an application does in each worker process.
//!
//! ```text
//!   control channel ──▶ control (task) ──▶ drain gate ──▶ layer, draining()
//!   data channel    ──▶ intake (task)  ──▶ Listener::accept ──▶ Stream
//!   board           ◀── beat (task), counters
//!   lifeline        ──▶ guard (thread)
//! ```

mod beat;
mod control;
mod drain;
mod guard;
mod intake;
mod listener;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use cluster_ipc::{Adopted, Channel, Online, Socket};
use cluster_supervisor::{WorkerId, os};
use parking_lot::Mutex;
use tokio::net::ToSocketAddrs;

use self::control::Control;
pub(crate) use self::drain::{Gate, Phase};
use self::intake::Intake;
pub use self::listener::Listener;
pub use self::stream::Stream;
use crate::signals::Signals;
use crate::status::{AcceptStatus, ClusterStatus, WorkerStatus};
use crate::wire::{self, Greeting, ListenReply, Request, StatusReply, ToPrimary};
use crate::{Error, Result};

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
    /// How often each address with port 0 was listened on; see [`Request::Listen`].
    any_port: Mutex<HashMap<SocketAddr, u32>>,
    fixed_ports: Mutex<Vec<SocketAddr>>,
    started: Instant,
}

impl Inner {
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn board(&self) -> &Arc<WorkerBoard> {
        &self.board
    }

    fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Tells the primary that this listener's connections are welcome, and that the worker is ready.
    async fn say_accepting(&self, listener: u8) {
        let Some(control) = &self.control else { return };
        if let Err(error) = control.send(&ToPrimary::Accepting { listener, capacity: capacity() }).await {
            tracing::debug!(%error, "could not say that connections are welcome");
        }
        self.say_ready().await;
    }

    fn say_dropped(&self, listener: u8) {
        if let Some(control) = &self.control
            && !self.gate.is_leaving()
        {
            control.send_later(&ToPrimary::Dropped { listener });
        }
    }

    /// Tells the primary that this worker is ready, unless it knows.
    async fn say_ready(&self) {
        let Some(control) = &self.control else { return };
        if self.said_ready.load(Ordering::SeqCst) {
            return;
        }
        // The flag is set afterwards: a future dropped while it waits must not leave it unsaid. Twice is no harm.
        match control.send(&ToPrimary::Ready).await {
            Ok(()) => self.said_ready.store(true, Ordering::SeqCst),
            Err(error) => tracing::debug!(%error, "could not say ready"),
        }
    }

    /// Tells the primary that this worker drains and ends without having been asked by it, and does so.
    async fn leave_by_itself(&self, linger: Duration) {
        if let Some(control) = &self.control {
            control.send_later(&ToPrimary::Leaving);
        }
        self.gate.leave_within(linger).await;
    }

    /// Forgets that there is a listener on this address.
    fn unclaim(&self, address: SocketAddr) {
        if let Some(count) = self.any_port.lock().get_mut(&address) {
            *count = count.saturating_sub(1);
        }
        self.fixed_ports.lock().retain(|claimed| *claimed != address);
    }
}

/// How many connections this process can hold before it comes near its limit of open files. One too many, and the kernel
/// drops descriptors on their way here.
fn capacity() -> u32 {
    let limit = os::OpenFiles::current().soft();
    let open = os::open_descriptors().unwrap_or(0);
    let spare = SPARE_DESCRIPTORS.min(limit / 4);
    u32::try_from(limit.saturating_sub(open + spare).max(1)).unwrap_or(u32::MAX)
}

impl Worker {
    /// Becomes the worker that the primary's Welcome describes.
    pub(crate) fn adopt(adopted: Adopted) -> Result<Self> {
        let started = Instant::now();
        let (channel, welcome, descriptors) = adopted.into_parts();
        let greeting: Greeting = wire::decode(welcome.payload())?;
        let [data, memory, lifeline] = <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| {
            Error::Ipc(cluster_ipc::Error::Malformed { what: "Welcome: it lacks descriptors" })
        })?;
        guard::watch(lifeline, greeting.orphan_timeout)?;
        os::set_open_files(greeting.open_files)?;
        set_name(greeting.slot);

        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate)));
        let mut channel = cluster_ipc::tokio::Channel::new(channel)?;
        // Goes out with the control task's first turn; an empty outbox takes it.
        drop(channel.try_send(Online::frame([])));
        let control = Control::start(channel, Arc::clone(&gate), Arc::clone(&intake), greeting.linger);
        let data = cluster_ipc::tokio::Channel::new(Channel::new(Socket::from_fd(data)))?;
        tokio::spawn(beat::beat(Arc::clone(&board), greeting.heartbeat));

        let id = WorkerId::new(greeting.slot, greeting.generation);
        let inner = Arc::new(Inner::new(id, gate, board, intake, Some(control), started));
        tokio::spawn(run_intake(Arc::clone(&inner), data, greeting.linger));
        let mut signals = Signals::terminate()?;
        let leaving = Arc::clone(&inner);
        tokio::spawn(async move {
            signals.recv().await;
            leaving.leave_by_itself(greeting.linger).await;
        });
        Ok(Self { inner })
    }

    /// The one worker of inline mode: it accepts by itself. With `stop_within` it drains at SIGTERM or SIGINT, and ends after
    /// that time or at the second signal, whatever is left.
    pub(crate) fn inline(linger: Duration, stop_within: Option<Duration>) -> Result<Self> {
        let (_, memory) = PrimaryBoard::create()?;
        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate)));
        if let Some(stop_within) = stop_within {
            let mut signals = Signals::new()?;
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                signals.recv().await;
                let leaving = gate.leave_within(linger);
                tokio::select! {
                    () = signals.recv() => {}
                    () = async { leaving.await; tokio::time::sleep(stop_within).await } => {
                        tracing::warn!("the server did not stop in time");
                    }
                }
                std::process::exit(0);
            });
        }
        let id = WorkerId::new(0, 1);
        Ok(Self { inner: Arc::new(Inner::new(id, gate, board, intake, None, Instant::now())) })
    }

    #[cfg(feature = "http")]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Which worker this is.
    pub fn id(&self) -> WorkerId {
        self.inner.id
    }

    /// The worker's slot: `0..workers`, the same over restarts.
    pub fn slot(&self) -> u32 {
        self.inner.id.slot()
    }

    /// Listens on an address that all workers share: it is bound once, by the primary. With port 0 all workers get
    /// the same port; a worker's second listener on port 0 gets a second one.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`], [`Error::AlreadyListening`], or [`Error::Listen`] with what the system said to the primary (the
    /// address is in use, say). Also when the primary is gone or silent.
    pub async fn listen(&self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Listener> {
        let name = format!("{address:?}");
        let resolve = |source| Error::Resolve { address: name.clone(), source };
        let addresses = tokio::net::lookup_host(&address).await.map_err(resolve)?;
        let mut last = None;
        for address in addresses {
            match self.listen_on(address).await {
                Err(error @ Error::Listen { .. }) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| resolve(std::io::ErrorKind::AddrNotAvailable.into())))
    }

    async fn listen_on(&self, address: SocketAddr) -> Result<Listener> {
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let worker = Arc::clone(&self.inner);
        let Some(control) = &self.inner.control else {
            let socket = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            self.inner.fixed_ports.lock().push(address);
            return Ok(Listener::direct(socket, address, worker));
        };
        let nth = self.claim(address)?;
        let reply: ListenReply = match control.request(&Request::Listen { address, nth }).await {
            Ok(reply) => reply,
            Err(error) => {
                self.inner.unclaim(address);
                return Err(error);
            }
        };
        match reply {
            Ok((number, bound)) => Ok(Listener::handed(number, address, bound, worker)),
            Err(errno) => {
                self.inner.unclaim(address);
                Err(failed(std::io::Error::from_raw_os_error(errno)))
            }
        }
    }

    /// Notes that this worker listens there. For port 0, returns how often it did before.
    fn claim(&self, address: SocketAddr) -> Result<u32> {
        if address.port() == 0 {
            let mut any_port = self.inner.any_port.lock();
            let count = any_port.entry(address).or_default();
            *count += 1;
            return Ok(*count - 1);
        }
        let mut fixed = self.inner.fixed_ports.lock();
        if fixed.contains(&address) {
            return Err(Error::AlreadyListening { address });
        }
        fixed.push(address);
        Ok(0)
    }

    /// Says that this worker is ready. A worker that listens need not: its first `accept` does.
    pub async fn ready(&self) {
        self.inner.say_ready().await;
    }

    /// Resolves when the server should shut down gracefully: finish what it is doing, close idle connections, accept no more.
    ///
    /// This is the second phase of a drain. In the first, no new connections come, every response says `Connection:
    /// close` (with the [`layer`](Self::layer)), and idle connections stay open until their next request or for the `linger` time, since
    /// a request may be on its way on any of them.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(&self.inner.gate);
        async move { gate.reached(Phase::Draining).await }
    }

    /// Whether this worker has been asked to leave (the first phase has begun).
    pub fn is_leaving(&self) -> bool {
        self.inner.gate.is_leaving()
    }

    /// Resolves when the worker drains and its last connection is closed. For servers that keep no account of their
    /// connections themselves.
    pub async fn drained(&self) {
        self.inner.gate.reached(Phase::Draining).await;
        self.inner.gate.idle().await;
    }

    /// How everybody is: asks the primary.
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
        worker.uptime_ms = u64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let listening = self.inner.fixed_ports.lock().clone();
        ClusterStatus { primary_pid: pid, listening, workers: vec![worker], accept: AcceptStatus::default() }
    }
}

impl Inner {
    fn new(
        id: WorkerId,
        gate: Arc<Gate>,
        board: Arc<WorkerBoard>,
        intake: Arc<Intake>,
        control: Option<Control>,
        started: Instant,
    ) -> Self {
        Self {
            id,
            gate,
            board,
            intake,
            control,
            said_ready: AtomicBool::new(false),
            any_port: Mutex::default(),
            fixed_ports: Mutex::default(),
            started,
        }
    }
}

/// Without its data channel a worker gets no connections: it finishes what it has and ends, to be replaced.
async fn run_intake(inner: Arc<Inner>, data: cluster_ipc::tokio::Channel, linger: Duration) {
    let error = Arc::clone(&inner.intake).receive(data).await;
    if inner.gate.is_leaving() {
        return;
    }
    if matches!(error, Error::Ipc(cluster_ipc::Error::PeerGone)) {
        tracing::debug!("the data channel has ended");
    } else {
        tracing::error!(%error, "this worker can receive no more connections: it drains and ends");
    }
    inner.leave_by_itself(linger).await;
}

/// The process was started through a descriptor, so its name in `ps` would be that number.
fn set_name(slot: u32) {
    let exe = std::env::current_exe().ok();
    let stem =
        exe.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str()).unwrap_or("worker");
    let short: String = stem.chars().take(10).collect();
    if let Ok(name) = std::ffi::CString::new(format!("{short}:{slot}")) {
        // Only for people; nothing depends on it.
        let _ = rustix::thread::set_name(&name);
    }
}
