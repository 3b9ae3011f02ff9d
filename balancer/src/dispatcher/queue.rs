//! The one queue of items that no member has, in order of arrival.

use std::collections::VecDeque;
use std::time::Duration;

use super::ticket::Arrival;
use crate::Request;

/// An item with its place in the order of arrival. The place stays with the item on its way to a member,
/// so that it can come back to it.
pub(super) struct Waiting<K, C> {
    arrival: Arrival,
    /// What it was offered for, and when.
    request: Request,
    /// By whom, mostly nobody.
    refusals: Vec<Refusal<K>>,
    item: C,
}

/// A member does not want an item. This holds until it is admitted or resumed, which is when it gets another stint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal<K> {
    pub(super) key: K,
    pub(super) stint: u32,
}

impl<K: Copy + PartialEq, C> Waiting<K, C> {
    pub(super) fn request(&self) -> Request {
        self.request
    }

    pub(super) fn refusals(&self) -> &[Refusal<K>] {
        &self.refusals
    }

    /// Notes a refusal, and forgets those that no longer hold.
    pub(super) fn refuse(&mut self, refusal: Refusal<K>, holds: impl Fn(&Refusal<K>) -> bool) {
        self.refusals.retain(|other| other.key != refusal.key && holds(other));
        self.refusals.push(refusal);
    }

    pub(super) fn item(&self) -> &C {
        &self.item
    }

    pub(super) fn into_item(self) -> C {
        self.item
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// When it arrived.
    fn since(&self) -> Duration {
        self.request.time()
    }
}

/// Sorted by arrival, always; so by time, too.
type Sorted<K, C> = VecDeque<Waiting<K, C>>;

/// What waits, of each class apart: when one item finds no place, those behind it of the same class need not be asked.
pub(super) struct Queue<K, C> {
    /// Of each class of which something has waited, at most 65 with the items that have none.
    lanes: Vec<Lane<K, C>>,
    /// Items that somebody has refused: each may go elsewhere than others of its class.
    refused: Sorted<K, C>,
    next_arrival: u64,
}

struct Lane<K, C> {
    class: Option<u8>,
    items: Sorted<K, C>,
}

/// Where an item is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// Of a lane, so far from its head.
    Lane(usize, usize),
    /// Of the refused ones.
    Refused(usize),
}

/// Which items have been asked for in vain, on a walk through the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// A bit for each lane.
    stuck: u128,
    refused: usize,
}

impl Walk {
    /// The item there finds no place, nor do those behind it in its lane.
    pub(super) fn skip(&mut self, spot: Spot) {
        match spot {
            Spot::Lane(lane, _) => self.stuck |= 1 << lane,
            Spot::Refused(_) => self.refused += 1,
        }
    }
}

impl<K: Copy + PartialEq, C> Queue<K, C> {
    pub(super) fn new() -> Self {
        Self { lanes: Vec::new(), refused: VecDeque::new(), next_arrival: 0 }
    }

    /// A new item, behind all others.
    pub(super) fn push(&mut self, item: C, request: Request) -> Arrival {
        let arrival = Arrival(self.next_arrival);
        self.next_arrival += 1;
        self.put_back(Waiting { arrival, request, refusals: Vec::new(), item });
        arrival
    }

    /// Puts an item where its arrival says: before all that came later, which is usually the head.
    pub(super) fn put_back(&mut self, waiting: Waiting<K, C>) {
        let items = if waiting.refusals.is_empty() {
            let class = waiting.request.of_class();
            let index = self.lanes.iter().position(|lane| lane.class == class).unwrap_or_else(|| {
                self.lanes.push(Lane { class, items: VecDeque::new() });
                self.lanes.len() - 1
            });
            self.lanes.get_mut(index).map(|lane| &mut lane.items)
        } else {
            Some(&mut self.refused)
        };
        // There is such a lane: it was found or made above.
        if let Some(items) = items {
            let at = items.partition_point(|other| other.arrival < waiting.arrival);
            items.insert(at, waiting);
        }
    }

    /// The oldest item that the walk has not been to.
    pub(super) fn next(&self, walk: &Walk) -> Option<Spot> {
        let heads = self.lanes.iter().enumerate().filter(|(index, _)| walk.stuck & 1 << *index == 0);
        let heads =
            heads.filter_map(|(index, lane)| Some((lane.items.front()?.arrival, Spot::Lane(index, 0))));
        let refused = self.refused.get(walk.refused);
        let refused = refused.map(|waiting| (waiting.arrival, Spot::Refused(walk.refused)));
        heads.chain(refused).min_by_key(|(arrival, _)| *arrival).map(|(_, spot)| spot)
    }

