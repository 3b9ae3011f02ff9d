//! The events of one worker.

use std::pin::Pin;
use std::task::{Context, Poll};

use cluster_supervisor::{Event as Life, WorkerId};
use futures_core::Stream;
use tokio::sync::watch;

use super::roster::Snapshot;
use crate::Departure;
use crate::event::{Event, Events};

/// The events of one worker alone, in order: from [`WorkerHandle::events`](crate::WorkerHandle::events). A [`Stream`], which ends with the
/// exit of its process (or when that could not be started).
///
/// A subscriber that falls too far behind gets an [`Event::Missed`], as with [`Events`]: what is missing may be other workers'.
#[derive(Debug)]
pub struct WorkerEvents {
    id: WorkerId,
    events: Events,
    snapshot: watch::Receiver<Snapshot>,
    /// Its end may be among those that are missing.
    missed: bool,
    over: bool,
}

impl WorkerEvents {
    /// Those that `events` will tell of.
    pub(super) fn new(id: WorkerId, events: Events, snapshot: watch::Receiver<Snapshot>) -> Self {
        Self { id, events, snapshot, missed: false, over: false }
    }

    /// None: it is gone.
    pub(super) fn over(self) -> Self {
        Self { over: true, ..self }
    }

    /// Waits for the next event; `None` after the last.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Its slot was stopped before there was a process: nothing is told of it alone.
    fn has_lost_its_turn(&self, event: &Event) -> bool {
        matches!(event, Event::Lifecycle { event: Life::Stopped { slot }, .. } if *slot == self.id.slot())
            && self.snapshot.borrow().departure == Some(Departure::NeverStarted)
    }

    fn is_gone(&self) -> bool {
        self.snapshot.borrow().departure.is_some()
    }
}

impl Stream for WorkerEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        while !self.over {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(event)) => {
                    self.missed |= matches!(event, Event::Missed(_));
                    self.over = is_last(&event, self.id) || self.has_lost_its_turn(&event);
                    if matches!(event, Event::Missed(_)) || event.worker() == Some(self.id) {
                        return Poll::Ready(Some(event));
                    }
                }
                Poll::Ready(None) => self.over = true,
                Poll::Pending if self.missed && self.is_gone() => self.over = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

fn is_last(event: &Event, worker: WorkerId) -> bool {
    let Event::Lifecycle { event, .. } = event else { return false };
    matches!(event, Life::Exited { id, .. } | Life::SpawnFailed { id, .. } if *id == worker)
}
