//! The state of all slots, from events alone.

use std::collections::{BTreeMap, BTreeSet};

use cluster_supervisor::{Event, GivenUp, Release, RollId, RollOutcome, Supervisor, WorkerId, WorkerState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Starting,
    Ready,
    Leaving,
}

/// What is with a slot without a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Stopped,
    Backoff,
    Held,
    GaveUp,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    own: Option<WorkerId>,
    rest: Rest,
    wanted: bool,
    /// On trial; nobody yet if its predecessor has to go first.
    trial: Option<Option<WorkerId>>,
}

/// The roll that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rolling {
    id: RollId,
    release: Option<Release>,
    is_paused: bool,
    is_back: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    slots: BTreeMap<u32, Slot>,
    lives: BTreeMap<WorkerId, Life>,
    releases: BTreeMap<WorkerId, Release>,
    all_releases: BTreeMap<WorkerId, Release>,
    given_up: BTreeMap<u32, GivenUp>,
    roll: Option<Rolling>,
    /// Of slots that are started.
    release: Release,
    /// All that ever were.
    successors: BTreeSet<WorkerId>,
}

impl Journal {
    pub(crate) fn write(&mut self, event: &Event) {
        match event {
            Event::Starting { id, release } => {
                self.lives.insert(*id, Life::Starting);
                self.releases.insert(*id, *release);
                self.all_releases.insert(*id, *release);
                self.given_up.remove(&id.slot());
                let slot = self.slots.entry(id.slot()).or_default();
                match &mut slot.trial {
                    Some(successor @ None) => {
                        self.successors.insert(*id);
                        *successor = Some(*id);
                        slot.own = Some(*id);
                    }
                    Some(Some(successor)) if successor == id => {
                        self.successors.insert(*id);
                        // It is the slot's own at once where there is nobody else.
                        if !slot.own.is_some_and(|own| self.lives.contains_key(&own)) {
                            slot.own = Some(*id);
                        }
                    }
                    _ => slot.own = Some(*id),
                }
                (slot.wanted, slot.rest) = (true, Rest::Stopped);
            }
            Event::Held { id } => {
                self.given_up.remove(&id.slot());
                let slot = self.slot(id.slot());
                (slot.own, slot.rest, slot.wanted) = (Some(*id), Rest::Held, true);
            }
            Event::Ready { id } => drop(self.lives.insert(*id, Life::Ready)),
            Event::Stopping { id, .. } => drop(self.lives.insert(*id, Life::Leaving)),
            Event::Exited { id, .. } => self.end(*id),
            Event::SpawnFailed { id, retry_in } => {
                self.end(*id);
                if retry_in.is_some() {
                    self.slot(id.slot()).rest = Rest::Backoff;
                }
            }
            Event::BackingOff { slot, .. } => self.slot(*slot).rest = Rest::Backoff,
            Event::GaveUp(given_up) => {
                self.given_up.insert(given_up.slot(), given_up.clone());
                let slot = self.slot(given_up.slot());
                // A successor that was on its way does not take its place.
                slot.own = Some(given_up.id());
                (slot.rest, slot.wanted) = (Rest::GaveUp, false);
            }
            Event::Stopped { slot } => {
                let slot = self.slot(*slot);
                slot.wanted = false;
                slot.rest = Rest::Stopped;
            }
            Event::Replacing { slot, id, .. } => {
                self.given_up.remove(slot);
                self.slot(*slot).trial = Some(*id);
            }
            Event::Replaced { new, .. } => {
                let slot = self.slot(new.slot());
                (slot.own, slot.trial) = (Some(*new), None);
            }
            Event::ReplaceFailed { slot, .. } => self.slot(*slot).trial = None,
            other => self.write_roll(other),
        }
    }

    fn write_roll(&mut self, event: &Event) {
        match (event, &mut self.roll) {
            (Event::RollStarted { id, release, .. }, roll) => {
                assert!(roll.is_none(), "{event} in {roll:?}");
                *roll = Some(Rolling { id: *id, release: *release, is_paused: false, is_back: false });
            }
            (Event::RollPaused { .. }, Some(roll)) => roll.is_paused = true,
            (Event::RollResumed { .. }, Some(roll)) => roll.is_paused = false,
            (Event::RollingBack { .. }, Some(roll)) => (roll.is_paused, roll.is_back) = (false, true),
            (Event::RollFinished { outcome, .. }, Some(roll)) => {
                if let (RollOutcome::Completed, Some(release)) = (outcome, roll.release) {
                    self.release = release;
                }
                self.roll = None;
            }
            _ => {}
        }
    }

    pub(crate) fn serves_or_ended(&self, id: WorkerId) -> bool {
        self.lives.get(&id).is_none_or(|life| *life == Life::Ready)
    }

    /// What a worker runs, also one that has ended.
    pub(crate) fn release_of(&self, id: WorkerId) -> Release {
        self.all_releases[&id]
    }

    pub(crate) fn was_on_trial(&self, id: WorkerId) -> bool {
        self.successors.contains(&id)
    }

    fn slot(&mut self, slot: u32) -> &mut Slot {
        self.slots.entry(slot).or_default()
    }

    fn end(&mut self, id: WorkerId) {
        self.lives.remove(&id);
        self.releases.remove(&id);
        let slot = self.slots.entry(id.slot()).or_default();
        // A successor takes the place of one that ended.
        if let (true, Some(Some(successor))) = (slot.own == Some(id), slot.trial) {
            slot.own = Some(successor);
        }
    }

    /// It is what the supervisor shows.
    pub(crate) fn compare(&self, supervisor: &Supervisor) {
        let status = supervisor.status();
        let shown: BTreeMap<WorkerId, Life> = status
            .workers
            .iter()
            .map(|worker| {
                let life = match worker.state() {
                    WorkerState::Starting => Life::Starting,
                    WorkerState::Ready => Life::Ready,
                    _ => Life::Leaving,
                };
                (worker.id(), life)
            })
            .collect();
        assert_eq!(shown, self.lives, "the workers, from events alone");
        let releases = status.workers.iter().map(|worker| (worker.id(), worker.release())).collect();
        assert_eq!(self.releases, releases, "what they run");
        assert!(self.given_up.values().eq(&status.given_up), "{:?}", status.given_up);
        assert_eq!(status.release, self.release, "what new ones run");
        let roll = status.roll.map(|roll| Rolling {
            id: roll.id(),
            release: roll.release(),
            is_paused: roll.is_paused(),
            is_back: roll.is_rolling_back(),
        });
        assert_eq!(roll, self.roll, "the roll");
        for view in status.slots {
            let slot = &self.slots[&view.slot()];
            assert_eq!(Some(view.newest()), slot.own, "whose slot {} is", view.slot());
            assert_eq!(view.is_wanted(), slot.wanted, "whether slot {} is wanted", view.slot());
            assert_eq!(view.is_replacing(), slot.trial.is_some(), "slot {}", view.slot());
            assert_eq!(view.successor(), slot.trial.flatten(), "slot {}", view.slot());
            if view.current().is_none() {
                let rest = match view.state() {
                    WorkerState::Backoff => Rest::Backoff,
                    WorkerState::Held => Rest::Held,
                    WorkerState::GaveUp => Rest::GaveUp,
                    _ => Rest::Stopped,
                };
                assert_eq!(rest, slot.rest, "slot {}", view.slot());
            }
        }
    }
}
