//! What waits for one subscriber, and what it misses.
//!
//! A gap is a number at the message that follows it (or at the end of the queue), not an element of its own: so gaps
//! merge by addition, and take up no room.
//!
//! ```text
//!             first                              last
//!   entries   [2│A]   [0│ ]   [0│ ]   [0│B]   [1│C]   missed_at_end: 3       2, 1, 3: messages missed there
//!   sequence   40      41      42      43      44                            41, 42: replaced since
//!   topics     a ─▶ 40, b ─▶ 43, c ─▶ 44
//! ```

use std::collections::{HashMap, VecDeque};
use std::mem;

use bytes::Bytes;

use super::delivery::{Delivery, Figures};
use super::subscription::{Policy, Subscription};

/// So many vacant entries are always tolerated: short queues are not worth tidying.
const MAX_VACANT: usize = 8;

/// The bounded queue of one subscriber.
#[derive(Debug)]
pub(super) struct Queue {
    subscription: Subscription,
    /// `None` where a message was replaced. The first and the last are never `None`.
    entries: VecDeque<Option<Entry>>,
    /// The sequence number of the first entry. Those of the others follow from their places.
    first: u64,
    /// The sequence number of the queued message of each topic. Only [`Policy::LatestByKey`] keeps topics.
    topics: HashMap<Bytes, u64>,
    missed_at_end: u64,
    shown: Shown,
    figures: Figures,
}

#[derive(Debug)]
struct Entry {
    missed_before: u64,
    topic: Option<Bytes>,
    message: Bytes,
}

/// What the last peek showed, and what has become of it since: the driver may be sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// So many missed messages. The gap may have grown since.
    Gap(u64),
    /// The first entry.
    First,
    /// A message that was dropped since. It is the oldest of those in the gap at the head.
    Dropped,
    /// A message that was replaced since.
    Replaced,
}

/// What became of a message that was offered to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Missed,
    /// There is no room, and this subscriber is to be removed then.
    Overflowed,
}

