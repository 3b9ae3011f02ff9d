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
mod direct;
mod drain;
mod gauges;
mod guard;
mod intake;
mod io;
mod listener;
mod shared;
mod stream;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use cluster_ipc::{Adopted, Channel, Online, Socket};
use cluster_shared_state::PublisherConfig;
use cluster_shared_state::tokio::SharedState;
use cluster_supervisor::{WorkerId, os};
use parking_lot::Mutex;
use tokio::net::ToSocketAddrs;

use self::control::Control;
use self::direct::Direct;
pub(crate) use self::drain::{Gate, Phase};
use self::gauges::Gauges;
pub(crate) use self::guard::NAME as GUARD;
use self::intake::Intake;
pub use self::listener::Listener;
pub use self::stream::Stream;
use crate::listen::{At, Listen, Mode};
use crate::listeners::Listeners;
use crate::signals::Signals;
use crate::status::{AcceptStatus, ClusterStatus, WorkerStatus};
use crate::wire::{self, Granted, Greeting, ListenReply, Request, StatusReply, ToPrimary};
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
    /// What this worker listens on, and how often: more than once only on port 0, see [`Request::Listen`].
    claims: Mutex<HashMap<At, u32>>,
    /// In inline mode: there is no primary that keeps them.
    own: Option<Mutex<Listeners>>,
    /// How many connections there may be at a time.
    most: Option<u32>,
    /// What the application counts.
    gauges: Arc<Gauges>,
    /// What all workers share.
    state: SharedState,
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
        if let Err(error) =
            control.send(&ToPrimary::Accepting { listener, capacity: capacity(self.most) }).await
        {
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
    async fn leave_by_itself(&self, linger: Duration) {
        if let Some(control) = &self.control {
            control.send_later(&ToPrimary::Leaving);
        }
        self.gate.leave_within(linger).await;
    }

    /// Notes that this worker listens there. For port 0, returns how often it did before.
    fn claim(&self, listen: &Listen) -> Result<u32> {
        let mut claims = self.claims.lock();
        let count = claims.entry(listen.at.clone()).or_default();
        if *count > 0 && !matches!(listen.at, At::Tcp(address) | At::Udp(address) if address.port() == 0) {
            return Err(Error::AlreadyListening { address: listen.to_string() });
        }
        *count += 1;
        Ok(*count - 1)
    }

    /// Forgets that there is a listener there.
    fn unclaim(&self, listen: &Listen) {
        if let Some(count) = self.claims.lock().get_mut(&listen.at) {
            *count = count.saturating_sub(1);
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
    /// Becomes the worker that the primary's Welcome describes.
    pub(crate) fn adopt(adopted: Adopted) -> Result<Self> {
        let (channel, welcome, descriptors) = adopted.into_parts();
        let greeting: Greeting = wire::decode(welcome.payload())?;
        let [data, memory, lifeline, state] = <[OwnedFd; 4]>::try_from(descriptors).map_err(|_| {
            Error::Ipc(cluster_ipc::Error::Malformed { what: "Welcome: it lacks descriptors" })
        })?;
        guard::watch(lifeline, greeting.orphan_timeout)?;
        os::set_open_files(greeting.open_files)?;
        set_name(greeting.slot);

        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let most = greeting.connections;
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate), most));
        let mut channel = cluster_ipc::tokio::Channel::new(channel)?;
        // Goes out with the control task's first turn; an empty outbox takes it.
        drop(channel.try_send(Online::frame([])));
        let control = Control::start(channel, Arc::clone(&gate), Arc::clone(&intake), greeting.linger);
        let data = cluster_ipc::tokio::Channel::new(Channel::new(Socket::from_fd(data)))?;
        let id = WorkerId::new(greeting.slot, greeting.generation);
        let beats = (Arc::clone(&board), control.clone());
        let state = shared::follow(id, Socket::from_fd(state))?;
        let inner = Arc::new(Inner::new(id, gate, board, intake, Some(control), most, state));
        tokio::spawn(beat::beat(beats.0, beats.1, Arc::clone(&inner.gauges), greeting.heartbeat));
        tokio::spawn(run_intake(Arc::clone(&inner), data, greeting.linger));
        let mut signals = Signals::worker()?;
        let leaving = Arc::clone(&inner);
        tokio::spawn(async move {
            signals.recv().await;
            leaving.leave_by_itself(greeting.linger).await;
        });
        Ok(Self { inner })
    }

    /// The one worker of inline mode: it accepts by itself. With `stop_within` it drains at SIGTERM or SIGINT, and ends after
    /// that time or at the second signal, whatever is left.
    pub(crate) fn inline(
        linger: Duration,
        stop_within: Option<Duration>,
        most: Option<u32>,
        state: PublisherConfig,
    ) -> Result<Self> {
        let (_, memory) = PrimaryBoard::create()?;
        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate), most));
        if let Some(stop_within) = stop_within {
            let mut signals = Signals::inline()?;
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                signals.recv().await;
                let leaving = gate.leave_within(linger);
                tokio::select! {
                    _ = signals.recv() => {}
                    () = async { leaving.await; tokio::time::sleep(stop_within).await } => {
                        tracing::warn!("the server did not stop in time");
                    }
                }
                std::process::exit(0);
            });
        }
        let id = WorkerId::new(0, 1);
        let state = shared::alone(id, state);
        Ok(Self { inner: Arc::new(Inner::new(id, gate, board, intake, None, most, state)) })
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
            match self.listen_on(Listen::tcp(address)).await {
                Err(error @ Error::Listen { .. }) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| resolve(std::io::ErrorKind::AddrNotAvailable.into())))
    }

    /// Listens as described: on a Unix socket, on an inherited one, in another mode.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub async fn listen_on(&self, mut listen: Listen) -> Result<Listener> {
        if let At::Unix(path) = &mut listen.at {
            let absolute = std::path::absolute(&path);
            *path =
                absolute.map_err(|source| Error::Listen { address: path.display().to_string(), source })?;
        }
        if let At::Udp(_) = listen.at {
            let source = std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "UDP has no connections: use bind_udp_on",
            );
            return Err(Error::Listen { address: listen.to_string(), source });
        }
        let nth = self.inner.claim(&listen)?;
        let granted = self.ask_for(&listen, nth).await;
        if granted.is_err() {
            self.inner.unclaim(&listen);
        }
        let (granted, socket) = granted?;
        let worker = Arc::clone(&self.inner);
        let failed = |source| Error::Listen { address: listen.to_string(), source };
        let direct = socket.map(|socket| Direct::new(socket, &granted.address)).transpose();
        match (direct.map_err(failed), &self.inner.control) {
            (Ok(Some(direct)), None) => Ok(Listener::inline(direct, granted.address, listen, worker)),
            (Ok(direct), _) => Ok(Listener::granted(granted, direct, listen, worker)),
            (Err(error), _) => {
                self.inner.unclaim(&listen);
                Err(error)
            }
        }
    }

    /// Shares a UDP socket with all workers. It is bound once, by the primary, which keeps it. Say [`ready`](Self::ready) when it is
    /// served: nothing else does.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    ///
    /// ```no_run
    /// # async fn example(worker: cluster::Worker) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = worker.bind_udp("127.0.0.1:5353").await?;
    /// worker.ready().await;
    /// let mut datagram = [0; 1500];
    /// loop {
    ///     let (length, peer) = socket.recv_from(&mut datagram).await?;
    ///     socket.send_to(&datagram[..length], peer).await?;
    /// }
    /// # }
    /// ```
    pub async fn bind_udp(
        &self,
        address: impl ToSocketAddrs + std::fmt::Debug,
    ) -> Result<tokio::net::UdpSocket> {
        let name = format!("{address:?}");
        let resolve = |source| Error::Resolve { address: name.clone(), source };
        let mut addresses = tokio::net::lookup_host(&address).await.map_err(resolve)?;
        let address = addresses.next().ok_or_else(|| resolve(std::io::ErrorKind::AddrNotAvailable.into()))?;
        self.bind_udp_on(Listen::udp(address)).await
    }

    /// The same as described by [`Listen::udp`].
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen); also for anything else than UDP.
    pub async fn bind_udp_on(&self, listen: Listen) -> Result<tokio::net::UdpSocket> {
        let failed = |source| Error::Listen { address: listen.to_string(), source };
        let At::Udp(address) = listen.at else { return Err(failed(std::io::ErrorKind::InvalidInput.into())) };
        // There may be several on a port: they are one socket.
        let nth = if address.port() == 0 { self.inner.claim(&listen)? } else { 0 };
        let (_, socket) = self.ask_for(&listen, nth).await?;
        let socket = socket.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        tokio::net::UdpSocket::from_std(socket.into()).map_err(failed)
    }

    async fn ask_for(&self, listen: &Listen, nth: u32) -> Result<(Granted, Option<OwnedFd>)> {
        let failed = |source| Error::Listen { address: listen.to_string(), source };
        if let Some(own) = &self.inner.own {
            let answer = own.lock().listen(&listen.clone().mode(Mode::Shared), nth, 0).map_err(failed)?;
            return Ok((answer.granted, answer.copy));
        }
        let control = self.inner.control.as_ref().ok_or(Error::PrimaryGone)?;
        let request = Request::Listen { listen: listen.clone(), nth };
        let (reply, descriptors): (ListenReply, _) = control.request_with_descriptors(&request).await?;
        let granted = reply.map_err(|errno| failed(std::io::Error::from_raw_os_error(errno)))?;
        Ok((granted, descriptors.into_iter().next()))
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
    /// against ([`Builder::health`](crate::Builder::health)). Of one name only the last value of each heartbeat is sent. Up to 64 names, of up
    /// to 64 bytes, are kept; others have no effect, nor has it in inline mode.
    pub fn gauge(&self, name: &str, value: f64) {
        self.inner.gauges.set(name, value);
    }

    /// The state that all workers and the primary share: a replicated map, read here and ordered by the primary. A worker has all of it before it
    /// is ready. In inline mode it is this process's own.
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
        let listening = self.inner.own.as_ref().map_or_else(Vec::new, |own| own.lock().addresses());
        ClusterStatus {
            primary_pid: pid,
            listening,
            workers: vec![worker],
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
        control: Option<Control>,
        most: Option<u32>,
        state: SharedState,
    ) -> Self {
        let is_alone = control.is_none();
        Self {
            id,
            gate,
            board,
            intake,
            control,
            said_ready: AtomicBool::new(false),
            claims: Mutex::default(),
            own: is_alone.then(|| Mutex::new(Listeners::new(Mode::Shared))),
            most,
            gauges: Arc::default(),
            state,
            started: Instant::now(),
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
