//! The part of the supervisor that replaces workers and changes how many there are: it carries out what the
//! [plan](crate::roll) says, and tells the plan what came of it.

use std::time::Instant;

use crate::roll::{Allowance, Figures, Finished, Release, Roll, RollId, RollRefused, Seen, Sight, Turn};
use crate::slot::{Slot, Tried};
use crate::state::{Input, State};
use crate::worker::Worker;
use crate::{Event, RollView, Supervisor, WorkerId};

/// What the user wants of workers that live.
impl Supervisor {
    /// Replaces the workers of all slots, slots that were given up included, by the rules of `roll` and as many at a time as the
    /// [`Policy`](crate::Policy) allows. How it ends is told by [`Event::RollFinished`].
    ///
    /// # Errors
    ///
    /// [`RollRefused`]; nothing has changed then.
    pub fn roll(&mut self, roll: Roll, now: Instant) -> Result<RollId, RollRefused> {
        let now = self.tick(now);
        if let Some(id) = self.plan.roll() {
            return Err(RollRefused::Busy(id));
        }
        let slots: Vec<u32> = self
            .slots
            .values()
            .filter(|slot| slot.is_wanted() || slot.has_given_up())
            .map(Slot::number)
            .collect();
        if slots.is_empty() {
            return Err(RollRefused::NoSlots);
        }
        let (release, count) = (roll.release, slots.len() as u32);
        let id = self.plan.begin(roll, slots);
        self.outbox.push_event(Event::RollStarted { id, slots: count, release });
        self.advance(now);
        Ok(id)
    }

    /// The roll that goes on, if one does.
    pub fn current_roll(&self) -> Option<RollId> {
        self.plan.roll()
    }

    /// How far the roll is that goes on.
    pub fn roll_view(&self) -> Option<RollView> {
        self.plan.view()
    }

    /// Begins no more trials; those under way go on. Returns whether that is a change.
    pub fn pause_roll(&mut self) -> bool {
        self.set_paused(true)
    }

    /// Ends a [pause](Self::pause_roll). Returns whether there was one.
    pub fn resume_roll(&mut self, now: Instant) -> bool {
        let now = self.tick(now);
        let resumed = self.set_paused(false);
        self.advance(now);
        resumed
    }

    fn set_paused(&mut self, paused: bool) -> bool {
        let changed = self.plan.set_paused(paused);
        if let (true, Some(id)) = (changed, self.plan.roll()) {
            self.outbox.push_event(if paused { Event::RollPaused { id } } else { Event::RollResumed { id } });
        }
        changed
    }

    /// Stops the roll: successors on trial are stopped, and what was replaced already is rolled back, if the roll says so.
    /// Without a roll it does nothing.
    pub fn abort_roll(&mut self, now: Instant) {
        let now = self.tick(now);
        let Some(id) = self.plan.roll() else { return };
        self.plan.abort();
        self.recall_trials(id, now);
        self.advance(now);
    }

    /// Replaces this worker for its own sake (it has grown, it is old) when there is room for that: its successor first, and
    /// never at the same time as another replacement, unless the [`Policy`](crate::Policy) allows it.
    ///
    /// Nothing happens for one that is not its slot's own, or that is on its way out.
    pub fn replace(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        let is_own = self.slots.get(&id.slot()).is_some_and(|slot| slot.own() == id && slot.is_wanted());
        if is_own && self.workers.contains_key(&id) {
            self.plan.add_single(id.slot());
            self.advance(now);
        }
    }

    /// Wants so many slots: starts what is missing, or stops those that were started last.
    pub fn scale(&mut self, slots: usize, now: Instant) {
        let now = self.tick(now);
        let mut wanted: Vec<(u64, WorkerId)> = self
            .slots
            .values()
            .filter(|slot| slot.is_wanted())
            .map(|slot| (slot.started(), slot.own()))
            .collect();
        // Those that a roll was to give another chance are not among them.
        self.slots.values().filter(|slot| !slot.is_wanted()).for_each(|slot| self.plan.forget(slot.number()));
        for _ in wanted.len()..slots {
            self.start_slot(std::sync::Arc::clone(&self.policy));
        }
        wanted.sort_unstable();
        for (_, id) in wanted.into_iter().skip(slots).rev() {
            self.end(id, now);
        }
        self.advance(now);
    }

    /// What slots that are started now run.
    pub fn release(&self) -> Release {
        self.release
    }

    /// What slots that are started from now on run. A completed roll to another release sets it, too.
    pub fn set_release(&mut self, release: Release) {
        self.release = release;
    }

    /// The releases that workers run or may be started with: all others can be let go.
    pub fn releases(&self) -> std::collections::BTreeSet<Release> {
        let slots = self.slots.values().filter(|slot| slot.is_wanted() || slot.has_given_up());
        let of_slots = slots
            .flat_map(|slot| slot.trial().map(|trial| trial.release).into_iter().chain([slot.release()]));
        let of_workers = self.workers.values().map(Worker::release);
        of_slots.chain(of_workers).chain([self.release]).chain(self.plan.releases()).collect()
    }

    /// What this worker was started with, or is to be started with.
    pub fn release_of(&self, id: WorkerId) -> Option<Release> {
        self.workers.get(&id).map(Worker::release)
    }