impl Queue {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            entries: VecDeque::new(),
            first: 0,
            topics: HashMap::new(),
            missed_at_end: 0,
            shown: Shown::Nothing,
            figures: Figures::default(),
        }
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures
    }

    /// Whether there is nothing to send, not even a gap.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.missed_at_end == 0
    }

    /// Whether the publisher has to wait for this subscriber before it publishes `len` bytes.
    pub(super) fn must_wait(&self, len: usize) -> bool {
        self.subscription.policy == Policy::Wait && !self.fits(len)
    }

    fn fits(&self, len: usize) -> bool {
        let Figures { queued_messages, queued_bytes, .. } = self.figures;
        let Subscription { max_messages, max_bytes, .. } = self.subscription;
        queued_messages == 0
            || (queued_messages < max_messages && queued_bytes.saturating_add(len) <= max_bytes)
    }

    pub(super) fn push(&mut self, topic: Option<&Bytes>, message: &Bytes) -> Pushed {
        let topic = topic.filter(|_| self.subscription.policy == Policy::LatestByKey);
        if let Some(topic) = topic {
            self.replace(topic);
        }
        let entry = Entry { missed_before: 0, topic: topic.cloned(), message: message.clone() };
        while !self.fits(entry.len()) {
            match self.subscription.policy {
                Policy::DropOldest | Policy::LatestByKey => self.drop_first(),
                Policy::Disconnect => return Pushed::Overflowed,
                // The hub asks `must_wait` first.
                Policy::Wait | Policy::DropNewest => {
                    self.missed_at_end += 1;
                    self.figures.dropped += 1;
                    return Pushed::Missed;
                }
            }
        }
        self.append(entry);
        Pushed::Queued
    }

    /// What is to be sent next. From now on [`handle_sent`](Self::handle_sent) is about this.
    pub(super) fn peek(&mut self) -> Option<Delivery> {
        let missed = *self.missed_first();
        if missed > 0 {
            self.shown = Shown::Gap(missed);
            return Some(Delivery::Gap { missed });
        }
        let first = self.entries.front()?.as_ref()?;
        self.shown = Shown::First;
        Some(Delivery::Message(first.message.clone()))
    }

    /// Takes note that the subscriber has got what was shown last, whatever has become of that in here meanwhile.
    pub(super) fn handle_sent(&mut self) {
        match mem::replace(&mut self.shown, Shown::Nothing) {
            Shown::Nothing => return,
            Shown::Gap(missed) => {
                *self.missed_first() -= missed;
                return;
            }
            Shown::First => self.remove(0),
            Shown::Dropped => {
                *self.missed_first() -= 1;
                self.figures.dropped -= 1;
            }
            Shown::Replaced => self.figures.replaced -= 1,
        }
        self.figures.delivered += 1;
    }

    /// How many messages are missed before everything that is queued.
    fn missed_first(&mut self) -> &mut u64 {
        match self.entries.front_mut() {
            Some(Some(entry)) => &mut entry.missed_before,
            _ => &mut self.missed_at_end,
        }
    }

    fn append(&mut self, mut entry: Entry) {
        entry.missed_before = mem::take(&mut self.missed_at_end);
        self.figures.queued_messages += 1;
        self.figures.queued_bytes += entry.len();
        if let Some(topic) = &entry.topic {
            self.topics.insert(topic.clone(), self.first + self.entries.len() as u64);
        }
        self.entries.push_back(Some(entry));
    }

    fn drop_first(&mut self) {
        self.remove(0);
        *self.missed_first() += 1;
        self.figures.dropped += 1;
        if self.shown == Shown::First {
            self.shown = Shown::Dropped;
        }
    }

    /// Makes way for a new message of this topic, which the caller is about to append.
    fn replace(&mut self, topic: &Bytes) {
        let Some(&sequence) = self.topics.get(topic) else { return };
        // The numbers of queued messages begin at `first`, and there are no more of them than entries.
        let place = (sequence - self.first) as usize;
        self.remove(place);
        self.figures.replaced += 1;
        if place == 0 && self.shown == Shown::First {
            self.shown = Shown::Replaced;
        }
        if self.entries.len() > 2 * self.figures.queued_messages + MAX_VACANT {
            self.tidy();
        }
    }

    /// Takes the message at this place out. What was missed before it is then missed before the one that follows.
    fn remove(&mut self, place: usize) {
        let Some(entry) = self.entries.get_mut(place).and_then(Option::take) else { return };
        self.figures.queued_messages -= 1;
        self.figures.queued_bytes -= entry.len();
        if let Some(topic) = &entry.topic {
            self.topics.remove(topic);
        }
        while self.entries.pop_front_if(|entry| entry.is_none()).is_some() {
            self.first += 1;
        }
        // Messages are taken from the middle only where gaps are at the head only, so this is never another's gap.
        *self.missed_first() += entry.missed_before;
    }

    /// Closes up. There were more vacant entries than messages, and each came from a replacement of its own: so the
    /// cost per replacement is constant.
    fn tidy(&mut self) {
        self.entries.retain(Option::is_some);
        for (sequence, entry) in (self.first..).zip(self.entries.iter().flatten()) {
            if let Some(place) = entry.topic.as_ref().and_then(|topic| self.topics.get_mut(topic)) {
                *place = sequence;
            }
        }
    }
}

impl Entry {
    /// What it counts for. The topic does too: its length is the publisher's choice as well.
    fn len(&self) -> usize {
        self.message.len() + self.topic.as_ref().map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(policy: Policy, max_messages: usize) -> Queue {
        Queue::new(Subscription::new(policy).max_messages(max_messages).max_bytes(8))
    }

    /// Pushes each word; `topic=value` with a topic.
    fn push(queue: &mut Queue, words: &'static str) -> Vec<Pushed> {
        let push = |word: &'static str| {
            let topic = word.split_once('=').map(|(topic, _)| Bytes::from(topic));
            queue.push(topic.as_ref(), &Bytes::from(word))
        };
        words.split(' ').map(push).collect()
    }

    /// Sends all: words for messages, `(n)` for gaps.
    fn drain(queue: &mut Queue) -> String {
        let mut words = Vec::new();
        while let Some(delivery) = queue.peek() {
            words.push(match delivery {
                Delivery::Message(message) => String::from_utf8(message.to_vec()).unwrap(),
                Delivery::Gap { missed } => format!("({missed})"),
            });
            queue.handle_sent();
        }
        assert!(queue.is_empty());
        words.join(" ")
    }

