//! What names one item: while it waits, and on its way to a member.

/// Names an item by its place in the order of arrival. From [`Dispatcher::offer_for`](crate::Dispatcher::offer_for).
///
/// It stays the same however often the item comes back, and no other item ever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub(super) u64);

/// Names one item in flight at one member: where it is kept, and which one it is.
///
/// The index finds the place (in the dispatcher, and in whatever the two sides share); the sequence says
/// which of the items that were ever in that place is meant, so that a stale ticket finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    index: u16,
    sequence: u64,
}

impl Ticket {
    /// A ticket as read off the wire. Any values may be tried: those that name nothing find nothing.
    pub fn new(index: u16, sequence: u64) -> Self {
        Self { index, sequence }
    }

    /// Unique among the tickets in flight at one member, and below its
    /// [window](crate::Limits::window); used again once the ticket is settled.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Never repeats in the life of a dispatcher; starts at 1 and rises with every item handed out.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// The items to send to one member now, oldest first. From [`Dispatcher::poll_batch`](crate::Dispatcher::poll_batch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<K> {
    key: K,
    tickets: Vec<Ticket>,
}

impl<K: Copy> Batch<K> {
    pub(super) fn new(key: K, tickets: Vec<Ticket>) -> Self {
        Self { key, tickets }
    }

    /// The member to send to.
    pub fn key(&self) -> K {
        self.key
    }

    /// One ticket per item, oldest item first, never empty. [`Dispatcher::item`](crate::Dispatcher::item)
    /// lends the item.
    pub fn tickets(&self) -> &[Ticket] {
        &self.tickets
    }
}
