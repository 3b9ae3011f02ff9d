//! One worker, as the primary holds it, and the task that listens to it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_balancer::Classes;
use cluster_health::Quantity;
use cluster_ipc::board::PrimaryBoard;
use cluster_ipc::tokio::{Channel, Readable};
use cluster_ipc::{Error, Frame, Kind};
use cluster_supervisor::os::{Autopsy, Child, Death, Tree};
use cluster_supervisor::{Exit, StopSignal, WorkerId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::birth::Newborn;
use super::remains::{Remains, Swept};
use super::shared::Shared;
use super::vitals::Vitals;
use crate::Result;

/// Frames that may wait for one worker's task: answers to at most [`UNANSWERED`] requests, and the wish that it drains.
const OUTGOING: usize = 64;

/// Requests of one worker that may be without an answer; the next are not read before.
const UNANSWERED: usize = 32;

/// The largest frame that a worker may send: what it says to the primary is short.
const MAX_FRAME: usize = 64 << 10;

/// How many frames of a worker that has exited are read: more than its socket holds of what it says. Whoever has its socket still may go on.
const LAST_WORDS: usize = 1024;

/// How long an exit may follow the end of the channel before the end alone counts as a fault.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// What a worker's task reports.
#[derive(Debug)]
pub(super) enum Report {
    /// It sent a frame.
    Frame(WorkerId, Frame<OwnedFd>),
    /// Its channel has ended or broken, and it has not exited.
    ChannelLost(WorkerId, Error),
    /// It has exited; all it had sent was reported before. It has yet to be reaped.
    Exited(WorkerId),
    /// Its memory was measured closely; `None` if that can't be had.
    Confirmed(WorkerId, Option<u64>),
    /// It was reaped, and whom it left behind was looked after.
    Swept(WorkerId, Swept),
}

/// A living worker. Dropping it stops listening to it, no more.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) child: Child,
    tree: Tree,
    autopsy: Autopsy,
    /// The strongest signal that we have sent.
    sent: Option<StopSignal>,
    pub(super) board: Arc<PrimaryBoard>,
    pub(super) started: Instant,
    /// How many connections it can hold, once it said so.
    pub(super) capacity: u32,
    /// How often it had beaten when that was looked at last.
    pub(super) beats: u64,
    /// It does not beat.
    pub(super) silent: bool,
    /// It exceeds a limit that makes it suspect, or fails its requests.
    pub(super) unwell: bool,
    /// It gets nothing since it is unwell, and enough others are not.
    pub(super) passed_over: bool,
    /// What it uses.
    pub(super) vitals: Vitals,
    /// It says that it can't take work.
    pub(super) unready: bool,
    /// What it counts, as it said last.
    pub(super) gauges: Vec<(Quantity, f64)>,
    /// Why it has to go, if a verdict says so.
    pub(super) reason: Option<Arc<str>>,
    /// The listeners that it accepts on, as far as it said.
    pub(super) listeners: Classes,
    outgoing: mpsc::Sender<Frame<OwnedFd>>,
    _task: Task,
    _state: Task,
}

