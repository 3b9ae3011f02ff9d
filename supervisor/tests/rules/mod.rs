//! What must always hold, kept as a naive model beside the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster_supervisor::{
    Action, Event, Exit, GiveUpReason, Group, StopSignal, Supervisor, WorkerId, WorkerState,
};

/// The code by which a worker says that no restart will help.
pub(crate) const HOPELESS: u8 = 78;

use super::journal::Journal;
use super::machine::{Settings, first_word};

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
    /// How long it was ready.
    ready_for: Duration,
    ready_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Withdrawn,
    Asked,
    Terminated,
    Killed,
}

/// The restarts of one slot on a clock of its own, which runs while a worker of it is ready, and is read when that one has ended. That is
/// the definition of the budget's period.
#[derive(Debug, Default)]
struct SlotClock {
    served: Duration,
    /// A worker exited, so the next spawn is a restart.
    owes_restart: bool,
    restarts: Vec<Duration>,
    wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Rules {
    budget: Option<(u32, Duration)>,
    surge: usize,
    unavailable: u32,
    /// More has happened since the driver last looked: what was decided in between can't be told from what it sees.
    pub(crate) many_at_once: bool,
    is_ordered: bool,
    journal: Journal,
    rolls: (u32, u32),
    lives: BTreeMap<WorkerId, Life>,
    /// Those of the lives that have neither ended nor failed to begin.
    living: BTreeSet<WorkerId>,
    slots: BTreeMap<u32, SlotClock>,
    /// Which start of a slot its last was.
    started: BTreeMap<u32, usize>,
    starts: usize,
    /// The last id of each slot.
    newest: BTreeMap<u32, u32>,
    /// What was met on the way, to show that the simulation reaches it.
    pub(crate) met: BTreeSet<String>,
}

impl Rules {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            budget: settings.budget,
            // With neither it is as if a worker more were allowed.
            surge: if settings.unavailable == 0 { settings.surge.max(1) } else { settings.surge } as usize,
            unavailable: settings.unavailable,
            many_at_once: false,
            is_ordered: settings.group != Group::OneForOne,
            journal: Journal::default(),
            rolls: (0, 0),
            lives: BTreeMap::new(),
            living: BTreeSet::new(),
            slots: BTreeMap::new(),
            started: BTreeMap::new(),
            starts: 0,
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
        self.start(id.slot());
    }

    fn start(&mut self, slot: u32) {
        self.starts += 1;
        self.started.insert(slot, self.starts);
        self.slots.insert(slot, SlotClock { wanted: true, ..SlotClock::default() });
    }

    pub(crate) fn stopped(&mut self, id: WorkerId, supervisor: &Supervisor) {
        if supervisor.slots().any(|slot| slot.newest() == id)
            && let Some(slot) = self.slots.get_mut(&id.slot())
        {
            slot.wanted = false;
        }
    }

