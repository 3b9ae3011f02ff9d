//! What the drivers of a hub have in common: one pump per subscriber carries its queue to its connection. `W` wakes
//! somebody who waits.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Delivery, Figures, Full, Hub, Published, Subscription};

/// A subscriber of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(u64);

#[derive(Debug)]
pub(crate) struct Pumps<W> {
    hub: Hub<SubscriberId>,
    subscribed: u64,
    waiting: HashMap<SubscriberId, W>,
    publishers: Vec<W>,
    /// Too slow for their policy: their connections are to be closed.
    cut: HashSet<SubscriberId>,
    /// How many may still publish.
    pub(crate) handles: usize,
}

/// What a pump does next.
#[derive(Debug)]
pub(crate) enum Turn {
    Send(Delivery),
    Wait,
    /// There will be nothing more.
    Stop,
    /// Close the connection.
    Cut,
}

impl<W> Pumps<W> {
    pub(crate) fn new() -> Self {
        let hub = Hub::new();
        Self {
            hub,
            subscribed: 0,
            waiting: HashMap::new(),
            publishers: Vec::new(),
            cut: HashSet::new(),
            handles: 1,
        }
    }

    pub(crate) fn subscribe(&mut self, subscription: Subscription) -> SubscriberId {
        self.subscribed += 1;
        let id = SubscriberId(self.subscribed);
        self.hub.subscribe(id, subscription);
        id
    }

    /// Also called by a pump whose connection has ended.
    pub(crate) fn unsubscribe(&mut self, id: SubscriberId, mut wake: impl FnMut(W)) -> bool {
        let was = self.hub.unsubscribe(id);
        self.cut.remove(&id);
        self.waiting.remove(&id).into_iter().chain(self.publishers.drain(..)).for_each(&mut wake);
        was
    }

    pub(crate) fn publish(
        &mut self,
        topic: Option<Bytes>,
        message: Bytes,
        mut wake: impl FnMut(W),
    ) -> Result<Published, Full> {
        let published = match topic {
            Some(topic) => self.hub.publish_keyed(topic, message),
            None => self.hub.publish(message),
        };
        while let Some(id) = self.hub.poll_disconnected() {
            self.cut.insert(id);
            self.waiting.remove(&id).into_iter().for_each(&mut wake);
        }
        while let Some(id) = self.hub.poll_ready() {
            self.waiting.remove(&id).into_iter().for_each(&mut wake);
        }
        published
    }

    pub(crate) fn wait_to_publish(&mut self, publisher: W) {
        self.publishers.push(publisher);
    }

    pub(crate) fn next(&mut self, id: SubscriberId) -> Turn {
        if self.cut.remove(&id) {
            return Turn::Cut;
        }
        if !self.hub.contains(id) {
            return Turn::Stop;
        }
        match self.hub.peek(id) {
            Some(delivery) => Turn::Send(delivery),
            None if self.handles == 0 => Turn::Stop,
            None => Turn::Wait,
        }
    }

    /// Whether a pump should give up what it is sending.
    pub(crate) fn is_over(&self, id: SubscriberId) -> bool {
        !self.hub.contains(id)
    }

    pub(crate) fn wait(&mut self, id: SubscriberId, pump: W) {
        self.waiting.insert(id, pump);
    }

    pub(crate) fn handle_sent(&mut self, id: SubscriberId, wake: impl FnMut(W)) {
        self.hub.handle_sent(id);
        self.publishers.drain(..).for_each(wake);
    }

    /// The last who could publish is gone: pumps stop when their queues are empty.
    pub(crate) fn remove_handle(&mut self, wake: impl FnMut(W)) {
        self.handles -= 1;
        if self.handles == 0 {
            self.waiting.drain().map(|(_, pump)| pump).for_each(wake);
        }
    }

    pub(crate) fn figures(&self, id: SubscriberId) -> Option<Figures> {
        self.hub.figures(id)
    }
}
