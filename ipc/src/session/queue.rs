//! Events on their way to the application.

use std::collections::VecDeque;

use super::event::Event;
use super::message::Incoming;

/// A queue in two parts: what arrived for the application, and everything else. Taken together they come in the
/// order in which they happened; a driver with several takers takes them apart, so that an answer needn't wait
/// for somebody to take the messages before it.
#[derive(Debug)]
pub(super) struct Queue<F> {
    arrivals: VecDeque<Entry<F>>,
    signals: VecDeque<Entry<F>>,
    pushed: u64,
}

type Entry<F> = (u64, Event<Incoming<F>, F>);

/// Arrivals taken out of a session.
#[derive(Debug)]
pub(crate) struct Arrivals<F>(VecDeque<Entry<F>>);

impl<F> Default for Arrivals<F> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<F> Iterator for Arrivals<F> {
    type Item = Event<Incoming<F>, F>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(|(_, event)| event)
    }
}

impl<F> Arrivals<F> {
    /// The next, if it is a message.
    pub(crate) fn next_message(&mut self) -> Option<Incoming<F>> {
        if !matches!(self.0.front(), Some((_, Event::Message(_)))) {
            return None;
        }
        match self.0.pop_front() {
            Some((_, Event::Message(message))) => Some(message),
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<F> Queue<F> {
    pub(super) fn new() -> Self {
        Self { arrivals: VecDeque::new(), signals: VecDeque::new(), pushed: 0 }
    }

    pub(super) fn push(&mut self, event: Event<Incoming<F>, F>) {
        self.pushed += 1;
        let queue = if event.is_arrival() { &mut self.arrivals } else { &mut self.signals };
        queue.push_back((self.pushed, event));
    }

    pub(super) fn push_message(&mut self, message: Incoming<F>) {
        self.pushed += 1;
        self.arrivals.push_back((self.pushed, Event::Message(message)));
    }

    /// Adds to the gap that was reported last, if nothing has arrived since.
    pub(super) fn widen_gap(&mut self, more: u64) -> bool {
        match self.arrivals.back_mut() {
            Some((_, Event::Gap { missed })) => {
                *missed = missed.saturating_add(more);
                true
            }
            _ => false,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Event<Incoming<F>, F>> {
        match (self.arrivals.front(), self.signals.front()) {
            (Some((arrival, _)), Some((signal, _))) if signal < arrival => self.pop_signal(),
            (None, _) => self.pop_signal(),
            _ => self.pop_arrival(),
        }
    }

    /// Takes all arrivals at once, in exchange for an empty queue whose memory is used again.
    pub(super) fn swap_arrivals(&mut self, empty: &mut Arrivals<F>) {
        debug_assert!(empty.0.is_empty());
        std::mem::swap(&mut self.arrivals, &mut empty.0);
    }

    fn pop_arrival(&mut self) -> Option<Event<Incoming<F>, F>> {
        self.arrivals.pop_front().map(|(_, event)| event)
    }

    pub(super) fn pop_signal(&mut self) -> Option<Event<Incoming<F>, F>> {
        self.signals.pop_front().map(|(_, event)| event)
    }

    /// The number of the last arrival: it changes when there is a new one.
    pub(super) fn last_arrival(&self) -> Option<u64> {
        self.arrivals.back().map(|(number, _)| *number)
    }
}
