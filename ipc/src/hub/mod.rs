//! One message to many subscribers, encoded once. No I/O.
//!
//! Subscribers take what they get at speeds of their own, and one of them may hang. A hub therefore keeps a bounded
//! queue for each, and each says what is to happen when its queue is full: that is its [`Policy`]. Nobody
//! misses anything without being told so, where in the order it is missing and how much it is.
//!
//! ```text
//!                           ┌─▶ worker 1  [ 7 6 5 ]                 ──▶ peek ──▶ send ──▶ handle_sent
//!   publish(7) ── clone ────┼─▶ worker 2  [ 7 6 gap(2) 3 ]          ──▶   DropNewest: 4 and 5 did not fit
//!              of a handle  └─▶ worker 3  [ 7 ]                     ──▶
//! ```
//!
//! The bytes exist once, however many subscribers there are: a queue holds handles ([`Bytes`]).
//!
//! # The driver's turn
//!
//! 1. [`publish`](Hub::publish); on [`Full`], wait until some deliveries were sent, and try again.
//! 2. [`poll_disconnected`](Hub::poll_disconnected) until `None`: end these subscribers' connections.
//! 3. [`poll_ready`](Hub::poll_ready) until `None`: wake what sends to these subscribers.
//! 4. For each that is awake, while its wire takes more: [`peek`](Hub::peek), send, [`handle_sent`](Hub::handle_sent).
//!    If the wire takes nothing, simply don't call the last; later, peek again for what is to be sent by then.
//!
//! ```
//! use bytes::Bytes;
//! use cluster_ipc::hub::{Delivery, Hub, Policy, Subscription};
//!
//! let mut hub = Hub::new();
//! hub.subscribe("fast", Subscription::new(Policy::Wait));
//! hub.subscribe("slow", Subscription::new(Policy::DropOldest).max_messages(2));
//!
//! for text in ["one", "two", "three"] {
//!     hub.publish(Bytes::from(text))?;
//!     // Only the first of the two has a wire that takes something.
//!     assert_eq!(hub.peek("fast"), Some(Delivery::Message(text.into())));
//!     hub.handle_sent("fast");
//! }
//! let mut sent = Vec::new();
//! while let Some(delivery) = hub.peek("slow") {
//!     sent.push(delivery);
//!     hub.handle_sent("slow");
//! }
//! let message = |text: &'static str| Delivery::Message(text.into());
//! assert_eq!(sent, [Delivery::Gap { missed: 1 }, message("two"), message("three")]);
//! # Ok::<(), cluster_ipc::hub::Full>(())
//! ```

mod delivery;
#[cfg(any(feature = "blocking", feature = "tokio"))]
pub(crate) mod pumps;
mod queue;
mod subscription;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use bytes::Bytes;

pub use self::delivery::{Delivery, Figures, Full, Published};
#[cfg(any(feature = "blocking", feature = "tokio"))]
pub use self::pumps::SubscriberId;
use self::queue::{Pushed, Queue};
pub use self::subscription::{Policy, Subscription};

/// Subscribers, and what waits for each of them.
///
/// `K` is the caller's key of a subscriber. A key is taken from [`subscribe`](Self::subscribe) until
/// [`unsubscribe`](Self::unsubscribe), or until [`poll_disconnected`](Self::poll_disconnected) has returned it. What is
/// asked or said of a key that is not subscribed does nothing.
///
/// Everything is bounded: a queue by its [`Subscription`] (or by one message, if that is longer), the rest by the
/// number of keys taken. The same calls always have the same effect, in the same order.
#[derive(Debug)]
pub struct Hub<K> {
    /// In the order in which they subscribed.
    subscribers: Vec<Subscriber<K>>,
    /// Where in `subscribers` each is.
    places: HashMap<K, usize>,
    /// Exactly those whose state is `Listed`.
    ready: VecDeque<K>,
    /// Removed, and not reported yet.
    disconnected: VecDeque<K>,
}

#[derive(Debug)]
struct Subscriber<K> {
    key: K,
    queue: Queue,
    state: State,
}

/// Whether the driver knows that there is something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is nothing, or was not when this was last looked at.
    Idle,
    /// It is about to be told; unless all is sent by then.
    Listed,
    /// It was told, and not all is sent.
    Reported,
}

