//! What happens in the cluster, as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cluster_health::{Cause, VerdictKind};
use cluster_supervisor::WorkerId;
use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::post_mortem::PostMortem;
use crate::status::ClusterStatus;
use crate::{Address, Settings};

/// Events that a slow subscriber may lag behind before it misses some.
const BACKLOG: usize = 256;

/// Something that happened, as the primary sees it. The order is the order in which it happened.
///
/// # Node's events
///
/// | Node, on `cluster` and on a worker | here |
/// |---|---|
/// | `setup` | [`Setup`](Self::Setup), at the start and whenever settings change |
/// | `fork` | [`Lifecycle`](Self::Lifecycle) with [`Starting`](cluster_supervisor::Event::Starting), also of a restart |
/// | `online` | `Lifecycle` with [`Online`](cluster_supervisor::Event::Online) |
/// | `listening` | [`Listening`](Self::Listening), for each address |
/// | (none: Node takes who is online for ready) | `Lifecycle` with [`Ready`](cluster_supervisor::Event::Ready) |
/// | `message` | no event: messages go to handlers |
/// | `disconnect` | [`Disconnected`](Self::Disconnected) |
/// | `exit` | `Lifecycle` with [`Exited`](cluster_supervisor::Event::Exited) |
/// | `error` when a worker can't be started | `Lifecycle` with [`SpawnFailed`](cluster_supervisor::Event::SpawnFailed); it is tried again |
/// | `error`, else | [`Error`](Self::Error) |
///
/// # Order
///
/// Of one worker: `Starting`, `Spawned`, `Online`, `Ready`, `Disconnected`, `Exited`, each at most once and always in this order, `Starting`
/// and `Exited` exactly once (unless it could not be started: then `SpawnFailed` comes in place of all that follow `Starting`). `Stopping`,
/// if it has to go, and `Listening` come between `Online` and `Exited`; `Listening` before `Ready` for whoever is ready by accepting there.
/// Node's `disconnect` and `exit` come in any order, and here the exit is always last. Only [`LeftBehind`](Self::LeftBehind) may follow.
///
/// Who hears that a worker is ready may connect to it; who hears that it has exited finds it [dead](crate::WorkerHandle::is_dead) and
/// gone from [`Handle::workers`](crate::Handle::workers).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// What workers are started with from now on.
    Setup(Arc<Settings>),
    /// In a worker's life: spawned, online, ready, stopping, exited, backing off, given up.
    Lifecycle {
        /// What.
        event: cluster_supervisor::Event,
        /// The worker's process, while it has one.
        pid: Option<u32>,
        /// What is known of its death, if that is what happened.
        post_mortem: Option<Arc<PostMortem>>,
        /// Why it could not be started, if that is what happened.
        error: Option<Arc<str>>,
    },
    /// A worker says that it can take work, or that it can't: then it gets no connections.
    Readiness {
        /// Which worker.
        id: WorkerId,
        /// Whether it can.
        ready: bool,
    },
    /// A worker has ended and others lived on that it had started: see [`Builder::kill_descendants`](crate::Builder::kill_descendants).
    LeftBehind {
        /// Which worker.
        id: WorkerId,
        /// How many processes were killed.
        killed: usize,
        /// How many could not be: they run as another user, or the kernel doesn't let go of them.
        left: usize,
    },
    /// A worker listens on an address.
    Listening {
        /// Which worker.
        id: WorkerId,
        /// The real address, where port 0 was asked for.
        address: Address,
    },
    /// The channel of a worker is closed: it has closed it, or is ending. Comes once, before its exit.
    Disconnected {
        /// Which worker.
        id: WorkerId,
    },
    /// Something went wrong with a worker, and nothing follows from this alone: it said what can't be understood, its channel broke, it could
    /// not be signalled.
    Error {
        /// Which worker.
        id: WorkerId,
        /// What, with its causes.
        error: Arc<str>,
    },
    /// All workers that are wanted are ready, for the first time, or the first after a [disconnect](crate::Handle::disconnect).
    Serving {
        /// The addresses that are listened on.
        addresses: Vec<Address>,
        /// How many workers.
        workers: usize,
    },
    /// A verdict on a worker's health.
    ///
    /// What managers in Node's world call by names of their own:
    ///
    /// | there | here |
    /// |---|---|
    /// | high memory, memory threshold | cause [`Limit`](Cause::Limit) of [`Quantity::Memory`](cluster_health::Quantity::Memory) |
    /// | high CPU, CPU threshold | cause `Limit` of [`Quantity::Cpu`](cluster_health::Quantity::Cpu) |
    /// | health check failed, worker unresponsive | cause [`Silence`](Cause::Silence) or [`Probe`](Cause::Probe) |
    /// | health check passed again | kind [`Recovered`](VerdictKind::Recovered) |
    /// | health check, each time | [`Metrics`](Self::Metrics): who is well is not told of one by one |
    /// | max requests, max age | causes [`Requests`](Cause::Requests) and [`Lifetime`](Cause::Lifetime) |
    /// | max restarts reached | [`Lifecycle`](Self::Lifecycle) of [`GaveUp`](cluster_supervisor::Event::GaveUp), with the reason |
    /// | worker restarted | `Lifecycle` of [`Spawned`](cluster_supervisor::Event::Spawned) with a generation from 2 on |
    /// | metrics | [`Metrics`](Self::Metrics), as often as [`Builder::metrics_every`](crate::Builder::metrics_every) says |
    Health {
        /// Which worker.
        id: WorkerId,
        /// What follows: nothing, no connections until it recovers, a replacement when convenient, or now.
        kind: VerdictKind,
        /// Why, with the figures.
        cause: Cause,
        /// What its process looked like, if it is to be replaced now: for people.
        report: Option<Arc<str>>,
    },
    /// A worker is silent for so long that it would be replaced, but a debugger holds it: it is left alone, and told again while that goes on.
    Traced {
        /// Which worker.
        id: WorkerId,
    },
    /// How everybody is, as often as [`Builder::metrics_every`](crate::Builder::metrics_every) says: never by default.
    Metrics(Arc<ClusterStatus>),
    /// The cluster was asked to stop.
    ShuttingDown,
    /// This subscriber was too slow: so many events are missing here.
    Missed(u64),
}

