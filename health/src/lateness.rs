//! When the monitor ticks, and whether it was late itself.

use std::time::{Duration, Instant};

/// The announced tick. Whoever comes much later than that can't tell the silence of others from its own.
#[derive(Debug)]
pub(crate) struct Lateness {
    tick: Duration,
    due: Option<Instant>,
}

impl Lateness {
    pub(crate) fn new(tick: Duration) -> Self {
        Self { tick, due: None }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Starts ticking unless it ticks already.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.due.is_none() {
            self.announce(now);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.due = None;
    }

    /// By how much the announced tick is too late, if it is: more than one tick's length. Nobody is told of this lateness again.
    pub(crate) fn take_stall(&mut self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.due?);
        let is_stall = late > self.tick;
        if is_stall {
            self.announce(now);
        }
        is_stall.then_some(late)
    }

    /// Takes a tick, and announces the next one. An early one changes nothing, so that looking more often is free.
    pub(crate) fn take(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.announce(now);
        }
    }

    fn announce(&mut self, now: Instant) {
        // No such instant: an interval of ages. Nothing can become due, then.
        self.due = now.checked_add(self.tick);
    }
}