/// Ends when this is dropped.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn new<T>(task: &JoinHandle<T>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Starts listening to a new worker. Returns its data channel too, which is the acceptor's. A worker that
    /// can't be listened to is ended.
    pub(super) fn new(
        id: WorkerId,
        newborn: Newborn,
        shared: &Shared,
        reports: mpsc::Sender<Report>,
        now: Instant,
    ) -> Result<(Self, cluster_ipc::Channel)> {
        let Newborn { child, autopsy, tree, control, data, state, board } = newborn;
        let watched = || -> Result<_> {
            let vitals = Vitals::of(child.pid(), child.try_clone_pidfd()?);
            let pidfd = Readable::new(child.try_clone_pidfd()?)?;
            let state = shared.serve(id, state)?;
            Ok((pidfd, Channel::new(control.max_frame(MAX_FRAME))?, vitals, state))
        };
        let (pidfd, control, vitals, state) = match watched() {
            Ok(watched) => watched,
            Err(error) => {
                child.kill_and_reap()?;
                return Err(error);
            }
        };
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let task = Task::new(&tokio::spawn(attend(id, control, pidfd, queue, reports)));
        let link = Self {
            child,
            tree,
            autopsy,
            sent: None,
            board,
            started: now,
            capacity: 1,
            beats: 0,
            silent: false,
            unwell: false,
            passed_over: false,
            vitals,
            unready: false,
            gauges: Vec::new(),
            reason: None,
            listeners: Classes::none(),
            outgoing,
            _task: task,
            _state: state,
        };
        Ok((link, data))
    }

    /// Whether it may be given connections.
    pub(super) fn may_serve(&self) -> bool {
        !self.silent && !self.unready && !self.passed_over
    }

    /// Whether nothing speaks against giving it connections.
    pub(super) fn is_well(&self) -> bool {
        !self.silent && !self.unready && !self.unwell
    }

    /// Sends a signal to its process.
    pub(super) fn signal(&mut self, signal: StopSignal) -> Result<()> {
        self.sent = Some(signal);
        // So that those below it are known when it has ended. Without it some may not be found, no more.
        let _ = self.tree.look();
        Ok(self.child.signal(signal)?)
    }

    /// How it ended, without reaping it; `None` while a debugger holds it.
    pub(super) fn examine(&self) -> Result<Option<Death>> {
        Ok(self.autopsy.examine(&self.child, self.sent)?)
    }

    /// How it ended, if that can be had; otherwise that nobody knows, if somebody else has reaped it.
    pub(super) fn try_reap(&mut self) -> Option<Exit> {
        self.child.try_reap().unwrap_or(Some(Exit::Code(-1)))
    }

    /// Only its process.
    pub(super) fn into_child(self) -> Child {
        self.child
    }

    /// What is left of it now that it has ended.
    pub(super) fn into_remains(self, kill_descendants: bool) -> Remains {
        Remains { child: self.child, tree: kill_descendants.then_some(self.tree) }
    }

    /// Sends a frame, unless the worker reads so little that too many wait already.
    pub(super) fn send(&self, frame: Frame<OwnedFd>) {
        if self.outgoing.try_send(frame).is_err() {
            tracing::warn!(pid = self.child.pid(), "a message to a worker was lost: it does not read");
        }
    }
}

/// Reports what the worker sends until it exits. A report waits for the primary's loop: a worker that floods is slowed
/// down, nothing piles up.
async fn attend(
    id: WorkerId,
    mut channel: Channel,
    pidfd: Readable,
    mut queue: mpsc::Receiver<Frame<OwnedFd>>,
    reports: mpsc::Sender<Report>,
) {
    let mut unanswered = 0_usize;
    let error = loop {
        tokio::select! {
            received = channel.recv(), if unanswered < UNANSWERED => match received {
                Ok(mut frame) => {
                    // No message of a worker carries any; nobody shall fill this process with them.
                    drop(frame.take_descriptors());
                    unanswered += usize::from(frame.kind() == Kind::Request);
                    if reports.send(Report::Frame(id, frame)).await.is_err() {
                        return;
                    }
                }
                Err(error) => break Some(error),
            },
            Some(frame) = queue.recv() => {
                unanswered = unanswered.saturating_sub(usize::from(frame.kind() == Kind::Reply));
                if let Err(error) = channel.try_send(frame) {
                    tracing::warn!(worker = %id, %error, "a message to a worker was lost");
                }
            }
            _ = pidfd.readable() => break None,
        }
    };
    match error {
        // Its last words are still in the socket. Not "until the end of file": a grandchild may hold the socket open.
        None => {
            for _ in 0..LAST_WORDS {
                let Ok(Some(frame)) = channel.try_recv() else { break };
                if reports.send(Report::Frame(id, frame)).await.is_err() {
                    return;
                }
            }
        }
        // An exiting process closes its channel a moment before its pidfd tells: exit is the one signal of death.
        Some(error) => {
            if tokio::time::timeout(EXIT_GRACE, pidfd.readable()).await.is_err() {
                let _ = reports.send(Report::ChannelLost(id, error)).await;
                let _ = pidfd.readable().await;
            }
        }
    }
    let _ = reports.send(Report::Exited(id)).await;
}
