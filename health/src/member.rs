//! One member: when it was last heard, and how it stands.
//!
//! | state \ input | beat       | silent for suspect_after | silent for dead_after |
//! |---------------|------------|--------------------------|-----------------------|
//! | Well          | -          | Suspect                  | Suspect, then Dead    |
//! | Suspect       | Well     R | -                        | Dead                  |
//! | Dead          | Well     R | -                        | -                     |
//!
//! Entering Suspect and Dead is a verdict of that name; R is the verdict Recovered; - changes nothing.

use std::time::{Duration, Instant};

use crate::{Heartbeat, Liveness, Verdict, VerdictKind};

#[derive(Debug)]
pub(crate) struct Member<K> {
    key: K,
    liveness: Liveness,
    /// The last heartbeat, moved on by the monitor's own stalls. Never in the future.
    heard: Instant,
    counter: Option<u64>,
    /// Whether a stall gave it its grace again since it last changed how it stands.
    graced: bool,
}

impl<K: Copy> Member<K> {
    pub(crate) fn new(key: K, now: Instant) -> Self {
        Self { key, liveness: Liveness::Well, heard: now, counter: None, graced: false }
    }

    pub(crate) fn key(&self) -> K {
        self.key
    }

    pub(crate) fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Ends the silence, which is worth a verdict if it was noticed.
    pub(crate) fn beat(&mut self, heartbeat: &Heartbeat, now: Instant) -> Option<Verdict<K>> {
        let noticed = self.liveness != Liveness::Well;
        let verdict = noticed.then(|| self.verdict(VerdictKind::Recovered, heartbeat, now));
        self.liveness = Liveness::Well;
        self.heard = self.heard.max(now);
        self.graced = false;
        verdict
    }

    /// Whether this reading of its counter proves that it beat. The first one does not: it may be old.
    pub(crate) fn counted(&mut self, value: u64) -> bool {
        let before = self.counter.replace(value);
        before.is_some_and(|before| before != value)
    }

    /// The monitor came late: the time that it missed is not held against the member.
    pub(crate) fn forgive(&mut self, late: Duration, heartbeat: &Heartbeat, now: Instant) {
        let moved = self.heard.checked_add(late).unwrap_or(now);
        let moved = match self.grace_begins(heartbeat, now) {
            // Once per rung: a monitor that is late all the time must still find a member that hangs.
            Some(begins) if moved < begins && !self.graced => {
                self.graced = true;
                begins
            }
            Some(_) | None => moved,
        };
        // Not into the future: it may have beaten during the stall.
        self.heard = self.heard.max(moved.min(now));
    }

    /// The latest beginning of the silence with which the next verdict is as far away as a suspicion
    /// is from a heartbeat.
    ///
    /// Moving by the lateness alone is not enough: a member that was silent almost for too long would be
    /// blamed by the very tick that came late, before it had a chance to beat.
    fn grace_begins(&self, heartbeat: &Heartbeat, now: Instant) -> Option<Instant> {
        let kept = match self.liveness {
            Liveness::Well => Duration::ZERO,
            Liveness::Suspect => heartbeat.dead_after().saturating_sub(heartbeat.suspect_after()),
            Liveness::Dead => return None,
        };
        now.checked_sub(kept)
    }

    /// Steps down by at most one rung. To be called until it returns `None`.
    pub(crate) fn judge(&mut self, heartbeat: &Heartbeat, now: Instant) -> Option<Verdict<K>> {
        let silent_for = self.silent_for(now);
        let (liveness, kind) = match self.liveness {
            Liveness::Well if silent_for >= heartbeat.suspect_after() => {
                (Liveness::Suspect, VerdictKind::Suspect)
            }
            Liveness::Suspect if silent_for >= heartbeat.dead_after() => (Liveness::Dead, VerdictKind::Dead),
            Liveness::Well | Liveness::Suspect | Liveness::Dead => return None,
        };
        self.liveness = liveness;
        self.graced = false;
        Some(self.verdict(kind, heartbeat, now))
    }

    fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    fn verdict(&self, kind: VerdictKind, heartbeat: &Heartbeat, now: Instant) -> Verdict<K> {
        let (silent_for, interval) = (self.silent_for(now), heartbeat.beats_every());
        Verdict { key: self.key, kind, silent_for, since: self.heard, interval }
    }
}
