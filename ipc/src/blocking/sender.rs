//! Sending, and asking.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::clock::now;
use crate::codec::{Decode, Encode, Postcard};
use crate::frame::Lane;
use crate::routing::Routes;
use crate::{DEFAULT_REQUEST_TIMEOUT, Error, TrySendError};

/// Sends messages of type `T`, encoded by `C`. Clones send over the same connection.
///
/// When the last clone and [`Client`] is dropped, the peer's receiver ends with `Ok(None)` after the last message. When
/// the receiver is dropped too, the last of them waits up to a second for a peer that doesn't read;
/// [`flush`](Self::flush) before for one that may need longer.
#[derive(Debug)]
pub struct Sender<T: ?Sized, C = Postcard> {
    shared: Arc<Shared>,
    types: PhantomData<fn(&T, C)>,
}

impl<T: ?Sized, C> Clone for Sender<T, C> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl<T: ?Sized, C> Drop for Sender<T, C> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.routes.remove_sender();
        self.shared.flush(&mut state);
    }
}

impl<T: ?Sized, C> Sender<T, C> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.lock().routes.add_sender();
        Self { shared, types: PhantomData }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Writes what [`feed`](Self::feed) queued, and waits until the socket has taken it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended.
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.drain()
    }

    /// Asks with requests of type `T` for replies of type `R`.
    pub fn client<R>(&self) -> Client<T, R, C> {
        Client { sender: self.clone(), timeout: DEFAULT_REQUEST_TIMEOUT, reply: PhantomData }
    }
}

impl<T: ?Sized, C: Encode<T>> Sender<T, C> {
    /// Sends a message: waits for credit if there is none, and until the socket has taken it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended; [`Error::TooLarge`]; [`Error::Encode`].
    pub fn send(&self, message: &T) -> Result<(), Error> {
        self.send_with(message, Vec::new())
    }

    /// Sends a message with descriptors. They are closed here once they are on their way, and on an error.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_with(&self, message: &T, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        self.queue(Lane::Data, message, descriptors)?;
        self.flush()
    }

    /// Sends a small message that overtakes all data: for "drain" or "stop", not for data in a hurry. At most 16 KiB.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_urgent(&self, message: &T) -> Result<(), Error> {
        self.queue(Lane::Control, message, Vec::new())?;
        self.flush()
    }

    /// Queues a message, waiting for credit if there is none. It is written together with others: when 64 KiB
    /// have piled up, at the next [`flush`](Self::flush) or `send`, and whenever a thread waits.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn feed(&self, message: &T) -> Result<(), Error> {
        self.feed_with(message, Vec::new())
    }

    /// Queues a message with descriptors, as [`feed`](Self::feed) does.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn feed_with(&self, message: &T, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        self.queue(Lane::Data, message, descriptors)?;
        self.shared.flush_batch();
        Ok(())
    }

    /// Sends a message if that is possible without waiting.
    ///
    /// # Errors
    ///
    /// The message comes back. `TooLarge` also when it cannot be encoded at all.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>>
    where
        T: Sized,
    {
        let mut state = self.shared.lock();
        let attempt = |routes: &mut Routes<()>| {
            let Ok(bytes) = C::encode(&message, &mut routes.scratch) else {
                return Err(TrySendError::TooLarge(()));
            };
            routes.connection.send(Lane::Data, bytes, Vec::new()).map_err(|unsent| unsent.map(drop))
        };
        let mut sent = attempt(&mut state.routes);
        // There may be credit that nobody has read, if nobody waits on this connection.
        if matches!(sent, Err(TrySendError::Full(()))) && self.shared.catch_up(&mut state) {
            sent = attempt(&mut state.routes);
        }
        self.shared.flush(&mut state);
        sent.map_err(|unsent| unsent.map(|()| message))
    }

    fn queue(&self, lane: Lane, message: &T, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        self.shared.offer::<C, T, ()>(None, message, descriptors, |routes, bytes, descriptors| {
            routes.connection.send(lane, bytes, descriptors)
        })
    }
}

/// Asks with requests of type `Q` for replies of type `R`.
#[derive(Debug)]
pub struct Client<Q: ?Sized, R, C = Postcard> {
    sender: Sender<Q, C>,
    timeout: Option<Duration>,
    reply: PhantomData<fn() -> R>,
}

impl<Q: ?Sized, R, C> Clone for Client<Q, R, C> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), timeout: self.timeout, reply: PhantomData }
    }
}

impl<Q: ?Sized, R, C> Client<Q, R, C> {
    /// How long to wait for a reply; `None`: until the peer answers or is gone. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl<Q: ?Sized, R, C: Encode<Q> + Decode<R>> Client<Q, R, C> {
    /// Asks, and waits for the reply. The time for it includes waiting for credit.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the peer answers with an error, [`Error::TimedOut`], [`Error::PeerGone`] or why else the
    /// connection ended, [`Error::TooLarge`], [`Error::Encode`], [`Error::Decode`].
    pub fn request(&self, request: &Q) -> Result<R, Error> {
        self.request_with(request, Vec::new()).map(|(reply, _)| reply)
    }

    /// Asks with descriptors attached, and returns those that came with the reply.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn request_with(&self, request: &Q, descriptors: Vec<OwnedFd>) -> Result<(R, Vec<OwnedFd>), Error> {
        let shared = &self.sender.shared;
        let deadline = self.timeout.and_then(|timeout| now().checked_add(timeout));
        let id = shared.offer::<C, Q, _>(deadline, request, descriptors, |routes, bytes, descriptors| {
            let now = now();
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(now));
            let id = routes.connection.request(bytes, descriptors, rest, now)?;
            routes.expect(id);
            Ok(id)
        })?;
        // The session has the deadline too and ends the request by it; `deadline` is not given here so that there is
        // one judge of what came first.
        let answer = shared.wait(None, |routes| routes.take_answer(id, || Some(())));
        let message = answer.unwrap_or(Err(Error::Closed))?;
        Ok((C::decode(message.bytes)?, message.descriptors))
    }
}
