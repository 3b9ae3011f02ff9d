//! Receiving, and answering.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use tokio::task::JoinSet;

use super::shared::Handle;
use crate::codec::{Decode, Encode, Postcard};
use crate::routing::{self, Hand};
use crate::session::{Failure, RequestId};
use crate::{Arrival, Error, Message, Parcel};

/// Receives messages of type `T`, decoded by `C`.
///
/// A message counts as handled, and its sender may send as much again, when the next one is asked for.
/// After it is dropped, messages are thrown away and requests answered as unhandled.
#[derive(Debug)]
pub struct Receiver<T, C = Postcard> {
    handle: Handle,
    hand: Hand,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Drop for Receiver<T, C> {
    fn drop(&mut self) {
        let hand = &mut self.hand;
        self.handle.with(|routes| routes.remove_receiver(hand));
    }
}

impl<T, C> Receiver<T, C> {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, hand: Hand::default(), types: PhantomData }
    }

    /// Waits for the next message, as bytes: to be decoded with borrowed parts, or not at all. `Ok(None)` when
    /// the peer said that this was all. Requests are answered as unhandled. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_raw(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.hand.next_message() {
                Some(Ok(message)) => return Ok(Some(message)),
                Some(Err(error)) => self.handle.with(|routes| routes.connection.close(error)),
                None => {}
            }
            match self.take().await? {
                Some(routing::Arrival::Message(message)) => return Ok(Some(message)),
                Some(routing::Arrival::Request { id, .. }) => {
                    Responder::<C>::new(self.handle.clone(), id, None).failure(Failure::Unhandled);
                }
                Some(routing::Arrival::Gap { missed }) => return Err(Error::Missed { missed }),
                None => return Ok(None),
            }
        }
    }

    async fn take(&mut self) -> Result<Option<routing::Arrival>, Error> {
        loop {
            match self.hand.next() {
                Some(Ok(routing::Arrival::Request { id, .. }))
                    if !self.handle.with(|routes| routes.is_worth_answering(id)) => {}
                Some(Ok(arrival)) => return Ok(Some(arrival)),
                Some(Err(error)) => self.handle.with(|routes| routes.connection.close(error)),
                None => {}
            }
            let hand = &mut self.hand;
            if !self.handle.until_arrival(|routes| routes.take_arrivals(hand)).await? {
                return Ok(None);
            }
        }
    }
}

