//! The one queue of items that no member has, in order of arrival.

use std::collections::VecDeque;

use crate::Classes;

/// An item with its place in the order of arrival. The place stays with the item on its way to a member,
/// so that it can come back to it.
pub(crate) struct Waiting<C> {
    arrival: u64,
    class: u8,
    item: C,
}

impl<C> Waiting<C> {
    pub(crate) fn class(&self) -> u8 {
        self.class
    }

    pub(crate) fn item(&self) -> &C {
        &self.item
    }

    pub(crate) fn into_item(self) -> C {
        self.item
    }

    pub(crate) fn arrival(&self) -> u64 {
        self.arrival
    }
}

/// Sorted by arrival, always.
pub(crate) struct Queue<C> {
    items: VecDeque<Waiting<C>>,
    /// How many there are of each class.
    counts: [usize; Classes::COUNT as usize],
    next_arrival: u64,
}

impl<C> Queue<C> {
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new(), counts: [0; Classes::COUNT as usize], next_arrival: 0 }
    }

    /// A new item, behind all others.
    pub(crate) fn push(&mut self, item: C, class: u8) {
        self.items.push_back(Waiting { arrival: self.next_arrival, class, item });
        self.next_arrival += 1;
        self.adjust(class, |count| count.saturating_add(1));
    }

    /// The class of the item at `index`, the oldest being at 0.
    pub(crate) fn class_at(&self, index: usize) -> Option<u8> {
        self.items.get(index).map(Waiting::class)
    }

    /// Takes the item at `index` out.
    pub(crate) fn remove(&mut self, index: usize) -> Option<Waiting<C>> {
        let waiting = self.items.remove(index)?;
        self.adjust(waiting.class, |count| count.saturating_sub(1));
        Some(waiting)
    }

    fn adjust(&mut self, class: u8, change: impl FnOnce(usize) -> usize) {
        if let Some(count) = self.counts.get_mut(usize::from(class)) {
            *count = change(*count);
        }
    }

    /// How many items of a class there are.
    pub(crate) fn count(&self, class: u8) -> usize {
        self.counts.get(usize::from(class)).copied().unwrap_or(0)
    }

    /// Puts an item back where its arrival says: before all that came later, which is usually the head.
    pub(crate) fn put_back(&mut self, waiting: Waiting<C>) {
        let at = self.items.partition_point(|other| other.arrival < waiting.arrival);
        let class = waiting.class;
        self.items.insert(at, waiting);
        self.adjust(class, |count| count.saturating_add(1));
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_back_comes_back_to_its_place() {
        let mut queue = Queue::new();
        (0..5).for_each(|item| queue.push(item, 0));
        let taken: Vec<_> = (0..3).filter_map(|_| queue.remove(0)).collect();
        queue.push(5, 0);
        for waiting in taken.into_iter().rev() {
            queue.put_back(waiting);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.remove(0)).map(Waiting::into_item).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}
