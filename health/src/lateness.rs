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

    /// Takes a tick, announces the next one, and returns by how much this one was too late: zero up to
    /// one tick's length. An early one changes nothing, so that looking more often is free.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let Some(due) = self.due.filter(|due| *due <= now) else { return Duration::ZERO };
        self.announce(now);
        let late = now.saturating_duration_since(due);
        if late > self.tick { late } else { Duration::ZERO }
    }

    fn announce(&mut self, now: Instant) {
        // No such instant: an interval of ages. Nothing can become due, then.
        self.due = now.checked_add(self.tick);
    }
}
