//! Broadcast to many connections.

use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::Sender;
use super::shared::Shared;
use crate::codec::{Encode, Postcard, Raw};
use crate::hub::pumps::{Pumps, Turn};
use crate::hub::{Delivery, Figures, Published, SubscriberId, Subscription};
use crate::{Error, Lane, TrySendError};

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

/// The connection that a pump sends by, and may be stuck in. Who holds a connection's lock may take that of the pumps,
/// not the other way round.
type Sending = Weak<Shared>;

#[derive(Debug)]
struct Waiting {
    pumps: Mutex<Pumps<Sending>>,
    news: Condvar,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Pumps<Sending>> {
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes all who wait to see whether it is for them.
    fn with<R>(&self, change: impl FnOnce(&mut Pumps<Sending>, &mut Vec<Sending>) -> R) -> R {
        let mut woken = Vec::new();
        let result = change(&mut self.lock(), &mut woken);
        self.tell(&woken);
        result
    }

    fn tell(&self, woken: &[Sending]) {
        self.news.notify_all();
        let connections = woken.iter().filter_map(Weak::upgrade);
        connections.for_each(|connection| connection.wake_all());
    }

    fn wait_until<R>(&self, mut ready: impl FnMut(&mut Pumps<Sending>, &mut Vec<Sending>) -> Option<R>) -> R {
        let mut pumps = self.lock();
        let mut woken = Vec::new();
        loop {
            if let Some(result) = ready(&mut pumps, &mut woken) {
                drop(pumps);
                self.tell(&woken);
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
        self.pumps.with(|pumps, woken| pumps.remove_handle(|sending| woken.push(sending)));
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
        self.pumps.with(|pumps, woken| pumps.unsubscribe(id, |sending| woken.push(sending)))
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
        Ok(self.pumps.wait_until(|pumps, woken| {
            pumps.publish(topic.clone(), message.clone(), |sending| woken.push(sending)).ok()
        }))
    }
}

/// Carries a subscriber's queue to its connection.
fn pump(pumps: &Waiting, id: SubscriberId, sender: &Sender<[u8], Raw>) {
    let shared = sender.shared();
    // It may be one that doesn't read, and then nobody should wait for it any more.
    let is_over = || {
        let mut pumps = pumps.lock();
        let is_over = pumps.is_over(id);
        if !is_over {
            pumps.wait(id, Arc::downgrade(&shared));
        }
        is_over
    };
    loop {
        let turn = pumps.wait_until(|pumps, _| match pumps.next(id) {
            Turn::Wait => None,
            turn => Some(turn),
        });
        let delivery = match turn {
            Turn::Send(delivery) => delivery,
            Turn::Cut => return shared.close(),
            Turn::Stop | Turn::Wait => return,
        };
        let sent = match send(&shared, &delivery, is_over) {
            // Not for this one: it is told that it misses something.
            Err(Error::TooLarge { .. }) => send(&shared, &Delivery::Gap { missed: 1 }, is_over),
            sent => sent,
        };
        pumps.with(|pumps, woken| match sent {
            Ok(()) => pumps.handle_sent(id, |sending| woken.push(sending)),
            Err(_) => drop(pumps.unsubscribe(id, |sending| woken.push(sending))),
        });
    }
}

/// Sends, unless it is over.
fn send(shared: &Shared, delivery: &Delivery, is_over: impl Fn() -> bool) -> Result<(), Error> {
    let sent = shared.wait(None, |routes| {
        if is_over() {
            return Some(Ok(()));
        }
        let sent = match delivery {
            Delivery::Message(bytes) => {
                routes.connection.send(Lane::Data, bytes, Vec::new()).map_err(|unsent| unsent.map(drop))
            }
            Delivery::Gap { missed } => routes.connection.send_gap(*missed),
        };
        match sent {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Full(())) => None,
            Err(error) => Some(Err(routes.refusal(&error))),
        }
    });
    sent.unwrap_or(Err(Error::Closed))?;
    shared.drain_unless(is_over)
}
