//! What the primary needs of the system. It is the seam for tests (`testing`), which bring their own; all else of the primary is the same
//! for both.
//!
//! | what it does | on the system there is | in a test |
//! |---|---|---|
//! | starts a worker ([`Cradle`]) | a process | a task |
//! | signals it ([`Body`]) | by its pidfd | SIGTERM begins its drain; SIGKILL cuts its wires and aborts it |
//! | hears of its end ([`Newborn::end`]) | the pidfd becomes readable | a pipe does |
//! | talks to it ([`Wires`]) | socket pairs and shared memory | the same |
//! | accepts connections | a thread, on sockets of the network | a task, on sockets that only the test knows |
//! | hears of the world | signals, and children that are not its own | not at all |
//! | reads the clock ([`clock`](crate::clock)) | the runtime's | the same, which the test may stop |

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cluster_acceptor::{Acceptor, Listeners};
use cluster_health::os::{Report, Sampler};
use cluster_ipc::board::PrimaryBoard;
use cluster_ipc::{Channel, Socket};
use cluster_supervisor::WorkerId;
use cluster_supervisor::os::{self, Death, Executable, Orphans};
use rustix::process::Signal;
use tokio::sync::oneshot;

use super::birth::Processes;
use super::orphans;
use super::remains::Remains;
use crate::builder::Builder;
use crate::signals::Signals;
use crate::{Result, Settings};

/// Descriptors that the primary keeps free of connections, beside those per worker: its own, and a
/// worker being started.
const SPARE_DESCRIPTORS: u64 = 16;

/// Descriptors per worker: control channel, data channel, shared state and its bell (two), messages, four for its process, four to measure it, two for its
/// output, with room for its successor.
const DESCRIPTORS_PER_WORKER: u64 = 34;

/// What a primary runs on.
pub(crate) struct System {
    pub(crate) cradle: Box<dyn Cradle>,
    pub(crate) acceptor: Acceptor<WorkerId>,
    pub(crate) acceptor_ended: oneshot::Receiver<()>,
    pub(crate) listeners: Listeners,
    pub(crate) signals: Option<Signals>,
    /// Who looks after orphans, and what tells that a child has ended, where others than workers may.
    pub(crate) orphans: Option<(Orphans, tokio::signal::unix::Signal)>,
    /// For the jitter of the back-off, when workers are measured, the epoch of the shared state.
    pub(crate) seed: u64,
}

/// Where workers come from.
pub(crate) trait Cradle: Send {
    /// Starts a worker of a release, with these settings.
    fn bear(&mut self, id: WorkerId, executable: &Arc<Executable>, settings: &Settings) -> Result<Newborn>;

    /// What a worker that has ended printed last.
    fn last_words(&self, _: WorkerId) -> String {
        String::new()
    }

    /// Lets the last lines of all get where they go.
    fn close(&mut self) {}
}

/// What a worker runs as: a process, say, which goes on when this is dropped.
pub(crate) trait Body: Send + fmt::Debug {
    fn pid(&self) -> u32;

    /// Sends a signal to it. Returns whether it is there still.
    fn signal(&mut self, signal: Signal) -> Result<bool>;

    /// How it ended, once it has told that it did; `None` if that is to be had later.
    fn examine(&mut self) -> Option<Death>;

    /// Whether a debugger holds it.
    fn is_traced(&self) -> bool {
        false
    }

    /// What it looks like from outside.
    fn report(&self) -> Option<Report> {
        None
    }

    /// What has yet to be reaped, if something has; with those whom it started, if they are to end with it.
    fn into_remains(self: Box<Self>, _kill_descendants: bool) -> Option<Remains> {
        None
    }
}

/// A worker that was just started, as the primary holds it.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) body: Box<dyn Body>,
    /// Readable once it has ended: a pidfd, or a pipe's end.
    pub(crate) end: OwnedFd,
    /// What measures it, if something can.
    pub(crate) sampler: Option<Sampler>,
    pub(crate) wires: Wires,
}

/// What connects a worker to the primary: the primary's ends.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) control: Channel,
    pub(crate) data: Channel,
    pub(crate) state: Socket,
    pub(crate) messages: Socket,
    pub(crate) board: Arc<PrimaryBoard>,
}

impl Wires {
    /// Both ends. The worker's are the control channel's and, in this order, those of the data channel, the board, the shared state and the
    /// messages.
    pub(crate) fn new() -> Result<(Self, Socket, [OwnedFd; 4])> {
        let (control, workers_control) = Socket::pair()?;
        let (data, workers_data) = Socket::pair()?;
        let (state, workers_state) = Socket::pair()?;
        let (messages, workers_messages) = Socket::pair()?;
        let (board, memory) = PrimaryBoard::create()?;
        let [control, data] = [control, data].map(Channel::new);
        let wires = Self { control, data, state, messages, board: Arc::new(board) };
        let workers = [workers_data.into_fd(), memory, workers_state.into_fd(), workers_messages.into_fd()];
        Ok((wires, workers_control, workers))
    }
}

impl System {
    /// The one there is: processes, a thread that accepts, signals.
    pub(super) fn new(config: &mut Builder) -> Result<Self> {
        let limit_before = os::raise_open_files()?;
        let settings = config.acceptor()?.held(held(config.workers));
        let (acceptor, acceptor_ended) = Acceptor::start(settings)?;
        Ok(Self {
            cradle: Box::new(Processes::new(config, limit_before.soft())?),
            acceptor,
            acceptor_ended,
            listeners: Listeners::new(config.mode),
            orphans: orphans::watch(config.subreaper)?,
            signals: config.signals.then(Signals::primary).transpose()?,
            seed: seed(),
        })
    }
}

/// How many copies of untaken connections the acceptor may hold, so that there are always descriptors left to
/// replace a worker.
fn held(workers: usize) -> usize {
    let limit = os::OpenFiles::current().soft();
    let open = os::open_descriptors().unwrap_or(0);
    let reserved = open + SPARE_DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers as u64;
    usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX).max(1)
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