    #[test]
    fn a_gap_is_reported_where_the_messages_would_have_been() {
        let mut queue = queue(Policy::DropNewest, 2);
        assert_eq!(
            push(&mut queue, "a b c d"),
            [Pushed::Queued, Pushed::Queued, Pushed::Missed, Pushed::Missed]
        );
        assert!(queue.peek().is_some());
        queue.handle_sent();
        push(&mut queue, "e f");
        assert_eq!(drain(&mut queue), "b (2) e (1)", "consecutive misses are one gap, separate ones two");
    }

    #[test]
    fn the_oldest_make_way_and_the_gap_comes_before_the_survivors() {
        let mut queue = queue(Policy::DropOldest, 3);
        push(&mut queue, "a b c d e");
        assert_eq!(drain(&mut queue), "(2) c d e");
        push(&mut queue, "aaaa bbbb cc");
        assert_eq!(drain(&mut queue), "(1) bbbb cc", "bytes count too");
    }

    #[test]
    fn the_latest_value_of_a_topic_comes_last_and_is_no_gap() {
        let mut queue = queue(Policy::LatestByKey, 4);
        queue.subscription.max_bytes = 100;
        push(&mut queue, "x=1 plain y=1 x=2 plain");
        assert_eq!(drain(&mut queue), "plain y=1 x=2 plain", "messages without a topic are never replaced");
        push(&mut queue, "x=1 y=1 z=1 w=1 x=2 v=1");
        assert_eq!(queue.figures().replaced, 2);
        assert_eq!(drain(&mut queue), "(1) z=1 w=1 x=2 v=1", "full of other topics, so the oldest went");
    }

    #[test]
    fn replacing_for_ever_takes_bounded_memory() {
        let mut queue = queue(Policy::LatestByKey, 4);
        queue.subscription.max_bytes = 100;
        push(&mut queue, "head");
        for _ in 0..1_000 {
            push(&mut queue, "x=1 y=1 z=1 y=2 x=2");
            assert!(queue.entries.len() <= 2 * 4 + MAX_VACANT + 1);
        }
        assert_eq!(drain(&mut queue), "head z=1 y=2 x=2");
        assert_eq!((queue.topics.len(), queue.entries.len()), (0, 0));
    }

    #[test]
    fn a_message_above_the_limit_fits_into_an_empty_queue_only() {
        for policy in [Policy::Wait, Policy::DropNewest, Policy::DropOldest, Policy::Disconnect] {
            let mut queue = queue(policy, 0);
            assert_eq!(push(&mut queue, "far-too-long-for-eight-bytes"), [Pushed::Queued], "{policy:?}");
            assert_eq!(queue.must_wait(0), policy == Policy::Wait, "it leaves no room");
            queue.peek();
            queue.handle_sent();
            assert!(!queue.must_wait(usize::MAX));
        }
    }

    #[test]
    fn what_was_pushed_out_while_it_was_sent_counts_as_delivered() {
        let mut queue = queue(Policy::DropOldest, 1);
        push(&mut queue, "a");
        assert!(queue.peek().is_some());
        push(&mut queue, "b c");
        queue.handle_sent();
        assert_eq!((queue.figures().delivered, queue.figures().dropped), (1, 1));
        assert_eq!(queue.peek(), Some(Delivery::Gap { missed: 1 }), "of b only");
        push(&mut queue, "d");
        queue.handle_sent();
        assert_eq!(drain(&mut queue), "(1) d", "of c, which was not dropped yet when the gap was shown");
    }

    #[test]
    fn what_was_replaced_while_it_was_sent_counts_as_delivered() {
        let mut queue = queue(Policy::LatestByKey, 4);
        push(&mut queue, "x=1");
        assert!(queue.peek().is_some());
        push(&mut queue, "x=2");
        queue.handle_sent();
        assert_eq!((queue.figures().delivered, queue.figures().replaced), (1, 0));
        assert_eq!(drain(&mut queue), "x=2");
    }
}
