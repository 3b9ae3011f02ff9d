//! Submitting tasks, and what becomes of them.

use std::fmt;
use std::future::IntoFuture;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cluster_balancer::hash_of;
use cluster_ipc::codec::{Decode, Postcard};
use cluster_ipc::events::Call;
use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, oneshot};
use tokio_stream::wrappers::BroadcastStream;

use super::TaskError;
use super::party::{Link, Party, Report, Submitted, encoded};
use super::wire::Order;

/// Submits tasks to whichever worker runs them. Cheap to clone.
///
/// A task is a [`Call`] that processes [run](crate::Desk::run) by its name. It is run at most once: if its worker dies before it
/// began, another gets it; if it dies afterwards, the task is [lost](TaskError::Lost), and whether to submit it again is for the
/// application to say.
#[derive(Clone, Debug)]
pub struct Tasks {
    party: Arc<Party>,
}

impl Tasks {
    pub(super) fn new(party: Arc<Party>) -> Self {
        Self { party }
    }

    /// Prepares a task. It is submitted when what is returned is awaited, or [started](Submission::start).
    pub fn submit<C: Call>(&self, task: &C) -> Submission<C::Reply> {
        let order = encoded(task).map(|body| Order {
            number: 0,
            name: C::NAME.to_owned(),
            body,
            within: None,
            key: None,
        });
        Submission { link: Arc::clone(&self.party.link), order, reply: PhantomData }
    }
}

/// A task that is about to be submitted.
#[must_use = "it is submitted when it is awaited or started"]
pub struct Submission<R> {
    link: Arc<Link>,
    order: Result<Order, TaskError>,
    reply: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Submission<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").finish_non_exhaustive()
    }
}

impl<R> Submission<R> {
    /// How long it may take until it is done, from when the primary has it on. Default: as long as it takes.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.order.iter_mut().for_each(|order| order.within = Some(within));
        self
    }

    /// What it belongs with: for a [strategy](super::TaskPolicy::strategy) that sends what has the same key to the same worker, such as
    /// `maglev`. To the others it means nothing.
    pub fn key(mut self, key: impl Hash) -> Self {
        let key = hash_of(key);
        self.order.iter_mut().for_each(|order| order.key = Some(key));
        self
    }

    /// Submits it now.
    ///
    /// That it was not accepted the handle tells, too.
    pub fn start(self) -> TaskHandle<R> {
        let submitted = self.order.and_then(|order| self.link.submit(order));
        let (state, progress, later) = match submitted {
            Ok(Submitted { number, end, progress, later }) => {
                (State::Waits { number, end }, Some(progress), Some(later))
            }
            Err(error) => (State::Refused(Some(error)), None, None),
        };
        TaskHandle { link: self.link, state, progress, later, reply: PhantomData }
    }
}

impl<R: DeserializeOwned> IntoFuture for Submission<R> {
    type Output = Result<R, TaskError>;
    type IntoFuture = TaskHandle<R>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

/// A task that was submitted: a future of its reply. Dropping it cancels the task.
#[must_use = "dropping it cancels the task"]
pub struct TaskHandle<R> {
    link: Arc<Link>,
    state: State,
    /// Until somebody asks for it.
    progress: Option<broadcast::Receiver<Report>>,
    later: Option<broadcast::WeakSender<Report>>,
    reply: PhantomData<fn() -> R>,
}

enum State {
    Waits { number: u64, end: oneshot::Receiver<Result<Bytes, TaskError>> },
    Refused(Option<TaskError>),
    Over,
}

impl<R> fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").finish_non_exhaustive()
    }
}

impl<R> TaskHandle<R> {
    /// Cancels the task, unless it has ended: the worker that runs it is told. Awaiting it gives [`TaskError::Cancelled`] then; or its reply,
    /// if that came first.
    pub fn cancel(&self) {
        if let State::Waits { number, .. } = self.state {
            self.link.revoke(number);
        }
    }

    /// What the task tells of its progress, from the beginning at the first call, and from that call on at others. The stream ends with the
    /// task.
    ///
    /// Values of another type than `P` are passed over, if they can be told apart. Of those that nobody takes the last 64 are kept, and of all
    /// tasks of this process 16 MiB, the first ones.
    pub fn progress<P: DeserializeOwned>(&mut self) -> Progress<P> {
        let later = || Some(self.later.as_ref()?.upgrade()?.subscribe());
        let receiver = self.progress.take().or_else(later);
        Progress { stream: receiver.map(BroadcastStream::new), value: PhantomData }
    }
}

impl<R: DeserializeOwned> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    /// # Panics
    ///
    /// When it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &mut self.state {
            // The other end is dropped when the process stops taking part.
            State::Waits { end, .. } => ready!(Pin::new(end).poll(cx)).unwrap_or(Err(TaskError::PrimaryGone)),
            State::Refused(error) => Err(error.take().unwrap_or(TaskError::PrimaryGone)),
            State::Over => panic!("a task's handle was polled after it was ready"),
        };
        self.state = State::Over;
        Poll::Ready(ended.and_then(|reply| {
            Postcard::decode(reply).map_err(|error| TaskError::Encoding { reason: error.to_string() })
        }))
    }
}

impl<R> Drop for TaskHandle<R> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What a task tells of its progress. From [`TaskHandle::progress`].
#[must_use]
pub struct Progress<P> {
    stream: Option<BroadcastStream<Report>>,
    value: PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for Progress<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl<P: DeserializeOwned> Progress<P> {
    /// Waits for the next value; `None` when the task has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<P> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<P: DeserializeOwned> Stream for Progress<P> {
    type Item = P;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        while let Some(value) = ready!(Pin::new(&mut *stream).poll_next(cx)) {
            // Some were not taken in time, or this one is of another type.
            let Ok(report) = value else { continue };
            if let Ok(value) = Postcard::decode(report.body) {
                return Poll::Ready(Some(value));
            }
        }
        self.stream = None;
        Poll::Ready(None)
    }
}
