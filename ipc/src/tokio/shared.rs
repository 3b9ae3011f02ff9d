//! One connection, many tasks: what they share, and how they wait.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::codec::Encode;
use crate::routing::{Routed, Routes};
use crate::{Error, TrySendError};

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) routes: Routes<Waker>,
    /// The connection's task, when it sleeps.
    pub(super) task: Option<Waker>,
    receiver: Option<Waker>,
    /// Those who wait to send, or for the handshake.
    writers: Vec<Waker>,
    /// Those who wait until all is written.
    flushers: Vec<Waker>,
    pub(super) handles: usize,
}

impl Shared {
    pub(super) fn new(routes: Routes<Waker>) -> Self {
        let state = State {
            routes,
            task: None,
            receiver: None,
            writers: Vec::new(),
            flushers: Vec::new(),
            handles: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// A panic elsewhere leaves the state whole: nothing in here calls out while it is being changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Brings every event to its place and wakes those it is for.
    pub(super) fn route(&mut self) {
        let Routed { arrived, writable, .. } = self.routes.route(Waker::wake);
        if arrived && let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
        if writable {
            self.writers.drain(..).for_each(Waker::wake);
        }
        if !self.flushers.is_empty() && !self.routes.connection.wants_flush() {
            self.flushers.drain(..).for_each(Waker::wake);
        }
    }

    /// After a change from outside the task: has it write what is queued, or end, and tells others of an end.
    fn settle(&mut self) {
        let connection = &self.routes.connection;
        let ended = connection.session().is_closed();
        if ended {
            self.route();
        }
        if (ended || self.routes.connection.wants_flush())
            && let Some(task) = self.task.take()
        {
            task.wake();
        }
    }
}

/// A part of the connection: it stays open as long as there is one.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.lock().handles += 1;
        Self { shared }
    }

    /// Changes something under the lock; what it queued is written soon.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Routes<Waker>) -> R) -> R {
        let mut state = self.shared.lock();
        let result = change(&mut state.routes);
        state.settle();
        result
    }

    /// Waits until `ready` returns something, which may be when there is room to send. It must do so once
    /// the connection is closed. Cancel-safe.
    pub(super) async fn until_writable<R>(
        &self,
        mut ready: impl FnMut(&mut Routes<Waker>) -> Option<R>,
    ) -> R {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            let result = ready(&mut state.routes);
            if result.is_none() && !state.writers.iter().any(|writer| writer.will_wake(cx.waker())) {
                state.writers.push(cx.waker().clone());
            }
            // Also when it is refused: the peer has to learn what is waited for.
            state.settle();
            result.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until `ready` returns something, which may be when something arrives. There is one receiver.
    pub(super) async fn until_arrival<R>(&self, mut ready: impl FnMut(&mut Routes<Waker>) -> Option<R>) -> R {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            let result = ready(&mut state.routes);
            if result.is_none() {
                state.receiver = Some(cx.waker().clone());
            }
            state.settle();
            result.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until the socket has taken all that is queued.
    pub(super) async fn until_flushed(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            let connection = &state.routes.connection;
            let waits = connection.wants_flush();
            match state.routes.closed() {
                // What was sent before the end was sent.
                Some(_) if connection.session().unsent() == 0 => Poll::Ready(Ok(())),
                Some(error) => Poll::Ready(Err(error.clone())),
                None if !waits => Poll::Ready(Ok(())),
                None => {
                    state.flushers.push(cx.waker().clone());
                    state.settle();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Encodes `message` and passes it to `attempt` until there is room for it.
    pub(super) async fn offer<C: Encode<M>, M: ?Sized, R>(
        &self,
        message: &M,
        descriptors: Vec<OwnedFd>,
        mut attempt: impl FnMut(&mut Routes<Waker>, &[u8], Vec<OwnedFd>) -> Result<R, TrySendError<Vec<OwnedFd>>>,
    ) -> Result<R, Error> {
        let mut unsent = Some(descriptors);
        // Encoded again at each attempt: there is seldom a second one, and what is encoded would have to be
        // kept by each who waits.
        self.until_writable(|routes| {
            let mut scratch = std::mem::take(&mut routes.scratch);
            let attempted = match C::encode(message, &mut scratch) {
                Ok(bytes) => match attempt(routes, bytes, unsent.take().unwrap_or_default()) {
                    Ok(done) => Some(Ok(done)),
                    Err(TrySendError::Full(descriptors)) => {
                        unsent = Some(descriptors);
                        None
                    }
                    Err(error) => Some(Err(routes.refusal(&error))),
                },
                Err(error) => Some(Err(error)),
            };
            routes.scratch = scratch;
            attempted
        })
        .await
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.handles -= 1;
        if state.handles == 0
            && let Some(task) = state.task.take()
        {
            task.wake();
        }
    }
}

/// The clock of this driver: tokio's, which tests may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