    /// So many slots shall be wanted, and these are.
    pub(crate) fn scale(&mut self, slots: usize, wanted: &[u32]) {
        for _ in wanted.len()..slots {
            // As `started` checks it for a start.
            let taken: BTreeSet<u32> = self
                .alive()
                .chain(self.slots.iter().filter(|(_, slot)| slot.wanted).map(|(slot, _)| *slot))
                .collect();
            let lowest = (0..).find(|slot| !taken.contains(slot)).unwrap_or_default();
            self.start(lowest);
        }
        if wanted.len() > slots {
            let mut by_age: Vec<_> = wanted.iter().map(|slot| (self.started[slot], *slot)).collect();
            by_age.sort_unstable();
            for (_, slot) in by_age.into_iter().skip(slots) {
                self.slots.entry(slot).or_default().wanted = false;
            }
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

    pub(crate) fn exited(&mut self, id: WorkerId, exit: Exit, supervisor: &Supervisor, now: Instant) {
        let life = self.life(id);
        life.exit = Some(exit);
        let ready_for = life.ready_for + life.ready_since.map_or(Duration::ZERO, |since| now - since);
        self.living.remove(&id);
        let view = supervisor.slots().find(|slot| slot.slot() == id.slot());
        // One that has a successor is not restarted: that one takes its place.
        let is_own = view.is_some_and(|slot| {
            let replaced = slot.is_replacing() && slot.successor() != Some(id);
            slot.newest() == id && !replaced && !slot.is_restarting()
        });
        if let Some(slot) = self.slots.get_mut(&id.slot()) {
            slot.owes_restart |= is_own;
            slot.served += ready_for;
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

    pub(crate) fn action(&mut self, action: Action, now: Instant, supervisor: &Supervisor) {
        let id = action.id();
        if action == Action::Spawn(id) {
            return self.spawn(id);
        }
        self.turn_clock(action, now);
        self.keeps_its_promise(action, supervisor);
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

    /// Nobody who serves has to go before his successor serves, but as many as may be missing.
    fn keeps_its_promise(&mut self, action: Action, supervisor: &Supervisor) {
        let Action::AskStop(id) = action else { return };
        let views: Vec<_> = supervisor.slots().filter(|slot| slot.is_wanted()).collect();
        let is_first =
            views.iter().any(|slot| slot.newest() == id && slot.is_replacing() && slot.successor().is_none());
        if is_first {
            let serves =
                |slot: u32| self.lives.iter().any(|(id, life)| id.slot() == slot && life.is_admitted);
            let missing = views.iter().filter(|slot| !serves(slot.slot())).count();
            assert!(
                self.many_at_once || missing <= self.unavailable as usize,
                "{missing} slots without a ready worker"
            );
            self.met.insert("Vacated".to_owned());
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        let on_trial = self.journal.was_on_trial(id);
        let others: Vec<_> = self.living.iter().filter(|other| other.slot() == id.slot()).collect();
        assert!(others.len() <= 1, "three workers in slot {}", id.slot());
        for other in others {
            // A successor that was recalled while it was being spawned is asked to stop once it is there.
            let leaves = self.lives[other].progress.is_some() || self.journal.was_on_trial(*other);
            assert!(on_trial || leaves, "two workers in slot {}, and none of them on trial", id.slot());
        }
        let newest = self.newest.insert(id.slot(), id.generation()).unwrap_or(0);
        // One that waited for its turn in vain is not heard of again.
        let skips = self.is_ordered && id.generation() > newest;
        assert!(skips || id.generation() == newest + 1, "generations count up without repeating");
        self.lives.insert(id, Life::default());
        self.living.insert(id);

        let budget = self.budget;
        if self.is_ordered && !on_trial && !self.many_at_once {
            let before = self.started.iter().filter(|(_, started)| **started < self.started[&id.slot()]);
            for (slot, _) in before.filter(|(slot, _)| self.slots[*slot].wanted) {
                let serves = self.lives.iter().any(|(id, life)| id.slot() == *slot && life.is_admitted);
                assert!(serves, "{id} starts before slot {slot} is ready");
            }
        }
        let slot = self.slots.entry(id.slot()).or_default();
        if on_trial && !slot.wanted {
            // One that was given up has another chance.
            *slot = SlotClock { wanted: true, ..SlotClock::default() };
        }
        assert!(slot.wanted || self.many_at_once, "{id} is spawned and not wanted");
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
        self.journal.write(event);
        match event {
            Event::Exited { id, exit, cause, .. } => {
                self.met.insert(format!("{cause:?}"));
                let life = self.life(*id);
                life.exit_events += 1;
                assert_eq!((life.exit, life.exit_events), (Some(*exit), 1));
            }
            Event::GaveUp(given_up) => {
                self.met.insert("GaveUp".to_owned());
                let slot = self.slots.get_mut(&given_up.slot());
                let slot = slot.unwrap_or_else(|| panic!("{event} of an unknown slot"));
                slot.wanted = false;
                let (limit, period) = self.budget.unwrap_or_default();
                let recent = slot.restarts.iter().filter(|&&at| slot.served - at < period).count();
                match given_up.reason() {
                    GiveUpReason::Budget { failures, .. } => {
                        assert_eq!(recent, limit as usize, "given up with budget left");
                        assert_eq!(failures, limit + 1);
                    }
                    _ => {
                        self.met.insert("hopeless".to_owned());
                        assert_eq!(given_up.exit(), Exit::Code(HOPELESS.into()));
                    }
                }
            }
            Event::SpawnFailed { retry_in, .. } => {
                self.met.insert(format!("SpawnFailed, again: {}", retry_in.is_some()));
            }
            Event::BackingOff { .. } => {
                self.met.insert("BackingOff".to_owned());
            }
            Event::Replaced { new, .. } => {
                self.met.insert("Replaced".to_owned());
                assert!(self.journal.serves_or_ended(*new), "{new} took over before it was ready");
            }
            Event::Replacing { slot, id: Some(id), .. } => {
                // Those that were given up are wanted again as soon as a roll comes to them.
                let wanted = self.slots.values().filter(|slot| slot.wanted).count() + self.journal.given_up();
                let living = self.living.iter().filter(|other| *other != id).count();
                let is_beside = self.living.iter().any(|other| other.slot() == *slot && other != id);
                let fits = !is_beside || living < wanted + self.surge;
                assert!(self.many_at_once || fits, "{living} live for {wanted} slots, and a successor comes");
            }
            Event::ReplaceFailed { reason, .. } => {
                self.met.insert(first_word(&format!("{reason:?}")));
            }
            // A worker may have finished for good, by the restart policy.
            Event::Stopped { slot } => self.slots.entry(*slot).or_default().wanted = false,
            Event::RollStarted { .. } => self.rolls.0 += 1,
            Event::RollFinished { outcome, .. } => {
                self.rolls.1 += 1;
                self.met.insert(first_word(&format!("{outcome:?}")));
                assert_eq!(self.rolls.0, self.rolls.1, "each roll ends once");
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
        assert_eq!(supervisor.current_roll().is_some(), self.rolls.0 > self.rolls.1);
        self.journal.compare(supervisor);
    }

    fn alive(&self) -> impl Iterator<Item = u32> {
        self.living.iter().map(|id| id.slot())
    }

    /// Admit and Withdraw are carried out at the instant of what caused them.
    fn turn_clock(&mut self, action: Action, now: Instant) {
        let life = self.life(action.id());
        match action {
            Action::Admit(_) => life.ready_since = Some(now),
            Action::Withdraw(_) => {
                life.ready_for += life.ready_since.take().map_or(Duration::ZERO, |since| now - since);
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
