//! A member that keeps lists and counts them.

use std::time::Duration;

use cluster_balancer::strategy::{Candidate, Figures};
use cluster_balancer::{Classes, Ticket};

use super::{Item, Key};

pub(crate) struct Member {
    pub(crate) key: Key,
    pub(crate) window: u16,
    pub(crate) capacity: u32,
    pub(crate) weight: u32,
    pub(crate) classes: Classes,
    pub(crate) admitted: bool,
    pub(crate) paused: bool,
    pub(crate) healthy: bool,
    pub(crate) draining: bool,
    pub(crate) pending: Vec<Item>,
    pub(crate) flying: Vec<(Ticket, Item)>,
    pub(crate) taken: u64,
    /// What it got by itself.
    pub(crate) elsewhere: u64,
    /// What it reported, cut down to what can be true at the time.
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    /// Items that it was ever handed.
    pub(crate) picked: u64,
    /// What it used, and how much it had outstanding then.
    pub(crate) gauge: Option<(u64, u32)>,
    /// How often it was admitted or resumed.
    pub(crate) stint: u32,
    since: Duration,
}

impl Member {
    pub(crate) fn new(key: Key, since: Duration) -> Self {
        Self {
            key,
            window: 0,
            capacity: 0,
            weight: 1,
            classes: Classes::all(),
            admitted: false,
            paused: false,
            healthy: true,
            draining: false,
            pending: Vec::new(),
            flying: Vec::new(),
            taken: 0,
            elsewhere: 0,
            finished: 0,
            failed: 0,
            picked: 0,
            gauge: None,
            stint: 0,
            since,
        }
    }

    pub(crate) fn takes(&self, class: Option<u8>) -> bool {
        class.is_none_or(|class| self.classes.contains(class))
    }

    /// Gets only what sticks to it.
    pub(crate) fn is_drainer(&self) -> bool {
        self.healthy && self.draining
    }

    pub(crate) fn untaken(&self) -> usize {
        self.pending.len() + self.flying.len()
    }

    pub(crate) fn assigned(&self) -> u64 {
        self.taken + self.elsewhere + self.untaken() as u64
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.assigned().saturating_sub(self.finished).max(self.untaken() as u64)
    }

    pub(crate) fn room(&self) -> usize {
        let mut room = 0;
        let fits = |more: usize| {
            self.untaken() + more < usize::from(self.window)
                && self.outstanding() + (more as u64) < u64::from(self.capacity)
        };
        while self.admitted && !self.paused && fits(room) {
            room += 1;
        }
        room
    }

    pub(crate) fn candidate(&self) -> Candidate {
        let mut candidate = Candidate::new(self.outstanding() as u32, self.weight).taking(self.classes);
        if !self.healthy {
            candidate = candidate.unhealthy();
        }
        if self.draining {
            candidate = candidate.draining();
        }
        if !self.admitted {
            return candidate.withdrawn();
        }
        if self.room() > 0 { candidate } else { candidate.ineligible() }
    }

    pub(crate) fn figures(&self) -> Figures {
        let figures = Figures::new(u64::from(self.key)).admitted(self.since);
        self.gauge.map_or(figures, |(used, outstanding)| figures.gauge(used, outstanding))
    }

    /// What it can't have finished it hasn't, whatever it reported.
    pub(crate) fn clamp(&mut self) {
        self.finished = self.finished.min(self.assigned());
    }
}
