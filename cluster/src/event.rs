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

use crate::address::Address;
use crate::post_mortem::PostMortem;

/// Events that a slow subscriber may lag behind before it misses some.
const BACKLOG: usize = 256;

/// Something that happened, as the primary sees it. The order is the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
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
    /// All workers that are wanted are ready, for the first time.
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
    /// | max requests, max age | causes [`Requests`](Cause::Requests) and [`Lifetime`](Cause::Lifetime) |
    /// | metrics | [`ClusterStatus`](crate::ClusterStatus), whenever it is asked for |
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
    /// The cluster was asked to stop.
    ShuttingDown,
    /// This subscriber was too slow: so many events are missing here.
    Missed(u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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

    pub(crate) fn publish(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }
}
