//! Carries out what a [`Control`](super::Control) orders, and says when a runner has come to its end.

use super::control::Line;
use super::mailbox::Order;
use super::{Runner, now};
use crate::SlotView;
use crate::os::Stop;

impl Runner {
    /// Carries out all orders that have come, and those that waited for somebody's end.
    pub(super) fn take_orders(&mut self) {
        let Some(line) = &self.line else { return };
        let (orders, stop) = line.take();
        for (slot, order) in orders {
            match order {
                Order::Start => self.start(slot),
                Order::Stop => self.stop(slot),
                Order::Restart => self.restart(slot),
            }
        }
        if let Some(stop) = stop {
            self.shut_down(stop);
        }
        self.start_those_to_come();
    }

    fn start(&mut self, slot: u32) {
        self.parked.remove(&slot);
        self.again.insert(slot);
        // At once, so that a stop behind this finds somebody to stop.
        self.start_those_to_come();
    }

    fn stop(&mut self, slot: u32) {
        let was_to_come = self.again.remove(&slot);
        let Some(view) = self.view(slot) else { return };
        if view.is_wanted() || was_to_come {
            self.parked.insert(slot);
        }
        self.supervisor.stop(view.newest(), now());
    }

    fn restart(&mut self, slot: u32) {
        match self.view(slot).filter(SlotView::is_wanted).and_then(|view| view.current()) {
            Some(id) => self.supervisor.replace(id, now()),
            None => self.start(slot),
        }
    }

    /// Starts those where nobody lives any more. Whoever is wanted comes, or is there, without us.
    fn start_those_to_come(&mut self) {
        for slot in std::mem::take(&mut self.again) {
            let has_started = self.supervisor.start_again(slot, now()).is_some();
            if !has_started && self.view(slot).is_some_and(|view| !view.is_wanted()) {
                self.again.insert(slot);
            }
        }
    }

    fn view(&self, slot: u32) -> Option<SlotView> {
        self.supervisor.slots().find(|view| view.slot() == slot)
    }

    /// Ends all services, for whatever reason. Nothing begins any more.
    pub(super) fn shut_down(&mut self, stop: Stop) {
        self.again.clear();
        self.parked.clear();
        if let Some(line) = &self.line {
            line.mailbox().close();
        }
        match stop {
            Stop::Graceful => self.supervisor.shutdown(now()),
            Stop::Now => self.supervisor.shutdown_now(now()),
        }
    }

    /// Whether nothing is left to do, and nothing will come. If so, orders are refused from now on.
    pub(super) fn is_over(&self) -> bool {
        let is_done = self.supervisor.is_done() && self.again.is_empty();
        let may_end = |line: &Line| line.mailbox().try_end(!self.parked.is_empty());
        is_done && self.line.as_deref().is_none_or(may_end)
    }

    /// Refuses all orders, whatever was the end.
    pub(super) fn end_orders(&mut self) {
        self.again.clear();
        self.parked.clear();
        if let Some(line) = &self.line {
            line.mailbox().end();
        }
    }
}
