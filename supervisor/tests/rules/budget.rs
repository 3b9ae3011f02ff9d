//! Who may be restarted how often, counted from what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_supervisor::{
    Event, Exit, ExitCause, GiveUpReason, GivenUp, Release, Restart, Supervisor, WorkerId,
};

use super::{HOPELESS, is_done};

/// The restarts of one slot on a clock of its own, which runs while a worker of it is ready, and is read when that one has ended or was
/// replaced. That is the definition of the budget's period.
#[derive(Debug, Default)]
struct Clock {
    /// What it runs, once somebody was spawned there that was not on trial.
    release: Option<Release>,
    served: Duration,
    /// A worker exited, so the next spawn is a restart.
    owes_restart: bool,
    restarts: Vec<Duration>,
}

impl Clock {
    fn recent(&self, period: Duration) -> u32 {
        self.restarts.iter().filter(|&&at| self.served - at < period).map(|_| 1).sum()
    }

    /// What one program did is not held against another.
    fn runs(&mut self, release: Release) {
        if self.release.is_some_and(|before| before != release) {
            *self = Self::default();
        }
        self.release = Some(release);
    }
}

/// What an exit counts as.
#[derive(Clone, Copy, Debug)]
enum Counts {
    /// Its service counts, and nothing else.
    Service,
    /// If somebody is spawned now, that is a restart.
    Restart,
    /// Its successor, of the same release, was on its way. Unless it was asked to end, that is a restart.
    IfCrashed,
}

#[derive(Debug)]
pub(super) struct Budgets {
    budget: Option<(u32, Duration)>,
    restart: Restart,
    slots: BTreeMap<u32, Clock>,
    /// Who has ended, until it is told; and how long it had been ready.
    ended: BTreeMap<WorkerId, (Counts, Duration)>,
}

impl Budgets {
    pub(super) fn new(budget: Option<(u32, Duration)>, restart: Restart) -> Self {
        Self { budget, restart, slots: BTreeMap::new(), ended: BTreeMap::new() }
    }

    /// The user starts the slot, or a roll gives it another chance.
    pub(super) fn start(&mut self, slot: u32) {
        self.slots.insert(slot, Clock::default());
    }

    /// A process has ended, of which the supervisor has not heard.
    pub(super) fn exited(&mut self, id: WorkerId, ready_for: Duration, supervisor: &Supervisor) {
        let Some(view) = supervisor.slots().find(|view| view.slot() == id.slot()) else { return };
        let release_of = |id| supervisor.worker(id).map(|worker| worker.release());
        let is_same = |id| release_of(id) == Some(view.release());
        let counts = match view.successor() {
            // Counted when it was replaced, or never the slot's.
            _ if view.newest() != id => return,
            _ if view.is_restarting() => Counts::Service,
            None if view.is_replacing() => Counts::Service,
            Some(successor) if successor != id && is_same(successor) => Counts::IfCrashed,
            Some(successor) if successor != id => Counts::Service,
            // A failed successor of another release says nothing of the one that comes back, be it on trial or recalled.
            Some(_) | None if !is_same(id) => return,
            Some(_) | None => Counts::Restart,
        };
        self.ended.insert(id, (counts, ready_for));
    }

    /// `serves` is how long a worker has been ready.
    pub(super) fn event(
        &mut self,
        event: &Event,
        release_of: impl Fn(WorkerId) -> Release,
        serves: impl Fn(WorkerId) -> Duration,
    ) {
        match event {
            Event::Exited { id, exit, cause, .. } => {
                let Some((counts, ready_for)) = self.ended.remove(id) else { return };
                let clock = self.slots.entry(id.slot()).or_default();
                clock.served += ready_for;
                match counts {
                    Counts::Service => {}
                    // Whoever leaves by itself has not failed.
                    _ if *cause == ExitCause::Left => {}
                    Counts::Restart => clock.owes_restart = true,
                    Counts::IfCrashed => {
                        let has_room = self.budget.is_none_or(|(limit, period)| clock.recent(period) < limit);
                        let is_done = is_done(self.restart, *exit);
                        if has_room && !cause.is_asked() && !is_done {
                            clock.restarts.push(clock.served);
                        }
                    }
                }
            }
            Event::Replaced { old, new, .. } => {
                let clock = self.slots.entry(new.slot()).or_default();
                let alone = old.map(|old| serves(old).saturating_sub(serves(*new)));
                clock.served += alone.unwrap_or_default();
                clock.runs(release_of(*new));
            }
            Event::GaveUp(given_up) => self.gave_up(given_up),
            _ => {}
        }
    }

    fn gave_up(&mut self, given_up: &GivenUp) {
        let clock = self.slots.entry(given_up.slot()).or_default();
        // Whoever is spawned there now was a successor on its way, which is recalled.
        clock.owes_restart = false;
        match given_up.reason() {
            GiveUpReason::Budget { failures, .. } => {
                let Some((limit, period)) = self.budget else { panic!("{given_up}, without a limit") };
                assert_eq!(clock.recent(period), limit, "given up with budget left");
                assert_eq!(failures, limit + 1);
            }
            _ => assert_eq!(given_up.exit(), Exit::Code(HOPELESS.into())),
        }
    }

    /// A worker is spawned, perhaps as a successor on trial.
    pub(super) fn spawn(&mut self, id: WorkerId, release: Release, on_trial: bool) {
        let clock = self.slots.entry(id.slot()).or_default();
        if !on_trial {
            clock.runs(release);
        }
        if std::mem::take(&mut clock.owes_restart) {
            clock.restarts.push(clock.served);
            if let Some((limit, period)) = self.budget {
                let recent = clock.recent(period);
                assert!(recent <= limit, "{recent} restarts of slot {} in {period:?}", id.slot());
            }
        }
    }
}
