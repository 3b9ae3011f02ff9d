//! What must always hold, kept as a naive model beside the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster_supervisor::{Action, Event, Exit, StopSignal, Supervisor, WorkerId, WorkerState};

use super::machine::Settings;

/// What the driver knows of one life.
#[derive(Debug, Default)]
struct Life {
    is_spawned: bool,
    is_admitted: bool,
    /// Withdrawn, asked, terminated and killed happen at most once each, and in this order.
    progress: Option<Progress>,
    exit: Option<Exit>,
    has_failed_to_spawn: bool,
    exit_events: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Withdrawn,
    Asked,
    Terminated,
    Killed,
}

/// The restarts of one slot on a clock of its own that runs while its worker is ready. That is the definition of the
/// budget's period.
#[derive(Debug, Default)]
struct SlotClock {
    served: Duration,
    ready_since: Option<Instant>,
    /// A worker exited, so the next spawn is a restart.
    owes_restart: bool,
    restarts: Vec<Duration>,
    wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Rules {
    budget: Option<(u32, Duration)>,
    lives: BTreeMap<WorkerId, Life>,
    /// Those of the lives that have neither ended nor failed to begin.
    living: BTreeSet<WorkerId>,
    slots: BTreeMap<u32, SlotClock>,
    /// The last id of each slot.
    newest: BTreeMap<u32, u32>,
    /// What was met on the way, to show that the simulation reaches it.
    pub(crate) met: BTreeSet<String>,
}

impl Rules {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            budget: settings.budget,
            lives: BTreeMap::new(),
            living: BTreeSet::new(),
            slots: BTreeMap::new(),
            newest: BTreeMap::new(),
            met: BTreeSet::new(),
        }
    }

    pub(crate) fn started(&mut self, id: WorkerId) {
        let taken: BTreeSet<u32> = self
            .alive()
            .chain(self.slots.iter().filter(|(_, slot)| slot.wanted).map(|(slot, _)| *slot))
            .collect();
        let lowest = (0..).find(|slot| !taken.contains(slot));
        assert_eq!(Some(id.slot()), lowest, "a start takes the lowest slot that is neither alive nor wanted");
        let slot = self.slots.entry(id.slot()).or_default();
        *slot = SlotClock { wanted: true, ..SlotClock::default() };
    }

    pub(crate) fn stopped(&mut self, id: WorkerId) {
        if self.newest.get(&id.slot()) == Some(&id.generation())
            && let Some(slot) = self.slots.get_mut(&id.slot())
        {
            slot.wanted = false;
        }
    }

    pub(crate) fn shut_down(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.wanted = false);
    }

    pub(crate) fn spawned(&mut self, id: WorkerId) {
        self.life(id).is_spawned = true;
    }

    pub(crate) fn spawn_failed(&mut self, id: WorkerId) {
        self.life(id).has_failed_to_spawn = true;
        self.living.remove(&id);
    }

    pub(crate) fn exited(&mut self, id: WorkerId, exit: Exit) {
        self.life(id).exit = Some(exit);
        self.living.remove(&id);
        if let Some(slot) = self.slots.get_mut(&id.slot()) {
            slot.owes_restart = true;
        }
    }

    pub(crate) fn has_ended(&self, id: WorkerId) -> bool {
        self.lives.get(&id).is_some_and(Life::has_ended)
    }

    /// Whether nothing lives and nobody is admitted.
    pub(crate) fn assert_quiet(&self) {
        for (id, life) in &self.lives {
            assert!(life.has_ended(), "{id} lives on");
            assert!(!life.is_admitted, "{id} was never withdrawn");
            assert_eq!(life.exit_events, u32::from(life.exit.is_some()), "one Exited for each process, {id}");
        }
    }

    pub(crate) fn action(&mut self, action: Action, now: Instant) {
        let id = action.id();
        if action == Action::Spawn(id) {
            return self.spawn(id);
        }
        self.turn_clock(action, now);
        let life = self.life(id);
        assert!(life.is_spawned, "{action:?} before the spawn was answered");
        let is_late_withdraw = action == Action::Withdraw(id) && life.is_admitted;
        assert!(life.exit.is_none() || is_late_withdraw, "{action:?} for a worker that has exited");
        let progress = match action {
            Action::Spawn(_) => None,
            Action::Admit(_) => {
                assert_eq!(life.progress, None, "admitted once and not on the way out");
                assert!(!life.is_admitted);
                life.is_admitted = true;
                None
            }
            Action::Withdraw(_) => {
                assert!(life.is_admitted, "withdrawn without being admitted");
                life.is_admitted = false;
                Some(Progress::Withdrawn)
            }
            Action::AskStop(_) => Some(Progress::Asked),
            Action::Signal(_, StopSignal::Term) => Some(Progress::Terminated),
            Action::Signal(_, StopSignal::Kill) => Some(Progress::Killed),
        };
        assert!(!life.is_admitted || progress.is_none(), "{action:?} before the withdraw");
        assert!(progress.is_none() || progress > life.progress, "{action:?} after {:?}", life.progress);
        life.progress = progress.or(life.progress);
    }

    fn spawn(&mut self, id: WorkerId) {
        assert!(!self.alive().any(|slot| slot == id.slot()), "two workers in slot {}", id.slot());
        let newest = self.newest.insert(id.slot(), id.generation()).unwrap_or(0);
        assert_eq!(id.generation(), newest + 1, "generations count up without repeating");
        self.lives.insert(id, Life::default());
        self.living.insert(id);

        let budget = self.budget;
        let slot = self.slots.entry(id.slot()).or_default();
        assert!(slot.wanted, "{id} is spawned and not wanted");
        if std::mem::take(&mut slot.owes_restart) {
            let served = slot.served;
            slot.restarts.push(served);
            if let Some((limit, period)) = budget {
                let recent = slot.restarts.iter().filter(|&&at| served - at < period).count();
                assert!(recent <= limit as usize, "{recent} restarts of slot {} in {period:?}", id.slot());
            }
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Exited { id, exit, cause, .. } => {
                self.met.insert(format!("{cause:?}"));
                let life = self.life(*id);
                life.exit_events += 1;
                assert_eq!((life.exit, life.exit_events), (Some(*exit), 1));
            }
            Event::GaveUp { slot, failures, .. } => {
                self.met.insert("GaveUp".to_owned());
                let slot = self.slots.get_mut(slot).unwrap_or_else(|| panic!("{event} of an unknown slot"));
                slot.wanted = false;
                let (limit, period) = self.budget.unwrap_or_default();
                let recent = slot.restarts.iter().filter(|&&at| slot.served - at < period).count();
                assert_eq!(recent, limit as usize, "given up with budget left");
                assert_eq!(*failures, limit + 1);
            }
            Event::SpawnFailed { retry_in, .. } => {
                self.met.insert(format!("SpawnFailed, again: {}", retry_in.is_some()));
            }
            Event::BackingOff { .. } => {
                self.met.insert("BackingOff".to_owned());
            }
            _ => {}
        }
    }

    /// Compares what the supervisor shows with what the driver knows.
    pub(crate) fn look(&mut self, supervisor: &Supervisor) {
        let shown: Vec<_> = supervisor.workers().map(|worker| worker.id()).collect();
        let known: Vec<_> = self.living.iter().copied().collect();
        assert_eq!(shown, known, "the supervisor shows exactly those that live");
        for worker in supervisor.workers() {
            let is_admitted = self.life(worker.id()).is_admitted;
            assert_eq!(worker.state() == WorkerState::Ready, is_admitted, "ready means admitted");
        }
        for slot in supervisor.slots() {
            let clock = self.slots.entry(slot.slot()).or_default();
            let is_idle = matches!(slot.state(), WorkerState::Stopped | WorkerState::GaveUp);
            // A worker may finish for good by the restart policy.
            clock.wanted &= !is_idle;
            assert_eq!(slot.retry_at().is_some(), slot.state() == WorkerState::Backoff);
        }
        let waits = supervisor.slots().any(|slot| slot.retry_at().is_some());
        assert_eq!(supervisor.is_done(), known.is_empty() && !waits);
        assert_eq!(supervisor.lost_events(), 0);
    }

    fn alive(&self) -> impl Iterator<Item = u32> {
        self.living.iter().map(|id| id.slot())
    }

    /// Admit and Withdraw are carried out at the instant of what caused them.
    fn turn_clock(&mut self, action: Action, now: Instant) {
        let Some(slot) = self.slots.get_mut(&action.id().slot()) else { return };
        match action {
            Action::Admit(_) => slot.ready_since = Some(now),
            Action::Withdraw(_) => {
                slot.served += slot.ready_since.take().map_or(Duration::ZERO, |since| now - since);
            }
            Action::Spawn(_) | Action::AskStop(_) | Action::Signal(..) => {}
        }
    }

    fn life(&mut self, id: WorkerId) -> &mut Life {
        self.lives.get_mut(&id).unwrap_or_else(|| panic!("{id} was never spawned"))
    }
}

impl Life {
    fn has_ended(&self) -> bool {
        self.exit.is_some() || self.has_failed_to_spawn
    }
}
