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
mod intake;
mod lane;
mod patience;
mod peeking;
mod run;
mod stats;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cluster_balancer::{Classes, Strategy};
use cluster_ipc::Channel;
use cluster_ipc::board::PrimaryBoard;
use cluster_supervisor::WorkerId;
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Poll, Token, Waker};
use tokio::sync::oneshot;

pub(crate) use self::stats::Stats;
use crate::builder::Limits;
use crate::listeners::Orphan;
use crate::{Error, Key, Peek, Result};

/// Commands that may wait for the acceptor. It takes them many times a second and there are a few per
/// worker's life, so nobody ever waits for a place here.
const COMMANDS: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// What others want of the acceptor.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept on this socket, under this number. It must be non-blocking.
    Listen { listener: u8, socket: OwnedFd },
    /// Accept on a socket that is a slot's or the workers', or no longer.
    Orphan(Orphan),
    /// A worker was started; this is its data channel and board.
    Attach { worker: WorkerId, channel: Box<Channel>, board: Arc<PrimaryBoard> },
    /// The worker may get connections of these listeners: at first, again, or of others than before. It can hold
    /// `capacity` of them.
    Admit { worker: WorkerId, capacity: u32, listeners: Classes },
    /// The worker gets no more, and what it has not taken is claimed back. It may be dead, hung or leaving.
    Withdraw { worker: WorkerId },
    /// The worker uses so much of what is balanced by.
    Gauge { worker: WorkerId, used: u64 },
    /// The worker is dead and withdrawn.
    Forget { worker: WorkerId },
    /// Accept what waits in the kernel's queues, close the listening sockets, hand out the rest; answer when
    /// every connection is taken, or after `within`.
    Close { within: Duration, done: oneshot::Sender<()> },
}

/// What the acceptor needs to know from the start.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) strategy: Box<dyn Strategy>,
    /// Which connections belong together, and how far to look for that.
    pub(crate) key: Key,
    pub(crate) peek: Peek,
    pub(crate) limits: Limits,
    /// Untaken connections per worker.
    pub(crate) window: u16,
    /// Connections accepted in one go.
    pub(crate) batch: usize,
    /// Copies of connections held at once, so that descriptors are left for starting workers.
    pub(crate) held: usize,
}

/// The handle of the acceptor's thread. Dropping it ends the thread, which closes everything it holds.
#[derive(Debug)]
pub(crate) struct Acceptor {
    commands: Option<Sender<Command>>,
    waker: Arc<Waker>,
    stats: Arc<Stats>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Acceptor {
    /// Starts the thread. The receiver resolves (with an error) if it ends before it is told to.
    pub(crate) fn start(settings: Settings) -> Result<(Self, oneshot::Receiver<()>)> {
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
        inbox: Receiver<Command>,
        settings: Settings,
        stats: Arc<Stats>,
        alive: oneshot::Sender<()>,
    ) -> Result<thread::JoinHandle<()>> {
        thread::Builder::new()
            .name("acceptor".to_owned())
            .spawn(move || {
                // Dropped when the thread ends in whatever way, a panic included.
                let _alive = alive;
                run::Run::new(poll, inbox, settings, stats).run();
            })
            .map_err(Error::os("start the acceptor's thread"))
    }

    /// Sends a command. Fails only when the thread is gone, which its receiver reports.
    pub(crate) fn command(&self, command: Command) {
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok());
        if !sent {
            tracing::error!("the acceptor is gone");
        }
        self.wake();
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "could not wake the acceptor");
        }
    }
}

impl Drop for Acceptor {
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
