//! The acceptor: a thread of the primary that accepts connections and hands each to a worker.
//!
//! ```text
//!   listening socket ──accept4──▶ Dispatcher ──batches──▶ sendmsg + descriptors ──▶ worker's data channel
//!                                   ▲    │ keeps the primary's copies until taken
//!                     recalled ─────┘    └──▶ closed once the worker's board says "taken"
//! ```
//!
//! The thread owns the [`Dispatcher`](cluster_balancer::Dispatcher), the listening sockets and the
//! primary's end of every data channel. Others talk to it by [`Command`]s; it never calls back.
//!
//! Who owns an untaken connection is decided by its ticket on the worker's board and by nothing else. The acceptor
//! looks at the tickets whenever it does something anyway, and at least every few milliseconds while
//! any is open; a worker rings (an empty frame) only when asked to, which is when nothing can be accepted until
//! some worker has taken or finished something. So in steady state a connection costs no acknowledgement.

mod accepting;
mod closing;
mod intake;
mod lane;
mod patience;
mod peek;
mod peeking;
mod run;
mod settings;
mod stats;
#[cfg(feature = "test-util")]
mod turning;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cluster_balancer::{Classes, DispatcherStatus};
use cluster_ipc::Channel;
use cluster_ipc::board::PrimaryBoard;
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Poll, Token, Waker};
use tokio::sync::oneshot;

pub use self::peek::Peek;
pub use self::settings::{Settings, WhenFull};
pub use self::stats::AcceptStatus;
use self::stats::Stats;
#[cfg(feature = "test-util")]
pub use self::turning::Turning;
use crate::{Error, ListeningSocket, Orphan};

/// Commands that may wait for the acceptor. It takes them many times a second and there are a few per
/// worker's life, so nobody ever waits for a place here.
const COMMANDS: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// What the caller tells workers apart by. Everything suitable is one.
pub trait WorkerKey: Copy + Ord + Hash + fmt::Debug + fmt::Display + Send + 'static {}

impl<K: Copy + Ord + Hash + fmt::Debug + fmt::Display + Send + 'static> WorkerKey for K {}

/// What others want of the acceptor.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command<K> {
    /// Accept on a new listener's socket.
    Listen {
        /// Its number, below 64.
        listener: u8,
        /// It must be non-blocking.
        socket: ListeningSocket,
    },
    /// This listener is no more: its sockets are closed, and connections that nobody has taken.
    Unlisten {
        /// Its number.
        listener: u8,
    },
    /// Accept on a socket that is a slot's or the workers', or no longer.
    Orphan(Orphan),
    /// There is a worker. It gets nothing before it is admitted.
    Attach {
        /// Which.
        worker: K,
        /// Its slot: strategies know it by this [identity](cluster_balancer::Limits::identity), and so its successor.
        slot: u32,
        /// Which life of the slot it is, for the log.
        generation: u32,
        /// Its process, for the log.
        pid: u32,
        /// Its data channel, this end.
        channel: Box<Channel>,
        /// Its board, this side.
        board: Arc<PrimaryBoard>,
    },
    /// The worker may get connections: at first, again, or of other listeners than before.
    Admit {
        /// Which.
        worker: K,
        /// How many connections it can hold. With 0 it gets none: it is full.
        capacity: u32,
        /// The numbers of the listeners.
        listeners: Classes,
    },
    /// The worker gets no more, and what it has not taken is claimed back. It may be dead, hung or leaving.
    Withdraw {
        /// Which.
        worker: K,
    },
    /// What a worker uses, for strategies that balance by that.
    Gauge {
        /// Which.
        worker: K,
        /// In whatever unit, the same for all.
        used: u64,
    },
    /// How does the dispatcher see everybody?
    Status {
        /// Answered at once. Whoever asked may have gone away meanwhile.
        reply: oneshot::Sender<DispatcherStatus<K>>,
    },
    /// The worker is dead: it is withdrawn, and its data channel is closed.
    Forget {
        /// Which.
        worker: K,
    },
    /// Let nobody new in, accept what waits in the kernel's queues, close the listening sockets, hand out the rest.
    ///
    /// From now on clients are not let in, and once those are accepted who were, they are refused by all who have a copy of a socket,
    /// unless it is [inherited](ListeningSocket::inherited).
    Close {
        /// After that nobody is waited for who is half in (his handshake is under way), and if there is no worker at all that could take
        /// something, the rest is given up.
        linger: Duration,
        /// After that, the rest is given up.
        within: Duration,
        /// Answered when every connection is taken, or the time is over.
        done: oneshot::Sender<()>,
    },
}

/// The acceptor: a thread that accepts connections and hands each to a worker.
///
/// It owns listening sockets, its end of every data channel, and what is accepted and not taken. It is told what to do by
/// [`Command`]s, in their order, and calls nobody back.
///
/// Dropping it ends the thread, which closes everything it holds.
#[derive(Debug)]
pub struct Acceptor<K> {
    commands: Option<Sender<Command<K>>>,
    waker: Arc<Waker>,
    stats: Arc<Stats>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<K: WorkerKey> Acceptor<K> {
    /// Starts the thread. The receiver resolves (with an error) if it ends before it is told to.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: no thread, or no descriptors.
    pub fn start(settings: Settings) -> Result<(Self, oneshot::Receiver<()>), Error> {
        let poll = Poll::new().map_err(Error::os("make an epoll for the acceptor"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(Error::os("make a waker for the acceptor"))?;
        let (commands, inbox) = bounded(COMMANDS);
        let (alive, ended) = oneshot::channel();
        let stats = Arc::new(Stats::default());
        let thread = Self::spawn(poll, inbox, settings, Arc::clone(&stats), alive)?;
        let acceptor = Self { commands: Some(commands), waker: Arc::new(waker), stats, thread: Some(thread) };
        Ok((acceptor, ended))
    }

    fn spawn(
        poll: Poll,
        inbox: Receiver<Command<K>>,
        settings: Settings,
        stats: Arc<Stats>,
        alive: oneshot::Sender<()>,
    ) -> Result<thread::JoinHandle<()>, Error> {
        thread::Builder::new()
            .name("acceptor".to_owned())
            .spawn(move || {
                // Dropped when the thread ends in whatever way, a panic included.
                let _alive = alive;
                run::Run::new(poll, inbox, settings, stats, Instant::now()).run();
            })
            .map_err(Error::os("start the acceptor's thread"))
    }

    /// Sends a command, and returns before it is carried out. Fails only when the thread is gone, which its receiver reports.
    pub fn command(&self, command: Command<K>) {
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok());
        if !sent {
            tracing::error!("the acceptor is gone");
        }
        self.wake();
    }

    /// What it did so far.
    pub fn status(&self) -> AcceptStatus {
        self.stats.snapshot()
    }
}

impl<K> Acceptor<K> {
    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "could not wake the acceptor");
        }
    }
}

impl<K> Drop for Acceptor<K> {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the acceptor's thread panicked");
        }
    }
}
