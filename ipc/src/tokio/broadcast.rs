//! Broadcast to many connections.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::Sender;
use super::shared::Handle;
use crate::codec::{Encode, Postcard, Raw};
use crate::frame::Lane;
use crate::hub::pumps::{Pumps, Turn};
use crate::hub::{Delivery, Figures, Published, SubscriberId, Subscription};
use crate::{Error, TrySendError};

/// Sends messages of type `T` to many connections; each is encoded once. Clones share the subscribers.
///
/// Each subscriber has a queue, a policy for when it is full, and a task that empties it, so one that hangs holds nobody up
/// unless its policy is to be waited for. What it missed, it is told ([`Arrival::Gap`](crate::Arrival::Gap)).
///
/// ```
/// use cluster_ipc::hub::{Policy, Subscription};
/// use cluster_ipc::session::Config;
/// use cluster_ipc::tokio::{Broadcast, Endpoint, Receiver, Sender};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cluster_ipc::Error> {
/// let (here, there) = Endpoint::pair(Config::new())?;
/// let (sender, _): (Sender<String>, Receiver<()>) = here.split();
/// let (_, mut receiver): (Sender<()>, Receiver<String>) = there.split();
///
/// let broadcast = Broadcast::<str>::new();
/// broadcast.subscribe(&sender, Subscription::new(Policy::DropOldest));
/// broadcast.publish("to all").await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some("to all"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Broadcast<T: ?Sized, C = Postcard> {
    pumps: Arc<Mutex<Pumps<Waker>>>,
    types: PhantomData<fn(&T, C)>,
}

fn lock(pumps: &Mutex<Pumps<Waker>>) -> MutexGuard<'_, Pumps<Waker>> {
    pumps.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: ?Sized, C> Default for Broadcast<T, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, C> Clone for Broadcast<T, C> {
    fn clone(&self) -> Self {
        lock(&self.pumps).handles += 1;
        Self { pumps: Arc::clone(&self.pumps), types: PhantomData }
    }
}

impl<T: ?Sized, C> Drop for Broadcast<T, C> {
    /// What is queued is still sent.
    fn drop(&mut self) {
        lock(&self.pumps).remove_handle(Waker::wake);
    }
}

impl<T: ?Sized, C> Broadcast<T, C> {
    /// A broadcast without subscribers.
    pub fn new() -> Self {
        Self { pumps: Arc::new(Mutex::new(Pumps::new())), types: PhantomData }
    }

    /// Adds a connection; it gets what is published from now on. It leaves by itself when sending to it fails since the
    /// connection has ended. As long as it is subscribed, the peer is not told that this was all.
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime, as `tokio::spawn` does.
    pub fn subscribe<M: ?Sized>(&self, sender: &Sender<M, C>, subscription: Subscription) -> SubscriberId {
        let id = lock(&self.pumps).subscribe(subscription);
        tokio::spawn(pump(Arc::clone(&self.pumps), id, Sender::new(sender.handle().clone())));
        id
    }

    /// Removes a subscriber; what is queued for it is dropped. `false` if there is none of this id.
    pub fn unsubscribe(&self, id: SubscriberId) -> bool {
        lock(&self.pumps).unsubscribe(id, Waker::wake)
    }

    /// What a subscriber has got and missed. `None` if there is none of this id.
    pub fn figures(&self, id: SubscriberId) -> Option<Figures> {
        lock(&self.pumps).figures(id)
    }
}

impl<T: ?Sized, C: Encode<T>> Broadcast<T, C> {
    /// Sends a message to all. Waits as long as one with [`Policy::Wait`](crate::hub::Policy::Wait) is full.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub async fn publish(&self, message: &T) -> Result<Published, Error> {
        self.publish_encoded(None, encode::<T, C>(message)?).await
    }

    /// The same with a topic, by which a later message may replace this one in the queue of a subscriber with
    /// [`Policy::LatestByKey`](crate::hub::Policy::LatestByKey).
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub async fn publish_keyed(&self, topic: impl Into<Bytes>, message: &T) -> Result<Published, Error> {
        self.publish_encoded(Some(topic.into()), encode::<T, C>(message)?).await
    }

    async fn publish_encoded(&self, topic: Option<Bytes>, message: Bytes) -> Result<Published, Error> {
        poll_fn(|cx| {
            let mut pumps = lock(&self.pumps);
            match pumps.publish(topic.clone(), message.clone(), Waker::wake) {
                Ok(published) => Poll::Ready(Ok(published)),
                Err(_) => {
                    pumps.wait_to_publish(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn encode<T: ?Sized, C: Encode<T>>(message: &T) -> Result<Bytes, Error> {
    C::encode(message, &mut Vec::new()).map(Bytes::copy_from_slice)
}

/// Carries a subscriber's queue to its connection.
async fn pump(pumps: Arc<Mutex<Pumps<Waker>>>, id: SubscriberId, sender: Sender<[u8], Raw>) {
    let handle = sender.handle();
    let next = || {
        poll_fn(|cx| {
            let mut pumps = lock(&pumps);
            match pumps.next(id) {
                Turn::Wait => {
                    pumps.wait(id, cx.waker().clone());
                    Poll::Pending
                }
                turn => Poll::Ready(turn),
            }
        })
    };
    loop {
        let delivery = match next().await {
            Turn::Send(delivery) => delivery,
            Turn::Cut => return handle.with(|routes| routes.connection.close(Error::Closed)),
            Turn::Stop | Turn::Wait => return,
        };
        let mut sending = pin!(send(handle, &delivery));
        let sent = poll_fn(|cx| {
            let mut pumps = lock(&pumps);
            // It may be one that doesn't read, and then nobody should wait for it any more.
            if pumps.is_over(id) {
                return Poll::Ready(None);
            }
            pumps.wait(id, cx.waker().clone());
            drop(pumps);
            sending.as_mut().poll(cx).map(Some)
        });
        let Some(sent) = sent.await else { continue };
        let mut pumps = lock(&pumps);
        if sent.is_err() {
            pumps.unsubscribe(id, Waker::wake);
            return;
        }
        pumps.handle_sent(id, Waker::wake);
    }
}

async fn send(handle: &Handle, delivery: &Delivery) -> Result<(), Error> {
    let bytes = match delivery {
        Delivery::Message(bytes) => bytes,
        Delivery::Gap { missed } => return send_gap(handle, *missed).await,
    };
    let sent = handle.offer::<Raw, [u8], ()>(bytes, Vec::new(), |routes, bytes, descriptors| {
        routes.connection.send(Lane::Data, bytes, descriptors)
    });
    match sent.await {
        // Not for this one: it is told that it misses something.
        Err(Error::TooLarge { .. }) => send_gap(handle, 1).await,
        sent => sent,
    }
}

async fn send_gap(handle: &Handle, missed: u64) -> Result<(), Error> {
    handle
        .until_writable(|routes| match routes.connection.send_gap(missed) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Full(())) => None,
            Err(error) => Some(Err(routes.refusal(&error))),
        })
        .await
}
