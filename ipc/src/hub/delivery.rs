//! What comes out of a hub, and what could not go in.

use bytes::Bytes;

/// What is to be sent to a subscriber next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "complete by nature; a driver that skipped a kind would lose it")]
pub enum Delivery {
    /// A message, as it was published.
    Message(Bytes),
    /// Here, between what was delivered before and what will be after, the subscriber misses messages.
    Gap {
        /// How many: at least one.
        missed: u64,
    },
}

/// What became of a message that was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many subscribers it is queued for.
    pub queued: usize,
    /// How many subscribers miss it. They will be told.
    pub missed: usize,
    /// How many subscribers were removed because of it.
    pub disconnected: usize,
}

/// A subscriber that must not miss anything ([`Policy::Wait`](super::Policy::Wait)) has no room for the message, so
/// nobody was given it. It comes back, with its topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subscriber that must not miss anything has no room; try again when it has taken some")]
pub struct Full {
    pub(super) topic: Option<Bytes>,
    pub(super) message: Bytes,
}

impl Full {
    /// Returns the message.
    pub fn into_message(self) -> Bytes {
        self.message
    }

    /// Returns the topic, if it was published with one, and the message.
    pub fn into_parts(self) -> (Option<Bytes>, Bytes) {
        (self.topic, self.message)
    }
}

/// The figures of one subscriber.
///
/// Every message published since it subscribed is in exactly one of `delivered`, `dropped`, `replaced` and
/// `queued_messages`. One that is pushed out while it is being sent is counted as pushed out until
/// [`handle_sent`](super::Hub::handle_sent) says that it was delivered after all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Messages that were sent.
    pub delivered: u64,
    /// Messages that it misses, whether it was told already or will be.
    pub dropped: u64,
    /// Messages that a later one of the same topic replaced.
    pub replaced: u64,
    /// Messages that are waiting.
    pub queued_messages: usize,
    /// The length of the messages that are waiting, and of their topics as far as they are kept for replacing.
    pub queued_bytes: usize,
}
