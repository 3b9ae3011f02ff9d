//! What must always hold, kept as a naive model beside the supervisor: of workers here, of restarts in `budget`, of rolls in
//! `rolls`.

mod budget;
mod rolls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster_supervisor::{
    Action, Event, Exit, GiveUpReason, Group, Restart, SlotView, StopSignal, Supervisor, WorkerId,
    WorkerState,
};

use self::budget::Budgets;
use self::rolls::Rolls;
use super::journal::Journal;
use super::machine::{Settings, first_word};

/// The code by which a worker says that no restart will help.
pub(crate) const HOPELESS: u8 = 78;

/// A code that is a success, beside 0.
pub(crate) const DONE_TOO: u8 = 3;

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

#[derive(Debug)]
pub(crate) struct Rules {
    budgets: Budgets,
    surge: usize,
    unavailable: u32,
    /// More has happened since the driver last looked: what was decided in between can't be told from what it sees.
    pub(crate) many_at_once: bool,
    is_ordered: bool,
    journal: Journal,
    rolls: Rolls,
    lives: BTreeMap<WorkerId, Life>,
    /// Those of the lives that have neither ended nor failed to begin.
    living: BTreeSet<WorkerId>,
    /// Slots whose last trial was no part of a roll.
    singles: BTreeSet<u32>,
    /// Slots that the user wants, or a roll has revived.
    wanted: BTreeSet<u32>,
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
            budgets: Budgets::new(settings.budget, settings.restart),
            // With neither it is as if a worker more were allowed.
            surge: if settings.unavailable == 0 { settings.surge.max(1) } else { settings.surge } as usize,
            unavailable: settings.unavailable,
            many_at_once: false,
            is_ordered: settings.group != Group::OneForOne,
            journal: Journal::default(),
            rolls: Rolls::new(settings.restart),
            lives: BTreeMap::new(),
            living: BTreeSet::new(),
            singles: BTreeSet::new(),
            wanted: BTreeSet::new(),
            started: BTreeMap::new(),
            starts: 0,
            newest: BTreeMap::new(),
            met: BTreeSet::new(),
        }
    }

    pub(crate) fn started(&mut self, id: WorkerId) {
        let taken: BTreeSet<u32> = self.alive().chain(self.wanted.iter().copied()).collect();
        let lowest = (0..).find(|slot| !taken.contains(slot));
        assert_eq!(Some(id.slot()), lowest, "a start takes the lowest slot that is neither alive nor wanted");
        self.start(id.slot());
    }

    /// This slot was to be started again, and this came of it.
    pub(crate) fn started_again(&mut self, slot: u32, id: Option<WorkerId>) {
        let is_alive = self.alive().any(|alive| alive == slot);
        let is_wanted = self.wanted.contains(&slot);
        match id {
            Some(id) => {
                assert_eq!(id.slot(), slot);
                assert!(!is_alive, "nobody is started beside somebody who lives");
                self.met.insert("StartedAgain".to_owned());
                self.wanted.insert(slot);
                self.budgets.start(slot);
                self.rolls.touched(slot);
            }
            None => {
                assert!(is_alive || is_wanted, "a slot that nobody lives in and nobody wants can be started")
            }
        }
    }

    fn start(&mut self, slot: u32) {
        self.starts += 1;
        self.started.insert(slot, self.starts);
        self.wanted.insert(slot);
        self.budgets.start(slot);
        self.rolls.touched(slot);
    }

    pub(crate) fn stopped(&mut self, id: WorkerId, supervisor: &Supervisor) {
        if supervisor.slots().any(|slot| slot.newest() == id) {
            self.wanted.remove(&id.slot());
            self.rolls.touched(id.slot());
        }
    }

    /// There shall be so many slots that should have a worker.
    pub(crate) fn scale(&mut self, slots: usize, supervisor: &Supervisor) {
        let missed: Vec<_> = supervisor.slots().filter(|slot| slot.is_missed()).collect();
        for _ in missed.len()..slots {
            // As `started` checks it for a start; but none of those that were given up.
            let given_up = missed.iter().map(|slot| slot.slot());
            let taken: BTreeSet<u32> =
                self.alive().chain(self.wanted.iter().copied()).chain(given_up).collect();
            let lowest = (0..).find(|slot| !taken.contains(slot)).unwrap_or_default();
            self.start(lowest);
        }
        let mut by_age: Vec<_> =
            missed.iter().map(|slot| (!slot.is_wanted(), self.started[&slot.slot()], slot.slot())).collect();
        by_age.sort_unstable();
        for (_, _, slot) in by_age.into_iter().skip(slots) {
            self.wanted.remove(&slot);
            self.rolls.touched(slot);
        }
    }

    pub(crate) fn shut_down(&mut self) {
        self.wanted.clear();
    }

    /// A roll is asked for.
    pub(crate) fn rolls(&mut self, canaries: u32, rolls_back: bool) {
        self.rolls.asks(canaries, rolls_back);
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
        let ready_for = life.serves(now);
        self.living.remove(&id);
        self.budgets.exited(id, ready_for, supervisor);
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
        // A roll does not wait for what it can't bring back; who is replaced for himself does.
        let counts =
            |slot: &SlotView| slot.is_wanted() || (slot.is_missed() && self.singles.contains(&id.slot()));
        let views: Vec<_> = supervisor.slots().filter(counts).collect();
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

        if self.is_ordered && !on_trial && !self.many_at_once {
            let before = self.started.iter().filter(|(_, started)| **started < self.started[&id.slot()]);
            for (slot, _) in before.filter(|(slot, _)| self.wanted.contains(slot)) {
                let serves = self.lives.iter().any(|(id, life)| id.slot() == *slot && life.is_admitted);
                assert!(serves, "{id} starts before slot {slot} is ready");
            }
        }
        assert!(self.wanted.contains(&id.slot()) || self.many_at_once, "{id} is spawned and not wanted");
        self.keeps_the_surge(id);
        self.budgets.spawn(id, self.journal.release_of(id), on_trial);
    }

    /// Only so many slots have somebody beside their own worker.
    fn keeps_the_surge(&self, id: WorkerId) {
        let lives = |slot: u32| self.living.iter().filter(|id| id.slot() == slot).count();
        let too_many: usize = self.wanted.iter().map(|slot| lives(*slot).saturating_sub(1)).sum();
        assert!(self.many_at_once || too_many <= self.surge, "{too_many} workers too many with {id}");
    }

    pub(crate) fn event(&mut self, event: &Event, now: Instant) {
        if let Event::Replacing { slot, roll, .. } = event {
            if self.wanted.insert(*slot) {
                // One that was given up has another chance.
                self.budgets.start(*slot);
            }
            self.singles.remove(slot);
            self.singles.extend(roll.is_none().then_some(*slot));
        }
        self.journal.write(event);
        let release_of = |id| self.journal.release_of(id);
        self.rolls.event(event, |id| self.journal.was_on_trial(id), release_of);
        self.budgets.event(event, release_of, |id| self.lives[&id].serves(now));
        match event {
            Event::Exited { id, exit, cause, .. } => {
                self.met.insert(format!("{cause:?}"));
                let life = self.life(*id);
                life.exit_events += 1;
                assert_eq!((life.exit, life.exit_events), (Some(*exit), 1));
            }
            Event::GaveUp(given_up) => {
                self.met.insert("GaveUp".to_owned());
                if given_up.reason() == GiveUpReason::ExitCode {
                    self.met.insert("hopeless".to_owned());
                }
                self.wanted.remove(&given_up.slot());
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
            Event::ReplaceFailed { reason, .. } => {
                self.met.insert(first_word(&format!("{reason:?}")));
            }
            // A worker may have finished for good, by the restart policy.
            Event::Stopped { slot } => drop(self.wanted.remove(slot)),
            Event::RollFinished { outcome, stranded, .. } => {
                self.met.insert(first_word(&format!("{outcome:?}")));
                if *stranded > 0 {
                    self.met.insert("stranded".to_owned());
                }
            }
            _ => {}
        }
    }

    /// What was said of a roll just now is true.
    pub(crate) fn verdict(&mut self, supervisor: &Supervisor) {
        self.rolls.look(supervisor, self.many_at_once);
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
            assert_eq!(slot.is_wanted(), self.wanted.contains(&slot.slot()), "slot {}", slot.slot());
            assert_eq!(slot.retry_at().is_some(), slot.state() == WorkerState::Backoff);
        }
        let waits = supervisor.slots().any(|slot| slot.retry_at().is_some());
        assert_eq!(supervisor.is_done(), known.is_empty() && !waits);
        assert_eq!(supervisor.lost_events(), 0);
        assert_eq!(supervisor.current_roll().is_some(), self.rolls.is_running());
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
    /// How long it has been ready.
    fn serves(&self, now: Instant) -> Duration {
        self.ready_for + self.ready_since.map_or(Duration::ZERO, |since| now - since)
    }

    fn has_ended(&self) -> bool {
        self.exit.is_some() || self.has_failed_to_spawn
    }
}

/// Whether one that ended so, unasked, has done its work: a server's is never done.
fn is_done(restart: Restart, exit: Exit) -> bool {
    let is_success = exit == Exit::Code(0) || exit == Exit::Code(DONE_TOO.into());
    restart != Restart::Always && is_success
}
