//! What a subscriber asks for.

/// How many messages wait for a subscriber by default before it counts as full.
const DEFAULT_MAX_MESSAGES: usize = 1024;

/// How many bytes wait for a subscriber by default before it counts as full: 4 MiB.
const DEFAULT_MAX_BYTES: usize = 4 << 20;

/// What happens when a message is published and a subscriber has no room for it.
///
/// Whatever a subscriber misses under [`DropNewest`](Self::DropNewest), [`DropOldest`](Self::DropOldest) and
/// [`LatestByKey`](Self::LatestByKey) it is told of, by a [`Gap`](super::Delivery::Gap) where the messages would
/// have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The publisher waits: nobody gets the message until this subscriber has room, and it misses nothing.
    ///
    /// For what everyone must see and nobody can ask for again. The slowest subscriber sets the pace of all.
    Wait,
    /// The new message is left out for this subscriber; what was queued before stays.
    ///
    /// For a record whose beginning explains the rest, and for a subscriber that, after the gap, fetches what it
    /// missed from elsewhere.
    DropNewest,
    /// The oldest queued messages make way for the new one.
    ///
    /// For news: what is recent is worth more than what is old.
    DropOldest,
    /// A queued message of the same topic makes way for the new one, always; if the queue is full of other topics,
    /// the oldest message does.
    ///
    /// For state that is published whole, one topic per value: a subscriber that is behind gets the latest value of
    /// each and none of those between. That loses nothing, so it is no gap.
    ///
    /// The new value goes to the **end** of the queue; it does not inherit the place of the old one, where it would
    /// overtake what was published between the two. So whatever a subscriber gets, it gets in the order of
    /// publication. Messages without a topic are never replaced. Replacing takes constant time (amortised).
    LatestByKey,
    /// The subscriber is removed, with all that was queued for it. See
    /// [`Hub::poll_disconnected`](super::Hub::poll_disconnected).
    ///
    /// For a subscriber that must not miss anything and can start over, with a fresh copy of everything.
    Disconnect,
}

/// A subscriber's policy, and how much may wait for it: by default 1024 messages and 4 MiB.
///
/// ```
/// # use cluster_ipc::hub::{Policy, Subscription};
/// let news = Subscription::new(Policy::DropOldest).max_messages(64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub(super) policy: Policy,
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
}

impl Subscription {
    /// A subscription with this policy and the default limits.
    pub fn new(policy: Policy) -> Self {
        Self { policy, max_messages: DEFAULT_MAX_MESSAGES, max_bytes: DEFAULT_MAX_BYTES }
    }

    /// The same, with at most `messages` waiting. One message always fits into an empty queue.
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// The same, with at most `bytes` waiting. One message always fits into an empty queue, however long it is;
    /// a message longer than this fits only there.
    ///
    /// What counts is the length of the message, and of its topic where that is kept ([`Policy::LatestByKey`]); not
    /// how much memory its handle keeps alive, which is more if it is a slice of something larger.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}