impl<T, C: Decode<T>> Receiver<T, C> {
    /// Waits for the next message. `Ok(None)` when the peer said that this was all. Requests are answered as
    /// unhandled; [`next`](Self::next) is for those who want them. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the peer died or closed without a word, after everything it sent before; what it did
    /// wrong; [`Error::Decode`] and [`Error::Missed`], after which the next message can be received.
    pub async fn recv(&mut self) -> Result<Option<T>, Error> {
        match self.recv_raw().await? {
            Some(message) => C::decode(message.bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for whatever comes next: messages, requests, gaps. `Ok(None)` when the peer said that this was all.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but a gap is no error here. A request that can't be decoded is answered so.
    pub async fn next(&mut self) -> Result<Option<Arrival<T, Responder<C>>>, Error> {
        let parcel = |message: Message| {
            let value = C::decode(message.bytes)?;
            Ok::<_, Error>(Parcel { value, descriptors: message.descriptors })
        };
        Ok(match self.take().await? {
            Some(routing::Arrival::Message(message)) => Some(Arrival::Message(parcel(message)?)),
            Some(routing::Arrival::Request { id, deadline, message }) => {
                let responder = Responder::new(self.handle.clone(), id, deadline);
                match parcel(message) {
                    Ok(parcel) => Some(Arrival::Request(parcel, responder)),
                    Err(error) => {
                        responder.failure(Failure::Undecodable { reason: error.to_string() });
                        return Err(error);
                    }
                }
            }
            Some(routing::Arrival::Gap { missed }) => Some(Arrival::Gap { missed }),
            None => None,
        })
    }

    /// Answers requests, each in a task of its own, until the peer says that this was all: `Ok` with a reply, `Err` with a
    /// reason. As many run at once as [`Config::max_requests`](crate::session::Config::max_requests) allows; a handler
    /// whose request is cancelled is dropped at its next await. Messages are passed over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next). What can't be decoded is answered so, and is no error here.
    pub async fn serve<R, H>(mut self, handler: H) -> Result<(), Error>
    where
        T: Send + 'static,
        C: Encode<R> + 'static,
        R: Send + Sync + 'static,
        H: AsyncHandler<T, R>,
    {
        let mut running = JoinSet::new();
        loop {
            // Those that are done make room for others.
            while running.try_join_next().is_some() {}
            match self.next().await {
                Ok(Some(Arrival::Request(request, responder))) => {
                    let handler = handler.clone();
                    running.spawn(async move {
                        let answer = responder.unless_cancelled(handler.handle(request.value)).await;
                        match answer {
                            // The peer may be gone by now: the next turn will tell.
                            Some(Ok(reply)) => drop(responder.reply(&reply).await),
                            Some(Err(reason)) => responder.fail(reason),
                            None => {}
                        }
                    });
                }
                Ok(Some(_)) | Err(Error::Decode { .. } | Error::Missed { .. }) => {}
                Ok(None) => {
                    while running.join_next().await.is_some() {}
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What [`Receiver::serve`] calls for each request.
pub trait AsyncHandler<T, R>: Clone + Send + 'static {
    /// Answers one.
    fn handle(&self, request: T) -> impl Future<Output = Result<R, String>> + Send;
}

impl<T, R, F, Fut> AsyncHandler<T, R> for F
where
    F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R, String>> + Send,
{
    fn handle(&self, request: T) -> impl Future<Output = Result<R, String>> + Send {
        self(request)
    }
}

/// The means to answer one request, from any task. Dropped without an answer, it says so to who asked.
#[derive(Debug)]
pub struct Responder<C = Postcard> {
    handle: Handle,
    id: RequestId,
    deadline: Option<Instant>,
    codec: PhantomData<fn(C)>,
}

impl<C> Responder<C> {
    fn new(handle: Handle, id: RequestId, deadline: Option<Instant>) -> Self {
        Self { handle, id, deadline, codec: PhantomData }
    }

    /// When who asked will have given up, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Waits until who asked no longer does, or is gone. Cancel-safe.
    pub async fn cancelled(&self) {
        poll_fn(|cx| {
            let watched = self.handle.shared.lock().routes.watch(self.id, cx.waker().clone());
            if watched { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Waits for `work`, but not longer than somebody wants its result.
    pub async fn unless_cancelled<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        let (mut work, mut cancelled) = (pin!(work), pin!(self.cancelled()));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Answers, waiting for credit if there is none. An answer that nobody waits for any more is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] or why else the connection ended; [`Error::TooLarge`] and [`Error::Encode`], after which who
    /// asked has been told that there is no answer.
    pub async fn reply<R: ?Sized>(self, reply: &R) -> Result<(), Error>
    where
        C: Encode<R>,
    {
        self.reply_with(reply, Vec::new()).await
    }

    /// Answers with descriptors attached.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub async fn reply_with<R: ?Sized>(self, reply: &R, descriptors: Vec<OwnedFd>) -> Result<(), Error>
    where
        C: Encode<R>,
    {
        self.handle
            .offer::<C, R, ()>(reply, descriptors, |routes, bytes, descriptors| {
                routes.connection.respond(self.id, bytes, descriptors)
            })
            .await
    }

    /// Answers with an error.
    pub fn fail(self, reason: impl Into<String>) {
        self.failure(Failure::Refused { reason: reason.into() });
    }

    pub(crate) fn failure(self, failure: Failure) {
        self.handle.with(|routes| routes.connection.fail(self.id, &failure));
    }
}

impl<C> Drop for Responder<C> {
    fn drop(&mut self) {
        self.handle.with(|routes| {
            routes.unwatch(self.id);
            // Nothing happens if it has been answered.
            routes.connection.fail(self.id, &Failure::Unanswered);
        });
    }
}
