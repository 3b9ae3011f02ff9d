//! One worker, as the primary holds it, and the task that listens to it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_balancer::Classes;
use cluster_health::Quantity;
use cluster_ipc::board::PrimaryBoard;
use cluster_ipc::tokio::{Channel, Readable};
use cluster_ipc::{Error, Frame, Kind};
use cluster_supervisor::{Counted, WorkerId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::remains::Swept;
use super::shared::Shared;
use super::system::{Body, Newborn, Wires};
use super::vitals::Vitals;
use crate::messages::{self, Pool, Switch};
use crate::record::about;
use crate::{Error as ClusterError, Result};

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
    /// Its channel has ended or broken; it may be about to exit.
    Disconnected(WorkerId, Error),
    /// The same, and it has not exited.
    ChannelLost(WorkerId, String),
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
    id: WorkerId,
    pub(super) body: Box<dyn Body>,
    pub(super) board: Arc<PrimaryBoard>,
    pub(super) started: Instant,
    /// How many connections it can hold, once it said so.
    pub(super) capacity: u32,
    /// How often it had beaten when that was looked at last.
    pub(super) beats: u64,
    /// When it was seen to have beaten.
    pub(super) heard: Option<Instant>,
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
    /// Its channel has ended.
    pub(super) disconnected: bool,
    /// What it counts, as it said last.
    pub(super) gauges: Vec<(Quantity, f64)>,
    /// Why it has to go, if a verdict says so.
    pub(super) reason: Option<Arc<str>>,
    /// How often it has asked for each listener and not dropped it.
    pub(super) asked: BTreeMap<u8, u32>,
    /// The listeners that it accepts on, as far as it said.
    pub(super) listeners: Classes,
    outgoing: mpsc::Sender<Frame<OwnedFd>>,
    _task: Task,
    _state: Task,
    _messages: Task,
}

/// Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

impl Task {
    pub(crate) fn new<T>(task: &JoinHandle<T>) -> Self {
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
        switch: &Switch,
        tasks: &Pool,
        reports: mpsc::Sender<Report>,
        now: Instant,
    ) -> Result<(Self, cluster_ipc::Channel)> {
        let Newborn { body, end, sampler, wires } = newborn;
        let Wires { control, data, state, messages, board } = wires;
        let pid = body.pid();
        let heard = || -> Result<_> {
            let other =
                end.try_clone().map_err(ClusterError::os("duplicate what tells of a worker's end"))?;
            let endpoint = messages::primary_end(messages, other)?;
            let state = shared.serve(id, pid, state)?;
            Ok((Readable::new(end)?, Channel::new(control.max_frame(MAX_FRAME))?, state, endpoint))
        };
        let (end, control, state, endpoint) = match heard() {
            Ok(heard) => heard,
            Err(error) => {
                if let Some(remains) = body.into_remains(false) {
                    remains.child.kill_and_reap()?;
                }
                return Err(error);
            }
        };
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let letters = tokio::spawn(tasks.attach(id, id.slot(), endpoint));
        if switch.holder(id.slot()).is_none() {
            switch.assign(id.slot(), id);
        }
        let messages = Task::new(&letters);
        let task = Task::new(&tokio::spawn(attend((id, pid), control, end, queue, letters, reports)));
        let link = Self {
            id,
            body,
            board,
            started: now,
            capacity: 1,
            beats: 0,
            heard: None,
            silent: false,
            unwell: false,
            passed_over: false,
            vitals: Vitals::new(sampler),
            unready: false,
            disconnected: false,
            gauges: Vec::new(),
            reason: None,
            asked: BTreeMap::new(),
            listeners: Classes::none(),
            outgoing,
            _task: task,
            _state: state,
            _messages: messages,
        };
        Ok((link, data))
    }

    /// What it has counted so far.
    pub(super) fn counted(&self) -> Counted {
        let figures = self.board.figures();
        Counted::new(figures.taken, figures.requests, figures.errors).counters(self.board.counters())
    }

    /// What its application said last, by its names.
    pub(super) fn gauges(&self) -> impl Iterator<Item = (String, f64)> {
        self.gauges.iter().filter_map(|(quantity, value)| match quantity {
            Quantity::Gauge(name) => Some((name.to_string(), *value)),
            _ => None,
        })
    }

    /// Whether it may be given connections, and its limit is not 0.
    pub(super) fn takes_connections(&self) -> bool {
        self.may_serve() && self.capacity > 0
    }

    /// Whether it may be given work.
    pub(super) fn may_serve(&self) -> bool {
        !self.silent && !self.unready && !self.passed_over
    }

    /// Whether nothing speaks against giving it connections.
    pub(super) fn is_well(&self) -> bool {
        !self.silent && !self.unready && !self.unwell
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.body.pid()
    }

    /// Sends a frame, unless the worker reads so little that too many wait already.
    pub(super) fn send(&self, frame: Frame<OwnedFd>) {
        if self.outgoing.try_send(frame).is_err() {
            let id = self.id;
            about!(warn, id, self.pid(), "a message to worker {id} was lost: it does not read");
        }
    }
}

/// Reports what the worker sends until it exits. A report waits for the primary's loop: a worker that floods is slowed
/// down, nothing piles up.
async fn attend(
    (id, pid): (WorkerId, u32),
    mut channel: Channel,
    end: Readable,
    mut queue: mpsc::Receiver<Frame<OwnedFd>>,
    letters: JoinHandle<Error>,
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
                    about!(warn, id, pid, %error, "a message to worker {id} was lost");
                }
            }
            _ = end.readable() => break None,
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
            let lost = error.to_string();
            if reports.send(Report::Disconnected(id, error)).await.is_err() {
                return;
            }
            if tokio::time::timeout(EXIT_GRACE, end.readable()).await.is_err() {
                let _ = reports.send(Report::ChannelLost(id, lost)).await;
                let _ = end.readable().await;
            }
        }
    }
    // The messages that it sent come before its end, unless somebody here takes none.
    let _ = tokio::time::timeout(EXIT_GRACE, letters).await;
    let _ = reports.send(Report::Exited(id)).await;
}
