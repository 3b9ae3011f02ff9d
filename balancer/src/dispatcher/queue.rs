//! The one queue of items that no member has, in order of arrival.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Classes, Request};

/// An item with its place in the order of arrival. The place stays with the item on its way to a member,
/// so that it can come back to it.
pub(super) struct Waiting<K, C> {
    arrival: u64,
    /// What it was offered for, and when.
    request: Request,
    /// Who refused it last.
    refused_by: Option<K>,
    item: C,
}

impl<K: Copy, C> Waiting<K, C> {
    pub(super) fn request(&self) -> Request {
        self.request
    }

    pub(super) fn refused_by(&self) -> Option<K> {
        self.refused_by
    }

    /// The same, after somebody refused it.
    pub(super) fn refuse(self, by: K) -> Self {
        Self { refused_by: Some(by), ..self }
    }

    pub(super) fn item(&self) -> &C {
        &self.item
    }

    pub(super) fn into_item(self) -> C {
        self.item
    }

    pub(super) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// When it arrived.
    fn since(&self) -> Duration {
        self.request.time()
    }
}

/// Sorted by arrival, always; so by time, too.
pub(super) struct Queue<K, C> {
    items: VecDeque<Waiting<K, C>>,
    /// How many there are of each class.
    counts: [usize; Classes::COUNT as usize],
    next_arrival: u64,
}

impl<K: Copy, C> Queue<K, C> {
    pub(super) fn new() -> Self {
        Self { items: VecDeque::new(), counts: [0; Classes::COUNT as usize], next_arrival: 0 }
    }

    /// A new item, behind all others.
    pub(super) fn push(&mut self, item: C, request: Request) {
        self.items.push_back(Waiting { arrival: self.next_arrival, request, refused_by: None, item });
        self.next_arrival += 1;
        self.adjust(request.of_class(), |count| count.saturating_add(1));
    }

    /// The item at `index`, the oldest being at 0.
    pub(super) fn get(&self, index: usize) -> Option<&Waiting<K, C>> {
        self.items.get(index)
    }

    /// Takes the item at `index` out.
    pub(super) fn remove(&mut self, index: usize) -> Option<Waiting<K, C>> {
        let waiting = self.items.remove(index)?;
        self.adjust(waiting.request.of_class(), |count| count.saturating_sub(1));
        Some(waiting)
    }

    fn adjust(&mut self, class: Option<u8>, change: impl FnOnce(usize) -> usize) {
        if let Some(count) = class.and_then(|class| self.counts.get_mut(usize::from(class))) {
            *count = change(*count);
        }
    }

    /// How many items of a class there are.
    pub(super) fn count(&self, class: u8) -> usize {
        self.counts.get(usize::from(class)).copied().unwrap_or(0)
    }

    /// Puts an item back where its arrival says: before all that came later, which is usually the head.
    pub(super) fn put_back(&mut self, waiting: Waiting<K, C>) {
        let at = self.items.partition_point(|other| other.arrival < waiting.arrival);
        let class = waiting.request.of_class();
        self.items.insert(at, waiting);
        self.adjust(class, |count| count.saturating_add(1));
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// When the oldest arrived.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.items.front().map(Waiting::since)
    }

    /// The oldest for which `is_stuck`, of those that arrived no later than `by`.
    pub(super) fn remove_overdue(
        &mut self,
        by: Duration,
        is_stuck: impl Fn(&Request) -> bool,
    ) -> Option<Waiting<K, C>> {
        let mut overdue = self.items.iter().take_while(|waiting| waiting.since() <= by);
        let index = overdue.position(|waiting| is_stuck(&waiting.request))?;
        self.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_back_comes_back_to_its_place() {
        let mut queue: Queue<(), _> = Queue::new();
        (0..5).for_each(|item| queue.push(item, Request::new()));
        let taken: Vec<_> = (0..3).filter_map(|_| queue.remove(0)).collect();
        queue.push(5, Request::new());
        for waiting in taken.into_iter().rev() {
            queue.put_back(waiting);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.remove(0)).map(Waiting::into_item).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}