    /// The worker has answered so many requests so far. Of interest while a successor is on trial.
    pub fn handle_figures(&mut self, id: WorkerId, figures: Figures, now: Instant) {
        let now = self.tick(now);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.set_figures(figures);
        let workers = &self.workers;
        let tried = self.slots.get_mut(&id.slot()).filter(|slot| slot.is_on_trial(id)).and_then(|slot| {
            slot.ask_trial(|trial| {
                trial.handle_figures(figures, |other| Some(workers.get(&other)?.figures()))
            })
        });
        self.end_trial(id.slot(), tried, now);
        self.advance(now);
    }
}

/// What comes of trials.
impl Supervisor {
    /// Begins all trials that may begin, and tells the end of a roll.
    pub(crate) fn advance(&mut self, now: Instant) {
        loop {
            self.advance_group(now);
            let sight = self.sight();
            if let Some((id, outcome)) = self.plan.poll_back() {
                self.outbox.push_event(Event::RollingBack { id, outcome });
            } else if let Some(turn) = self.plan.poll_turn(&sight, self.allowance()) {
                self.begin_trial(turn, now);
            } else if let Some(finished) = self.plan.poll_finished() {
                self.finish_roll(finished);
            } else {
                return;
            }
        }
    }

    fn allowance(&self) -> Allowance {
        Allowance { surge: self.policy.max_surge, unavailable: self.policy.max_unavailable }
    }

    /// Nothing at all if nobody is to be replaced.
    fn sight(&self) -> Sight {
        if self.plan.is_empty() {
            return Sight::default();
        }
        let mut sight = Sight { living: self.workers.len(), ..Sight::default() };
        for slot in self.slots.values() {
            let own = self.workers.get(&slot.own()).map(Worker::state);
            if slot.is_wanted() || self.plan.is_pending(slot.number()) {
                sight.wanted += 1;
                let successor = slot.trial().and_then(|trial| self.workers.get(&trial.successor()?));
                let is_ready = own == Some(State::Ready)
                    || successor.is_some_and(|worker| worker.state() == State::Ready);
                sight.unavailable += usize::from(!is_ready);
            }
            if (slot.is_wanted() || slot.has_given_up()) && slot.trial().is_none() {
                let others = self.lives(slot).filter(|id| *id != slot.own()).count();
                let seen = Seen {
                    release: slot.release(),
                    is_busy: others > 0
                        || slot.is_marked()
                        || slot.waits_for_turn()
                        || own.is_some_and(|own| own != State::Ready),
                    is_inhabited: own.is_some(),
                };
                sight.slots.insert(slot.number(), seen);
            }
        }
        sight
    }

    fn begin_trial(&mut self, turn: Turn, now: Instant) {
        let Turn { slot: number, place, trial } = turn;
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let (roll, release, old) = (trial.roll, trial.release, slot.own());
        let successor = slot.begin_trial(trial, place);
        self.outbox.push_event(Event::Replacing { slot: number, id: successor, release, roll });
        match successor {
            Some(id) => self.spawn(id),
            None => drop(self.feed(old, Input::Stop, now)),
        }
    }

    /// Whatever a trial of this slot has come to.
    pub(crate) fn end_trial(&mut self, slot: u32, tried: Option<Tried>, now: Instant) {
        let Some(Tried { roll, successor, result }) = tried else { return };
        match (result, successor) {
            (Ok(taken_over), Some(new)) => {
                self.plan.handle_fit(slot, taken_over.before, taken_over.after, roll);
                self.outbox.push_event(Event::Replaced { old: taken_over.predecessor, new, roll });
                if let Some(old) = taken_over.predecessor {
                    self.feed(old, Input::Stop, now);
                }
            }
            (Ok(_), None) => {}
            (Err(reason), successor) => {
                let is_wanted = self.slots.get(&slot).is_some_and(Slot::is_wanted);
                let event = Event::ReplaceFailed { slot, id: successor, reason: reason.clone(), roll };
                self.outbox.push_event(event);
                // Whoever takes a slot away does not say anything against the release.
                let why = successor.filter(|_| is_wanted).map(|id| (id, reason));
                let speaks_against = why.is_some();
                self.plan.handle_failed(slot, why, roll);
                if let Some(id) = successor {
                    self.feed(id, Input::Stop, now);
                }
                if let (true, Some(roll)) = (speaks_against, roll) {
                    self.recall_trials(roll, now);
                }
            }
        }
    }

    /// Ends what else of a roll is on trial.
    fn recall_trials(&mut self, roll: RollId, now: Instant) {
        let of_roll = |slot: &&Slot| slot.trial().is_some_and(|trial| trial.roll == Some(roll));
        let slots: Vec<u32> = self.slots.values().filter(of_roll).map(Slot::number).collect();
        for number in slots {
            let tried = self.slots.get_mut(&number).and_then(Slot::recall_trial);
            self.end_trial(number, tried, now);
        }
    }

    fn finish_roll(&mut self, finished: Finished) {
        let Finished { id, outcome, replaced, release } = finished;
        if let (crate::RollOutcome::Completed, Some(release)) = (&outcome, release) {
            self.release = release;
        }
        self.outbox.push_event(Event::RollFinished { id, outcome, replaced });
    }

    /// The successor of a slot is ready.
    pub(crate) fn try_ready(&mut self, id: WorkerId, now: Instant) {
        let others = self.workers.values().filter(|other| other.id() != id && other.state() == State::Ready);
        let others: Vec<(WorkerId, Figures)> = others.map(|other| (other.id(), other.figures())).collect();
        let tried = self
            .slots
            .get_mut(&id.slot())
            .filter(|slot| slot.is_on_trial(id))
            .and_then(|slot| slot.ask_trial(|trial| trial.handle_ready(now, others)));
        self.end_trial(id.slot(), tried, now);
    }
}
