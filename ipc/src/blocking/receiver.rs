//! Receiving, and answering.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::shared::Shared;
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
    shared: Arc<Shared>,
    hand: Hand,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Drop for Receiver<T, C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.routes.remove_receiver(&mut self.hand);
        self.shared.flush(&mut state);
    }
}

impl<T, C> Receiver<T, C> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, hand: Hand::default(), types: PhantomData }
    }

    /// Waits for the next message, as bytes: to be decoded with borrowed parts, or not at all. `Ok(None)` when
    /// the peer said that this was all. Requests are answered as unhandled.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_raw(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.hand.next_message() {
                Some(Ok(message)) => return Ok(Some(message)),
                Some(Err(error)) => self.shared.lock().routes.connection.close(error),
                None => {}
            }
            match self.take(None)? {
                Some(routing::Arrival::Message(message)) => return Ok(Some(message)),
                Some(routing::Arrival::Request { id, .. }) => {
                    Responder::<C>::new(Arc::clone(&self.shared), id, None).failure(Failure::Unhandled);
                }
                Some(routing::Arrival::Gap { missed }) => return Err(Error::Missed { missed }),
                None => return Ok(None),
            }
        }
    }

    fn is_worth_answering(&self, id: RequestId) -> bool {
        self.shared.lock().routes.is_worth_answering(id)
    }

    fn take(&mut self, deadline: Option<Instant>) -> Result<Option<routing::Arrival>, Error> {
        loop {
            match self.hand.next() {
                Some(Ok(routing::Arrival::Request { id, .. })) if !self.is_worth_answering(id) => continue,
                Some(Ok(arrival)) => return Ok(Some(arrival)),
                Some(Err(error)) => self.shared.lock().routes.connection.close(error),
                None => {}
            }
            let hand = &mut self.hand;
            let taken = self.shared.wait(deadline, |routes| routes.take_arrivals(hand));
            if !taken.unwrap_or(Err(Error::TimedOut))? {
                return Ok(None);
            }
        }
    }
}

impl<T, C: Decode<T>> Receiver<T, C> {
    /// Waits for the next message. `Ok(None)` when the peer said that this was all. Requests are answered as
    /// unhandled; [`next`](Self::next) is for those who want them.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the peer died or closed without a word, after everything it sent before; what it did
    /// wrong; [`Error::Decode`] and [`Error::Missed`], after which the next message can be received.
    pub fn recv(&mut self) -> Result<Option<T>, Error> {
        match self.recv_raw()? {
            Some(message) => C::decode(message.bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for whatever comes next: messages, requests, gaps. `Ok(None)` when the peer said that this was all.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but a gap is no error here. A request that can't be decoded is answered so.
    #[allow(clippy::should_implement_trait, reason = "it waits, fails and goes on, unlike an iterator")]
    pub fn next(&mut self) -> Result<Option<Arrival<T, Responder<C>>>, Error> {
        self.next_before(None)
    }

    /// The same, but not longer than to `deadline`.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and [`Error::TimedOut`].
    pub fn next_before(
        &mut self,
        deadline: impl Into<Option<Instant>>,
    ) -> Result<Option<Arrival<T, Responder<C>>>, Error> {
        let parcel = |message: Message| {
            let value = C::decode(message.bytes)?;
            Ok::<_, Error>(Parcel { value, descriptors: message.descriptors })
        };
        Ok(match self.take(deadline.into())? {
            Some(routing::Arrival::Message(message)) => Some(Arrival::Message(parcel(message)?)),
            Some(routing::Arrival::Request { id, deadline, message }) => {
                let responder = Responder::new(Arc::clone(&self.shared), id, deadline);
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

    /// Answers requests until the peer says that this was all: `Ok` with a reply, `Err` with a reason. One
    /// at a time; for more, take them with [`next`](Self::next) and hand them to threads. Messages are passed over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next). What can't be decoded is answered so, and is no error here.
    pub fn serve<R>(mut self, mut handler: impl FnMut(T) -> Result<R, String>) -> Result<(), Error>
    where
        C: Encode<R>,
    {
        loop {
            match self.next() {
                Ok(Some(Arrival::Request(request, responder))) => match handler(request.value) {
                    // The peer may be gone by now: the next turn will tell.
                    Ok(reply) => drop(responder.reply(&reply)),
                    Err(reason) => responder.fail(reason),
                },
                Ok(Some(_)) | Err(Error::Decode { .. } | Error::Missed { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives in a thread of its own, into a channel, so that `crossbeam_channel::select!` can wait for several
    /// connections at once. At most `capacity` arrivals wait there. The thread ends with the connection, or at the next arrival
    /// after the channel was dropped.
    ///
    /// The last item is the error that ended the connection; there is none if the peer said that this was all.
    pub fn into_channel(
        mut self,
        capacity: usize,
    ) -> crossbeam_channel::Receiver<Result<Arrival<T, Responder<C>>, Error>>
    where
        T: Send + 'static,
        C: 'static,
    {
        let (sender, channel) = crossbeam_channel::bounded(capacity);
        #[allow(clippy::disallowed_methods, reason = "this is a driver")]
        std::thread::spawn(move || {
            while let Some(arrival) = self.next().transpose() {
                let last = matches!(&arrival, Err(error) if !matches!(error, Error::Decode { .. } | Error::Missed { .. }));
                if sender.send(arrival).is_err() || last {
                    return;
                }
            }
        });
        channel
    }
}

/// The means to answer one request, from any thread. Dropped without an answer, it says so to who asked.
#[derive(Debug)]
pub struct Responder<C = Postcard> {
    shared: Arc<Shared>,
    id: RequestId,
    deadline: Option<Instant>,
    codec: PhantomData<fn(C)>,
}

impl<C> Responder<C> {
    fn new(shared: Arc<Shared>, id: RequestId, deadline: Option<Instant>) -> Self {
        Self { shared, id, deadline, codec: PhantomData }
    }

    /// When who asked will have given up, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether who asked still waits. A handler that takes long looks now and then. It is as recent as
    /// what some thread that waits on this connection has read.
    pub fn is_wanted(&self) -> bool {
        self.shared.lock().routes.connection.session().is_wanted(self.id)
    }

    /// Answers, waiting for credit if there is none. An answer that nobody waits for any more is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] or why else the connection ended; [`Error::TooLarge`] and [`Error::Encode`], after which who
    /// asked has been told that there is no answer.
    pub fn reply<R: ?Sized>(self, reply: &R) -> Result<(), Error>
    where
        C: Encode<R>,
    {
        self.reply_with(reply, Vec::new())
    }

    /// Answers with descriptors attached.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn reply_with<R: ?Sized>(self, reply: &R, descriptors: Vec<OwnedFd>) -> Result<(), Error>
    where
        C: Encode<R>,
    {
        self.shared.offer::<C, R, ()>(None, reply, descriptors, |routes, bytes, descriptors| {
            routes.connection.respond(self.id, bytes, descriptors)
        })?;
        self.shared.drain()
    }

    /// Answers with an error.
    pub fn fail(self, reason: impl Into<String>) {
        self.failure(Failure::Refused { reason: reason.into() });
    }

    pub(crate) fn failure(self, failure: Failure) {
        let mut state = self.shared.lock();
        state.routes.connection.fail(self.id, &failure);
        self.shared.flush(&mut state);
    }
}

impl<C> Drop for Responder<C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.routes.unwatch(self.id);
        // Nothing happens if it has been answered.
        state.routes.connection.fail(self.id, &Failure::Unanswered);
        self.shared.flush(&mut state);
    }
}
