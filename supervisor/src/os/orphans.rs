//! Orphans that are left for a while to whoever may have started them, and then reaped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Error, Orphan, Reaper};

/// For how long a dead child is left to others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reaps children of this process that nobody waits for: those that came to it as PID 1, or as a
/// [subreaper](super::become_subreaper).
///
/// A program may have children of its own in other threads, which look the same from here. So a child that has ended is left alone for a
/// second, in which whoever waits for it reaps it.
///
/// [`look`](Self::look) whenever `SIGCHLD` has come, once at the start, and when [`poll_timeout`](Self::poll_timeout) says so.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Instant;
/// use cluster_supervisor::os::Orphans;
///
/// let mut orphans = Orphans::new();
/// for orphan in orphans.look(|_pid| false, Instant::now())? {
///     println!("orphan {} ({:?}) {}", orphan.pid, orphan.name, orphan.exit);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Orphans {
    reaper: Reaper,
    dead: Dead,
}

impl Orphans {
    /// Nobody is known to be dead.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reaps those that have been dead for a second. `owned` are the pids that somebody here waits for, however long: see [`Reaper`].
    ///
    /// # Errors
    ///
    /// Those of [`Reaper::reap`]. It is tried again a second later.
    pub fn look(&mut self, owned: impl Fn(u32) -> bool, now: Instant) -> Result<Vec<Orphan>, Error> {
        self.dead.handle_look(&self.reaper.dead(&owned)?, now);
        if !self.dead.is_any_due(now) {
            return Ok(Vec::new());
        }
        let reaped = self.reaper.reap(|pid| owned(pid) || !self.dead.is_due(pid, now));
        for orphan in reaped.iter().flatten() {
            self.dead.forget(orphan.pid);
        }
        // Those that could not be are looked at again.
        self.dead.handle_tried(now);
        reaped
    }

    /// When to look again, if somebody is dead.
    pub fn poll_timeout(&self) -> Option<Instant> {
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
#[allow(clippy::disallowed_methods, reason = "tests need one instant to count from")]
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