impl Event {
    /// The worker that it is about, if it is about one.
    pub fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Lifecycle { event, .. } => event.worker(),
            Self::Readiness { id, .. }
            | Self::LeftBehind { id, .. }
            | Self::Listening { id, .. }
            | Self::Disconnected { id }
            | Self::Error { id, .. }
            | Self::Health { id, .. }
            | Self::Traced { id } => Some(*id),
            Self::Setup(_)
            | Self::Serving { .. }
            | Self::Metrics(_)
            | Self::ShuttingDown
            | Self::Missed(_) => None,
        }
    }

    /// The slot it is about, if it is about one.
    pub fn slot(&self) -> Option<u32> {
        match self {
            Self::Lifecycle { event, .. } => event.slot(),
            _ => self.worker().map(WorkerId::slot),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(settings) => {
                let exec = settings.exec.as_deref().unwrap_or_else(|| "this program".as_ref());
                write!(f, "workers run {} from now on", exec.display())
            }
            Self::Lifecycle { event, post_mortem, error, .. } => {
                event.fmt(f)?;
                error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))?;
                post_mortem.as_ref().map_or(Ok(()), |post_mortem| post_mortem.fmt(f))
            }
            Self::Readiness { id, ready: true } => write!(f, "worker {id} says that it can take work"),
            Self::Readiness { id, ready: false } => {
                write!(f, "worker {id} says that it can take no work: it gets no connections")
            }
            Self::LeftBehind { id, killed, left: 0 } => {
                write!(f, "worker {id} left {killed} processes behind, which were killed")
            }
            Self::LeftBehind { id, killed, left } => {
                write!(
                    f,
                    "worker {id} left {} processes behind: {left} of them can't be killed",
                    killed + left
                )
            }
            Self::Disconnected { id } => write!(f, "the channel of worker {id} is closed"),
            Self::Error { id, error } => write!(f, "worker {id}: {error}"),
            Self::Listening { id, address } => write!(f, "worker {id} listens on {address}"),
            Self::Serving { workers, .. } => write!(f, "all {workers} workers are ready"),
            Self::Health { id, kind, cause, report } => {
                match kind {
                    VerdictKind::Suspect => write!(f, "worker {id} gets no connections: {cause}")?,
                    VerdictKind::Recovered => write!(f, "worker {id}: {}", cause.recovered())?,
                    VerdictKind::Recycle => {
                        write!(f, "worker {id} is to be replaced when convenient: {cause}")?
                    }
                    VerdictKind::Unhealthy => write!(f, "worker {id} is replaced: {cause}")?,
                    _ => write!(f, "worker {id}: {cause}")?,
                }
                report.as_ref().map_or(Ok(()), |report| write!(f, "\n{}", report.trim_end()))
            }
            Self::Traced { id } => write!(f, "worker {id} is silent, but a debugger holds it: left alone"),
            Self::Metrics(status) => status.fmt(f),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Missed(missed) => write!(f, "{missed} events were missed"),
        }
    }
}

/// A subscription to the events, from the moment it was made. A [`Stream`], which ends with the cluster.
///
/// A subscriber that falls behind by more than 256 events gets an [`Event::Missed`] in their place.
#[derive(Debug)]
pub struct Events {
    stream: BroadcastStream<Event>,
}

impl Events {
    /// Waits for the next event; `None` after the last.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.stream).poll_next(cx).map(|next| {
            next.map(|event| {
                event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(missed)| Event::Missed(missed))
            })
        })
    }
}

/// Where events are published.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    sender: broadcast::Sender<Event>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG) }
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events { stream: BroadcastStream::new(self.sender.subscribe()) }
    }

    /// For whoever shall not keep the events from ending.
    pub(crate) fn downgrade(&self) -> Subscriber {
        Subscriber { sender: self.sender.downgrade() }
    }

    pub(crate) fn publish(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }
}

/// Where events can be subscribed to, as long as there are any.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    sender: broadcast::WeakSender<Event>,
}

impl Subscriber {
    /// When the cluster has ended, the events have.
    pub(crate) fn subscribe(&self) -> Events {
        self.sender
            .upgrade()
            .map_or_else(|| Publisher::new().subscribe(), |sender| Publisher { sender }.subscribe())
    }
}
