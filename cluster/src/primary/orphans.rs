//! Orphans that come to this process, as PID 1 or as the subreaper: they are reaped, or they would be zombies for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster_supervisor::os::{Reaper, become_subreaper};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Result};

/// For how long a dead child is left to whoever may have started it: the application may have children of its own, which look
/// the same from here.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reaps orphans.
#[derive(Debug)]
pub(super) struct Orphans {
    reaper: Reaper,
    dead: Dead,
}

impl Orphans {
    /// `None` if none will come: this is neither PID 1 nor is to be the subreaper.
    pub(super) fn watch(subreaper: bool) -> Result<Option<(Self, Signal)>> {
        // In any case: where the signal is ignored, as whoever started us may have left it, nobody's exit can be had.
        let children = signal(SignalKind::child()).map_err(Error::os("listen for signals"))?;
        if !subreaper && std::process::id() != 1 {
            return Ok(None);
        }
        if subreaper {
            become_subreaper()?;
        }
        let orphans = Self { reaper: Reaper::new(), dead: Dead::default() };
        Ok(Some((orphans, children)))
    }

    /// A child has ended, or it is time. `owned` are those that somebody here waits for.
    pub(super) fn look(&mut self, owned: impl Fn(u32) -> bool, now: Instant) {
        match self.reaper.dead(&owned) {
            Ok(pids) => self.dead.handle_look(&pids, now),
            Err(error) => tracing::warn!(%error, "orphans can't be seen"),
        }
        if !self.dead.is_any_due(now) {
            return;
        }
        match self.reaper.reap(|pid| owned(pid) || !self.dead.is_due(pid, now)) {
            Ok(reaped) => {
                for orphan in reaped {
                    self.dead.forget(orphan.pid);
                    tracing::debug!(pid = orphan.pid, name = ?orphan.name, exit = %orphan.exit, "reaped an orphan");
                }
            }
            Err(error) => tracing::warn!(%error, "orphans can't be reaped"),
        }
        // Those that could not be are looked at again.
        self.dead.handle_tried(now);
    }

    /// When to look again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.dead.poll_timeout()
    }
}

/// Since when who is dead.
#[derive(Debug, Default)]
struct Dead(BTreeMap<u32, Instant>);

impl Dead {
    fn handle_look(&mut self, pids: &[u32], now: Instant) {
        self.0.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            self.0.entry(*pid).or_insert(now);
        }
    }

    fn is_due(&self, pid: u32, now: Instant) -> bool {
        self.0.get(&pid).is_some_and(|since| *since + PATIENCE <= now)
    }

    fn is_any_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|due| due <= now)
    }

    fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }

    /// Whoever was due gets another chance.
    fn handle_tried(&mut self, now: Instant) {
        self.0.values_mut().filter(|since| **since + PATIENCE <= now).for_each(|since| *since = now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().min().map(|since| *since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_dead_for_a_while_is_due() {
        let (now, mut dead) = (Instant::now(), Dead::default());
        dead.handle_look(&[7, 8], now);
        assert!(!dead.is_any_due(now));
        assert_eq!(dead.poll_timeout(), Some(now + PATIENCE));
        let later = now + PATIENCE;
        dead.handle_look(&[8, 9], later);
        assert!(!dead.is_due(7, later), "somebody has reaped it");
        assert!(dead.is_due(8, later) && !dead.is_due(9, later));
        dead.forget(8);
        assert!(!dead.is_any_due(later));
        assert_eq!(dead.poll_timeout(), Some(later + PATIENCE));
    }

    #[test]
    fn who_could_not_be_reaped_does_not_keep_the_loop_busy() {
        let (now, mut dead) = (Instant::now(), Dead::default());
        dead.handle_look(&[7], now);
        let later = now + 2 * PATIENCE;
        assert!(dead.is_any_due(later));
        dead.handle_tried(later);
        assert!(dead.poll_timeout().is_some_and(|due| due > later));
    }
}
