//! What a roll may do, and what it may say of itself, from events alone.

use std::collections::{BTreeMap, BTreeSet};

use cluster_supervisor::{
    Event, ExitCause, Release, Restart, RollId, RollOutcome, Supervisor, Unfit, WorkerId,
};

use super::is_done;

/// What is with the slots.
#[derive(Debug, Default)]
struct Slots {
    releases: BTreeMap<u32, Release>,
    owns: BTreeMap<u32, WorkerId>,
    /// Nobody yet if the predecessor has to go first.
    on_trial: BTreeMap<u32, Option<WorkerId>>,
}

impl Slots {
    fn own(&self, id: WorkerId) -> bool {
        self.owns.get(&id.slot()) == Some(&id)
    }

    fn event(
        &mut self,
        event: &Event,
        is_on_trial: impl Fn(WorkerId) -> bool,
        release_of: impl Fn(WorkerId) -> Release,
    ) {
        match event {
            Event::Starting { id, release } if !is_on_trial(*id) => {
                self.releases.insert(id.slot(), *release);
                self.owns.insert(id.slot(), *id);
            }
            // Nobody else is there, or it could not be on trial.
            Event::Starting { id, .. } if self.on_trial.get(&id.slot()) == Some(&None) => {
                self.on_trial.insert(id.slot(), Some(*id));
                self.owns.insert(id.slot(), *id);
            }
            // A successor takes the place of one that has ended.
            Event::Exited { id, .. } if self.own(*id) => {
                if let Some(Some(successor)) = self.on_trial.get(&id.slot()) {
                    self.owns.insert(id.slot(), *successor);
                }
            }
            Event::Replacing { slot, id, .. } => drop(self.on_trial.insert(*slot, *id)),
            Event::ReplaceFailed { slot, .. } => drop(self.on_trial.remove(slot)),
            Event::Replaced { new, .. } => {
                self.on_trial.remove(&new.slot());
                self.releases.insert(new.slot(), release_of(*new));
                self.owns.insert(new.slot(), *new);
            }
            _ => {}
        }
    }
}

/// The roll that goes on.
#[derive(Debug)]
struct Rolling {
    id: RollId,
    release: Option<Release>,
    canaries: u32,
    rolls_back: bool,
    fits: u32,
    open: BTreeSet<u32>,
    /// Some successor was no good.
    has_failed: bool,
    is_back: bool,
    /// What slots had before, that have not gone back.
    replaced: BTreeMap<u32, Release>,
}

impl Rolling {
    fn changed(&self) -> usize {
        let is_changed = |before: &&Release| self.release.is_some_and(|release| release != **before);
        self.replaced.values().filter(is_changed).count()
    }
}

#[derive(Debug)]
pub(super) struct Rolls {
    restart: Restart,
    /// Canaries, and whether it rolls back: of the roll that is asked for.
    asked: (u32, bool),
    running: Option<Rolling>,
    slots: Slots,
    /// A roll to this release was completed just now.
    completed: Option<Release>,
}

impl Rolls {
    pub(super) fn new(restart: Restart) -> Self {
        Self { restart, asked: (0, true), running: None, slots: Slots::default(), completed: None }
    }

    pub(super) fn asks(&mut self, canaries: u32, rolls_back: bool) {
        self.asked = (canaries, rolls_back);
    }

    /// The user starts a slot anew, or wants no more of it: perhaps one that was replaced.
    pub(super) fn touched(&mut self, slot: u32) {
        if let Some(running) = &mut self.running {
            running.replaced.remove(&slot);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn event(
        &mut self,
        event: &Event,
        is_on_trial: impl Fn(WorkerId) -> bool,
        release_of: impl Fn(WorkerId) -> Release,
    ) {
        if let (Event::RollStarted { id, release, .. }, (canaries, rolls_back)) = (event, self.asked) {
            assert!(self.running.is_none(), "{event} in another");
            self.running = Some(Rolling {
                id: *id,
                release: *release,
                canaries,
                rolls_back,
                fits: 0,
                open: BTreeSet::new(),
                has_failed: false,
                is_back: false,
                replaced: BTreeMap::new(),
            });
        }
        if let Some(running) = &mut self.running {
            Self::follow(running, event, &self.slots, self.restart, &release_of);
        }
        self.slots.event(event, is_on_trial, release_of);
        if let Event::RollFinished { id, outcome, stranded, .. } = event {
            let Some(running) = self.running.take() else { panic!("{event}, and none has begun") };
            assert_eq!(running.id, *id);
            assert!(running.open.is_empty(), "{event}, with {:?} on trial", running.open);
            self.finish(&running, outcome, *stranded);
        }
    }

    fn follow(
        running: &mut Rolling,
        event: &Event,
        slots: &Slots,
        restart: Restart,
        release_of: impl Fn(WorkerId) -> Release,
    ) {
        match event {
            Event::RollingBack { .. } => running.is_back = true,
            Event::Replacing { slot, roll: Some(_), .. } => {
                running.open.insert(*slot);
                let is_alone = running.open.len() == 1;
                assert!(
                    running.is_back || running.fits >= running.canaries || is_alone,
                    "past the canary: {running:?}"
                );
            }
            Event::Replaced { new, roll: Some(_), .. } => {
                let (slot, release) = (new.slot(), release_of(*new));
                running.open.remove(&slot);
                if !running.is_back {
                    running.fits += 1;
                }
                // It goes back, or it was too late to recall it, or it makes way for what was there before.
                let before = slots.releases[&slot];
                if !running.is_back || (running.replaced.remove(&slot).is_none() && before != release) {
                    running.replaced.insert(slot, before);
                }
            }
            Event::ReplaceFailed { slot, reason, roll: Some(_), .. } => {
                running.open.remove(slot);
                running.has_failed |= *reason != Unfit::Recalled;
            }
            // After a crash it goes back at once; not so while somebody is on trial there.
            Event::Exited { id, exit, cause, .. }
                if slots.own(*id)
                    && !cause.is_asked()
                    && *cause != ExitCause::Left
                    && !is_done(restart, *exit) =>
            {
                let is_changed = |before: &Release| running.release.is_some_and(|wanted| wanted != *before);
                let may = running.rolls_back && !slots.on_trial.contains_key(&id.slot());
                if may && running.replaced.get(&id.slot()).is_some_and(is_changed) {
                    running.replaced.remove(&id.slot());
                }
            }
            Event::Stopped { slot } => drop(running.replaced.remove(slot)),
            _ => {}
        }
    }

    fn finish(&mut self, running: &Rolling, outcome: &RollOutcome, stranded: u32) {
        if *outcome == RollOutcome::Completed {
            assert!(!running.has_failed && !running.is_back, "completed, and yet {running:?}");
            assert!(running.fits > 0, "completed, and nobody was replaced");
            self.completed = running.release;
        }
        let changed = if running.is_back && running.rolls_back { running.changed() } else { 0 };
        assert_eq!(stranded as usize, changed, "{running:?}");
    }

    /// What was said is true, unless more has happened since.
    pub(super) fn look(&mut self, supervisor: &Supervisor, many_at_once: bool) {
        let Some(release) = self.completed.take().filter(|_| !many_at_once) else { return };
        for slot in supervisor.slots().filter(|slot| slot.is_wanted()) {
            assert_eq!(slot.release(), release, "slot {} after a completed roll", slot.slot());
        }
        assert_eq!(supervisor.release(), release);
    }
}