impl<K> Default for Hub<K> {
    fn default() -> Self {
        Self {
            subscribers: Vec::new(),
            places: HashMap::new(),
            ready: VecDeque::new(),
            disconnected: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Hub<K> {
    /// A hub without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscriber. It gets what is published from now on.
    ///
    /// Returns `false`, and nothing has changed, if the key is taken.
    pub fn subscribe(&mut self, key: K, subscription: Subscription) -> bool {
        if self.places.contains_key(&key) || self.disconnected.contains(&key) {
            return false;
        }
        self.places.insert(key, self.subscribers.len());
        self.subscribers.push(Subscriber { key, queue: Queue::new(subscription), state: State::Idle });
        true
    }

    /// Removes a subscriber, with what was queued for it. One that was disconnected will not be reported any more.
    ///
    /// Returns `false` if there is no such key.
    pub fn unsubscribe(&mut self, key: K) -> bool {
        if self.places.remove(&key).is_some() {
            self.forget_placeless();
            return true;
        }
        let before = self.disconnected.len();
        self.disconnected.retain(|disconnected| *disconnected != key);
        self.disconnected.len() < before
    }

    /// Queues a message for all subscribers: for each as its [`Policy`] says. Without subscribers it is dropped.
    ///
    /// # Errors
    ///
    /// [`Full`], with the message, if a subscriber of [`Policy::Wait`] has no room. Then nobody was given it, nothing
    /// was dropped and nobody disconnected, so that it can be published again.
    pub fn publish(&mut self, message: Bytes) -> Result<Published, Full> {
        self.publish_to_all(None, message)
    }

    /// Publishes a message that replaces an earlier one of the same topic where the policy is
    /// [`Policy::LatestByKey`]. The topic is not sent.
    ///
    /// # Errors
    ///
    /// Like [`publish`](Self::publish).
    pub fn publish_keyed(&mut self, topic: Bytes, message: Bytes) -> Result<Published, Full> {
        self.publish_to_all(Some(topic), message)
    }

    fn publish_to_all(&mut self, topic: Option<Bytes>, message: Bytes) -> Result<Published, Full> {
        if !self.has_room(message.len()) {
            return Err(Full { topic, message });
        }
        let mut published = Published::default();
        for Subscriber { key, queue, state } in &mut self.subscribers {
            match queue.push(topic.as_ref(), &message) {
                Pushed::Queued => published.queued += 1,
                Pushed::Missed => published.missed += 1,
                Pushed::Overflowed => {
                    published.disconnected += 1;
                    self.places.remove(key);
                    self.disconnected.push_back(*key);
                    continue;
                }
            }
            if *state == State::Idle {
                *state = State::Listed;
                self.ready.push_back(*key);
            }
        }
        if published.disconnected > 0 {
            self.forget_placeless();
        }
        Ok(published)
    }

    /// Whether a message of `len` bytes can be published now: whether it fits wherever nothing may be missed.
    pub fn has_room(&self, len: usize) -> bool {
        !self.subscribers.iter().any(|subscriber| subscriber.queue.must_wait(len))
    }

    /// Returns what is to be sent to this subscriber next, or `None` if nothing is. It stays queued until
    /// [`handle_sent`](Self::handle_sent).
    ///
    /// A message that was shown here and not sent may be dropped or replaced meanwhile: so peek again rather than
    /// keep it. One that is being sent may be dropped or replaced too, which only the figures will show for a moment.
    pub fn peek(&mut self, key: K) -> Option<Delivery> {
        self.subscriber(key)?.queue.peek()
    }

    /// Takes note that what [`peek`](Self::peek) returned last for this subscriber was sent. That is never mistaken
    /// for anything else, whatever was published between the two calls.
    pub fn handle_sent(&mut self, key: K) {
        let Some(subscriber) = self.subscriber(key) else { return };
        subscriber.queue.handle_sent();
        if subscriber.queue.is_empty() && subscriber.state == State::Reported {
            subscriber.state = State::Idle;
        }
    }

    /// Returns a subscriber that has something to send and had nothing before; each once until all of it is sent.
    ///
    /// Whoever was returned is the driver's to remember: it is not returned again because its wire was full.
    pub fn poll_ready(&mut self) -> Option<K> {
        while let Some(key) = self.ready.pop_front() {
            let Some(subscriber) = self.subscriber(key) else { continue };
            if !subscriber.queue.is_empty() {
                subscriber.state = State::Reported;
                return Some(key);
            }
            subscriber.state = State::Idle;
        }
        None
    }

    /// Returns a subscriber that was removed because it was full ([`Policy::Disconnect`]); each once. Its key is free
    /// from then on.
    pub fn poll_disconnected(&mut self) -> Option<K> {
        self.disconnected.pop_front()
    }

    /// The figures of a subscriber.
    pub fn figures(&self, key: K) -> Option<Figures> {
        let subscriber = self.subscribers.get(*self.places.get(&key)?)?;
        Some(subscriber.queue.figures())
    }

    /// How many messages are waiting for a subscriber.
    pub fn queued(&self, key: K) -> usize {
        self.figures(key).map_or(0, |figures| figures.queued_messages)
    }

    /// Whether this key is subscribed.
    pub fn contains(&self, key: K) -> bool {
        self.places.contains_key(&key)
    }

    /// How many subscribers there are.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there are no subscribers.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    fn subscriber(&mut self, key: K) -> Option<&mut Subscriber<K>> {
        self.subscribers.get_mut(*self.places.get(&key)?)
    }

    /// Drops the subscribers that have lost their place.
    fn forget_placeless(&mut self) {
        self.subscribers.retain(|subscriber| self.places.contains_key(&subscriber.key));
        self.ready.retain(|key| self.places.contains_key(key));
        for (place, subscriber) in self.subscribers.iter().enumerate() {
            self.places.insert(subscriber.key, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Bytes = Bytes::from_static(b"a");

    fn small(policy: Policy) -> Subscription {
        Subscription::new(policy).max_messages(1)
    }

    fn send(hub: &mut Hub<u32>, key: u32) -> Option<Delivery> {
        let delivery = hub.peek(key);
        hub.handle_sent(key);
        delivery
    }

    #[test]
    fn nobody_gets_a_message_that_one_has_to_wait_for() {
        let mut hub = Hub::new();
        hub.subscribe(0, small(Policy::Disconnect));
        hub.subscribe(1, small(Policy::DropOldest));
        hub.subscribe(2, small(Policy::Wait));
        hub.publish_keyed(Bytes::new(), A).unwrap();
        let full = hub.publish_keyed(A, Bytes::from("b")).unwrap_err();
        assert_eq!(full.into_parts(), (Some(A), Bytes::from("b")));
        assert_eq!(hub.poll_disconnected(), None);
        assert_eq!(hub.figures(1).map(|figures| figures.dropped), Some(0));
        assert!(!hub.has_room(1));
        assert_eq!(send(&mut hub, 2), Some(Delivery::Message(A)));
        assert!(hub.has_room(1));
    }

    #[test]
    fn a_full_subscriber_is_disconnected_and_reported_once() {
        let mut hub = Hub::new();
        hub.subscribe(1, small(Policy::Disconnect));
        hub.subscribe(2, small(Policy::Disconnect));
        hub.subscribe(3, Subscription::new(Policy::Wait));
        hub.publish(A).unwrap();
        send(&mut hub, 2);
        let published = hub.publish(A).unwrap();
        assert_eq!((published.queued, published.disconnected), (2, 1));
        assert_eq!((hub.peek(1), hub.queued(2), hub.queued(3), hub.len()), (None, 1, 2, 2));
        assert!(!hub.subscribe(1, small(Policy::Wait)), "the key is taken until its end was reported");
        assert_eq!((hub.poll_disconnected(), hub.poll_disconnected()), (Some(1), None));
        assert!(hub.subscribe(1, small(Policy::Wait)));
    }

    #[test]
    fn a_subscriber_is_ready_once_until_it_is_drained() {
        let mut hub = Hub::new();
        hub.subscribe(1, Subscription::new(Policy::Wait));
        hub.subscribe(2, Subscription::new(Policy::Wait));
        hub.publish(A).unwrap();
        send(&mut hub, 1);
        hub.publish(A).unwrap();
        assert_eq!([hub.poll_ready(), hub.poll_ready(), hub.poll_ready()], [Some(1), Some(2), None]);
        send(&mut hub, 1);
        hub.publish(A).unwrap();
        assert_eq!([hub.poll_ready(), hub.poll_ready()], [Some(1), None], "the other is not drained");
    }

    #[test]
    fn coming_and_going_leaves_nothing_behind() {
        let mut hub = Hub::new();
        for _ in 0..100 {
            assert!(hub.subscribe(1, small(Policy::Disconnect)));
            hub.publish(A).unwrap();
            hub.publish(A).unwrap();
            assert!(hub.unsubscribe(1), "its end need not be reported");
        }
        assert!(!hub.unsubscribe(1));
        assert_eq!((hub.ready.len(), hub.disconnected.len(), hub.places.len()), (0, 0, 0));
    }
}
