//! Broadcast to many connections.

use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Sender;
use super::shared::Shared;
use crate::codec::{Encode, Postcard, Raw};
use crate::hub::pumps::{Pumps, Turn};
use crate::hub::{Delivery, Figures, Published, SubscriberId, Subscription};
use crate::{Error, TrySendError};

/// Sends messages of type `T` to many connections; each is encoded once. Clones share the subscribers.
///
/// Each subscriber has a queue, a policy for when it is full, and a thread that empties it, so one that hangs holds nobody
/// up unless its policy is to be waited for. What it missed, it is told ([`Arrival::Gap`](crate::Arrival::Gap)).
///
/// ```
/// use cluster_ipc::blocking::{Broadcast, Endpoint, Receiver, Sender};
/// use cluster_ipc::hub::{Policy, Subscription};
/// use cluster_ipc::session::Config;
///
/// # fn main() -> Result<(), cluster_ipc::Error> {
/// let (here, there) = Endpoint::pair(Config::new())?;
/// let (sender, _): (Sender<String>, Receiver<()>) = here.split();
///
/// let broadcast = Broadcast::<str>::new();
/// broadcast.subscribe(&sender, Subscription::new(Policy::DropOldest));
/// broadcast.publish("to all")?;
/// # let there = std::thread::spawn(move || -> Result<(), cluster_ipc::Error> {
/// let (_, mut receiver): (Sender<()>, Receiver<String>) = there.split();
/// assert_eq!(receiver.recv()?.as_deref(), Some("to all"));
/// # Ok(()) });
/// # there.join().expect("no panic")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Broadcast<T: ?Sized, C = Postcard> {
    pumps: Arc<Waiting>,
    types: PhantomData<fn(&T, C)>,
}

#[derive(Debug)]
struct Waiting {
    pumps: Mutex<Pumps<()>>,
    news: Condvar,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Pumps<()>> {
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes all who wait to see whether it is for them.
    fn with<R>(&self, change: impl FnOnce(&mut Pumps<()>) -> R) -> R {
        let result = change(&mut self.lock());
        self.news.notify_all();
        result
    }

    fn wait_until<R>(&self, mut ready: impl FnMut(&mut Pumps<()>) -> Option<R>) -> R {
        let mut pumps = self.lock();
        loop {
            if let Some(result) = ready(&mut pumps) {
                drop(pumps);
                self.news.notify_all();
                return result;
            }
            pumps = self.news.wait(pumps).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T: ?Sized, C> Default for Broadcast<T, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, C> Clone for Broadcast<T, C> {
    fn clone(&self) -> Self {
        self.pumps.lock().handles += 1;
        Self { pumps: Arc::clone(&self.pumps), types: PhantomData }
    }
}

impl<T: ?Sized, C> Drop for Broadcast<T, C> {
    /// What is queued is still sent.
    fn drop(&mut self) {
        self.pumps.with(|pumps| pumps.remove_handle(|()| {}));
    }
}

impl<T: ?Sized, C> Broadcast<T, C> {
    /// A broadcast without subscribers.
    pub fn new() -> Self {
        let waiting = Waiting { pumps: Mutex::new(Pumps::new()), news: Condvar::new() };
        Self { pumps: Arc::new(waiting), types: PhantomData }
    }

    /// Adds a connection; it gets what is published from now on. It leaves by itself when sending to it fails since the
    /// connection has ended. As long as it is subscribed, the peer is not told that this was all.
    pub fn subscribe<M: ?Sized>(&self, sender: &Sender<M, C>, subscription: Subscription) -> SubscriberId {
        let id = self.pumps.lock().subscribe(subscription);
        let (pumps, sender) = (Arc::clone(&self.pumps), Sender::<[u8], Raw>::new(sender.shared()));
        #[allow(clippy::disallowed_methods, reason = "this is a driver")]
        std::thread::spawn(move || pump(&pumps, id, &sender));
        id
    }

    /// Removes a subscriber; what is queued for it is dropped. `false` if there is none of this id.
    pub fn unsubscribe(&self, id: SubscriberId) -> bool {
        self.pumps.with(|pumps| pumps.unsubscribe(id, |()| {}))
    }

    /// What a subscriber has got and missed. `None` if there is none of this id.
    pub fn figures(&self, id: SubscriberId) -> Option<Figures> {
        self.pumps.lock().figures(id)
    }
}

impl<T: ?Sized, C: Encode<T>> Broadcast<T, C> {
    /// Sends a message to all. Waits as long as one with [`Policy::Wait`](crate::hub::Policy::Wait) is full.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub fn publish(&self, message: &T) -> Result<Published, Error> {
        self.publish_encoded(None, message)
    }

    /// The same with a topic, by which a later message may replace this one in the queue of a subscriber with
    /// [`Policy::LatestByKey`](crate::hub::Policy::LatestByKey).
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub fn publish_keyed(&self, topic: impl Into<Bytes>, message: &T) -> Result<Published, Error> {
        self.publish_encoded(Some(topic.into()), message)
    }

    fn publish_encoded(&self, topic: Option<Bytes>, message: &T) -> Result<Published, Error> {
        let message = C::encode(message, &mut Vec::new()).map(Bytes::copy_from_slice)?;
        Ok(self.pumps.wait_until(|pumps| pumps.publish(topic.clone(), message.clone(), |()| {}).ok()))
    }
}

/// Carries a subscriber's queue to its connection.
fn pump(pumps: &Waiting, id: SubscriberId, sender: &Sender<[u8], Raw>) {
    loop {
        let turn = pumps.wait_until(|pumps| match pumps.next(id) {
            Turn::Wait => None,
            turn => Some(turn),
        });
        let sent = match turn {
            Turn::Send(Delivery::Message(bytes)) => match sender.send(&bytes) {
                // Not for this one: it is told that it misses something.
                Err(Error::TooLarge { .. }) => send_gap(&sender.shared(), 1),
                sent => sent,
            },
            Turn::Send(Delivery::Gap { missed }) => send_gap(&sender.shared(), missed),
            Turn::Cut => return sender.shared().close(),
            Turn::Stop | Turn::Wait => return,
        };
        if sent.is_err() {
            pumps.with(|pumps| pumps.unsubscribe(id, |()| {}));
            return;
        }
        pumps.with(|pumps| pumps.handle_sent(id, |()| {}));
    }
}

fn send_gap(shared: &Shared, missed: u64) -> Result<(), Error> {
    let sent = shared.wait(None, |routes| match routes.connection.send_gap(missed) {
        Ok(()) => Some(Ok(())),
        Err(TrySendError::Full(())) => None,
        Err(error) => Some(Err(routes.refusal(&error))),
    });
    sent.unwrap_or(Err(Error::Closed))?;
    shared.drain()
}
