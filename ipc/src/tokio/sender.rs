//! Sending, and asking.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use super::shared::{Handle, now};
use crate::codec::{Decode, Encode, Postcard};
use crate::frame::Lane;
use crate::session::CallId;
use crate::{DEFAULT_REQUEST_TIMEOUT, Error, Message, TrySendError};

/// Sends messages of type `T`, encoded by `C`. Clones send over the same connection.
///
/// When the last clone and [`Client`] is dropped, the peer's receiver ends with `Ok(None)` after the last message.
#[derive(Debug)]
pub struct Sender<T: ?Sized, C = Postcard> {
    handle: Handle,
    types: PhantomData<fn(&T, C)>,
}

impl<T: ?Sized, C> Clone for Sender<T, C> {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl<T: ?Sized, C> Drop for Sender<T, C> {
    fn drop(&mut self) {
        self.handle.with(|routes| routes.remove_sender());
    }
}

impl<T: ?Sized, C> Sender<T, C> {
    pub(super) fn new(handle: Handle) -> Self {
        handle.with(|routes| routes.add_sender());
        Self { handle, types: PhantomData }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the socket has taken all that was sent. Not needed for it to go out. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended.
    pub async fn flush(&self) -> Result<(), Error> {
        self.handle.until_flushed().await
    }

    /// Asks with requests of type `T` for replies of type `R`.
    pub fn client<R>(&self) -> Client<T, R, C> {
        Client { sender: self.clone(), timeout: DEFAULT_REQUEST_TIMEOUT, reply: PhantomData }
    }
}

impl<T: ?Sized, C: Encode<T>> Sender<T, C> {
    /// Sends a message: waits for credit if there is none. Cancel-safe: when dropped before it is ready, nothing was sent.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended; [`Error::TooLarge`]; [`Error::Encode`].
    pub async fn send(&self, message: &T) -> Result<(), Error> {
        self.send_with(message, Vec::new()).await
    }

    /// Sends a message with descriptors. They are closed here once they are on their way, and on an error.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_with(&self, message: &T, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        self.queue(Lane::Data, message, descriptors).await
    }

    /// Sends a small message that overtakes all data: for "drain" or "stop", not for data in a hurry. At most 16 KiB.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_urgent(&self, message: &T) -> Result<(), Error> {
        self.queue(Lane::Control, message, Vec::new()).await
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
        self.handle.with(|routes| {
            let Ok(bytes) = C::encode(&message, &mut routes.scratch) else {
                return Err(TrySendError::TooLarge(message));
            };
            let sent = routes.connection.send(Lane::Data, bytes, Vec::new());
            sent.map_err(|unsent| unsent.map(|_| message))
        })
    }

    async fn queue(&self, lane: Lane, message: &T, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        self.handle
            .offer::<C, T, ()>(message, descriptors, |routes, bytes, descriptors| {
                routes.connection.send(lane, bytes, descriptors)
            })
            .await
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
    /// Asks, and waits for the reply. The time for it includes waiting for credit. Dropping the future cancels the
    /// request: the peer is told, and a late answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the peer answers with an error, [`Error::TimedOut`], [`Error::PeerGone`] or why else the
    /// connection ended, [`Error::TooLarge`], [`Error::Encode`], [`Error::Decode`].
    pub async fn request(&self, request: &Q) -> Result<R, Error> {
        self.request_with(request, Vec::new()).await.map(|(reply, _)| reply)
    }

    /// Asks with descriptors attached, and returns those that came with the reply.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub async fn request_with(
        &self,
        request: &Q,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(R, Vec<OwnedFd>), Error> {
        let handle = &self.sender.handle;
        let deadline = self.timeout.and_then(|timeout| now().checked_add(timeout));
        let begin = handle.offer::<C, Q, _>(request, descriptors, |routes, bytes, descriptors| {
            let now = now();
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(now));
            let id = routes.connection.request(bytes, descriptors, rest, now)?;
            routes.expect(id);
            // Under the same lock: whatever happens to the future from here on, the request is not forgotten.
            Ok(Call { handle, id })
        });
        let call = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), begin).await.map_err(|_| Error::TimedOut)??
            }
            None => begin.await?,
        };
        // From here on the session has the deadline, so that there is one judge of what came first.
        let message = call.answer().await?;
        Ok((C::decode(message.bytes)?, message.descriptors))
    }
}

/// A request under way: cancelled when dropped.
struct Call<'a> {
    handle: &'a Handle,
    id: CallId,
}

impl Call<'_> {
    async fn answer(self) -> Result<Message, Error> {
        poll_fn(|cx| {
            let mut state = self.handle.shared.lock();
            let answer = state.routes.take_answer(self.id, || Some(cx.waker().clone()));
            answer.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // Nothing happens if the answer has been taken.
        self.handle.with(|routes| routes.forget(self.id));
    }
}