    pub(super) fn get(&self, spot: Spot) -> Option<&Waiting<K, C>> {
        match spot {
            Spot::Lane(lane, index) => self.lanes.get(lane)?.items.get(index),
            Spot::Refused(index) => self.refused.get(index),
        }
    }

    pub(super) fn remove(&mut self, spot: Spot) -> Option<Waiting<K, C>> {
        match spot {
            Spot::Lane(lane, index) => self.lanes.get_mut(lane)?.items.remove(index),
            Spot::Refused(index) => self.refused.remove(index),
        }
    }

    /// The one that arrived then, if it waits here.
    pub(super) fn take(&mut self, arrival: Arrival) -> Option<Waiting<K, C>> {
        let queues = self.lanes.iter_mut().map(|lane| &mut lane.items).chain([&mut self.refused]);
        queues.into_iter().find_map(|items| {
            let at = items.binary_search_by_key(&arrival, Waiting::arrival).ok()?;
            items.remove(at)
        })
    }

    /// The next item with a key that nobody has refused, from this lane and index on.
    pub(super) fn next_keyed(&self, lane: usize, index: usize) -> Option<(usize, usize)> {
        let found = |at: usize, from: usize| {
            let items = &self.lanes.get(at)?.items;
            let keyed = items.iter().skip(from).position(|waiting| waiting.request.has_key())?;
            Some((at, from + keyed))
        };
        found(lane, index).or_else(|| (lane + 1..self.lanes.len()).find_map(|at| found(at, 0)))
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.items.len()).sum::<usize>() + self.refused.len()
    }

    /// How many somebody has refused.
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// How many others there are of each class.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Option<u8>, usize)> {
        self.lanes.iter().map(|lane| (lane.class, lane.items.len()))
    }

    /// When the oldest arrived.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let heads = self.lanes.iter().filter_map(|lane| lane.items.front());
        heads.chain(self.refused.front()).map(Waiting::since).min()
    }

    /// All of a class.
    pub(super) fn remove_class(&mut self, class: u8) -> Vec<C> {
        let class = Some(class);
        let lane = self.lanes.iter_mut().find(|lane| lane.class == class);
        let mut removed: Vec<_> = lane.into_iter().flat_map(|lane| lane.items.drain(..)).collect();
        let (refused, rest) = std::mem::take(&mut self.refused)
            .into_iter()
            .partition(|waiting| waiting.request.of_class() == class);
        self.refused = rest;
        removed.extend::<Sorted<K, C>>(refused);
        removed.into_iter().map(Waiting::into_item).collect()
    }

    /// The oldest for which `is_stuck`, of those that arrived no later than `by`.
    pub(super) fn remove_overdue(
        &mut self,
        by: Duration,
        is_stuck: impl Fn(&Waiting<K, C>) -> bool,
    ) -> Option<Waiting<K, C>> {
        let lanes = (0..self.lanes.len()).map(|lane| Spot::Lane(lane, 0));
        let refused = (0..self.refused.len()).map(Spot::Refused);
        let overdue = lanes.chain(refused).filter_map(|spot| {
            let waiting = self.get(spot)?;
            (waiting.since() <= by && is_stuck(waiting)).then_some((waiting.arrival, spot))
        });
        let (_, spot) = overdue.min_by_key(|(arrival, _)| *arrival)?;
        self.remove(spot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_removed_with_what_was_refused_of_it() {
        let mut queue: Queue<(), _> = Queue::new();
        for item in 0..6 {
            queue.push(item, Request::new().class(item % 2));
        }
        let mut refused = queue.remove(Spot::Lane(1, 0)).unwrap();
        refused.refuse(Refusal { key: (), stint: 0 }, |_| true);
        queue.put_back(refused);
        assert_eq!(queue.remove_class(1), [3, 5, 1]);
        assert_eq!((queue.len(), queue.remove_class(1), queue.remove_class(9)), (3, vec![], vec![]));
    }

    #[test]
    fn whatever_comes_back_comes_back_to_its_place() {
        let mut queue: Queue<(), _> = Queue::new();
        let class = |item| Request::new().class(item % 2);
        for item in 0..5 {
            queue.push(item, class(item));
        }
        let next = |queue: &mut Queue<(), u8>| queue.remove(queue.next(&Walk::default())?);
        let mut taken: Vec<_> = (0..3).filter_map(|_| next(&mut queue)).collect();
        queue.push(5, class(5));
        taken[1].refuse(Refusal { key: (), stint: 0 }, |_| true);
        for waiting in taken.into_iter().rev() {
            queue.put_back(waiting);
        }
        assert_eq!((queue.len(), queue.refused()), (6, 1));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue)).map(Waiting::into_item).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}
