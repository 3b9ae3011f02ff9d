//! The part of the supervisor that replaces workers and changes how many there are: it carries out what the
//! [plan](crate::roll) says, and tells the plan what came of it.

use std::time::Instant;

use crate::roll::{Allowance, Figures, Finished, Release, Roll, RollId, RollRefused, Seen, Sight, Turn};
use crate::slot::{Ending, Recalled, Slot, Tried};
use crate::state::{Input, State};
use crate::worker::Worker;
use crate::{Event, RollView, Supervisor, WorkerId};

/// What the user wants of workers that live.
impl Supervisor {
    /// Replaces the workers of all slots, slots that were given up included, by the rules of `roll` and as many at a time as the
    /// [`Policy`](crate::Policy) allows. How it ends is told by [`Event::RollFinished`].
    ///
    /// Slots that are started meanwhile belong to it as well. It waits while more of those that it has replaced are without a
    /// ready worker than may be missing; and it fails if one of them crashes that runs another release than before, or keeps crashing.
    ///
    /// # Errors
    ///
    /// [`RollRefused`]; nothing has changed then.
    pub fn roll(&mut self, roll: Roll, now: Instant) -> Result<RollId, RollRefused> {
        let now = self.tick(now);
        if let Some(id) = self.plan.roll() {
            return Err(RollRefused::Busy(id));
        }
        let slots: Vec<u32> = self.slots.values().filter(|slot| slot.is_missed()).map(Slot::number).collect();
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
        if let Some(id) = self.plan.abort() {
            self.recall_trials(id, now);
        }
        self.advance(now);
    }

    /// Replaces this worker for its own sake (it has grown, it is old) when there is room for that: its successor first, and
    /// never at the same time as another replacement, unless the [`Policy`](crate::Policy) allows it.
    ///
    /// Nothing happens for one that is not its slot's own, or that is on its way out.
    pub fn replace(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        let is_own = self.slots.get(&id.slot()).is_some_and(|slot| slot.own() == id && slot.is_wanted());
        let state = self.workers.get(&id).map(Worker::state);
        if is_own && matches!(state, Some(State::Spawning | State::Starting | State::Ready)) {
            self.plan.add_single(id);
            self.advance(now);
        }
    }

    /// Wants so many slots: starts what is missing, or stops slots, those first that were given up and then those that were started
    /// last.
    ///
    /// A slot that was given up counts, and is not started again by this: said again and again, it would be a crash loop without end.
    pub fn scale(&mut self, slots: usize, now: Instant) {
        let now = self.tick(now);
        let missed = self.slots.values().filter(|slot| slot.is_missed());
        let mut missed: Vec<_> =
            missed.map(|slot| (slot.has_given_up(), slot.started(), slot.own())).collect();
        for _ in missed.len()..slots {
            self.start_slot(std::sync::Arc::clone(&self.policy), |slot| !slot.is_missed());
        }
        missed.sort_unstable();
        for (_, _, id) in missed.into_iter().skip(slots).rev() {
            self.end(id, now);
        }
        self.advance(now);
    }

    /// How many slots should have a worker: those that were given up among them. What [`scale`](Self::scale) sets.
    pub fn size(&self) -> usize {
        self.slots.values().filter(|slot| slot.is_missed()).count()
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
        let slots = self.slots.values().filter(|slot| slot.is_missed());
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
        // Figures alone change nothing for others, and come often.
        if tried.is_some() {
            self.end_trial(id.slot(), tried, now);
            self.advance(now);
        }
    }
}

/// What comes of trials.
impl Supervisor {
    /// Begins all trials that may begin, and tells the end of a roll.
    pub(crate) fn advance(&mut self, now: Instant) {
        loop {
            self.advance_group(now);
            if let Some((id, outcome)) = self.plan.poll_back() {
                self.outbox.push_event(Event::RollingBack { id, outcome });
            }
            if !self.begin_trials(now) {
                let Some(finished) = self.plan.poll_finished() else { return };
                self.finish_roll(finished);
            }
        }
    }

    /// Begins all trials that may begin; returns whether there were any.
    fn begin_trials(&mut self, now: Instant) -> bool {
        let (mut sight, allowance) = (self.sight(), self.allowance());
        let mut has_begun = false;
        while let Some(turn) = self.plan.poll_turn(&mut sight, allowance) {
            self.begin_trial(turn, now);
            has_begun = true;
            if self.policy.group.is_ordered() {
                // In a group one slot's turn may depend on another's.
                break;
            }
        }
        has_begun
    }

    fn allowance(&self) -> Allowance {
        Allowance { surge: self.policy.max_surge, unavailable: self.policy.max_unavailable }
    }

    /// Nothing at all if nobody is to be replaced.
    fn sight(&self) -> Sight {
        if self.plan.is_empty() {
            return Sight::default();
        }
        let mut sight = Sight::default();
        let has_turn = self.who_has_turn();
        for slot in self.slots.values() {
            let own = self.workers.get(&slot.own()).map(Worker::state);
            let others = self.lives(slot).count() - usize::from(own.is_some());
            sight.wanted += usize::from(slot.is_wanted());
            sight.living += others + usize::from(slot.is_wanted() || own.is_some());
            if !slot.is_missed() {
                continue;
            }
            let is_ready = |state: Option<State>| state == Some(State::Ready);
            let successor = slot.trial().and_then(|trial| self.workers.get(&trial.successor()?));
            let serves = is_ready(own) || is_ready(successor.map(Worker::state));
            if slot.is_wanted() {
                sight.unavailable += usize::from(!serves);
            } else {
                sight.given_up.insert(slot.number());
            }
            if slot.trial().is_none() {
                let seen = Seen {
                    release: slot.release(),
                    own: slot.own(),
                    is_busy: others > 0
                        || slot.is_marked()
                        || slot.waits_for_turn()
                        || own.is_some_and(|own| own != State::Ready)
                        || !has_turn(slot),
                    is_inhabited: own.is_some(),
                    is_ready: is_ready(own),
                    is_wanted: slot.is_wanted(),
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
                self.plan.handle_fit(new, taken_over.before, taken_over.after, roll);
                self.outbox.push_event(Event::Replaced { old: taken_over.predecessor, new, roll });
                if let Some(old) = taken_over.predecessor {
                    self.count_service(old, new, now);
                    self.feed(old, Input::Stop, now);
                }
            }
            (Ok(_), None) => {}
            (Err((reason, ending)), successor) => {
                let event = Event::ReplaceFailed { slot, id: successor, reason: reason.clone(), roll };
                self.outbox.push_event(event);
                let turned_back = match (ending, successor) {
                    (Ending::Fault, Some(id)) => self.plan.handle_unfit(slot, id, reason, roll),
                    (Ending::Fault, None) | (Ending::Dropped, _) => {
                        self.plan.handle_dropped(slot, roll);
                        None
                    }
                    (Ending::Interrupted, _) => {
                        self.plan.handle_interrupted(slot, roll);
                        None
                    }
                };
                if let Some(id) = successor {
                    self.feed(id, Input::Stop, now);
                }
                if let Some(roll) = turned_back {
                    self.recall_trials(roll, now);
                }
            }
        }
    }

    /// A predecessor has served until now, the last part of it beside its successor, whose time is counted at its end.
    fn count_service(&mut self, old: WorkerId, new: WorkerId, now: Instant) {
        let ready_for =
            |id| self.workers.get(&id).and_then(|worker| worker.ready_for(now)).unwrap_or_default();
        let alone = ready_for(old).saturating_sub(ready_for(new));
        if let Some(slot) = self.slots.get_mut(&old.slot()) {
            slot.serve(alone);
        }
    }

    /// Ends what is on trial of a roll that has just turned back: once, since what is on trial from then on goes back.
    pub(crate) fn recall_trials(&mut self, roll: RollId, now: Instant) {
        let of_roll = |slot: &&Slot| slot.trial().is_some_and(|trial| trial.roll == Some(roll));
        let slots: Vec<u32> = self.slots.values().filter(of_roll).map(Slot::number).collect();
        for number in slots {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            let own = self.workers.get(&slot.own()).map(Worker::state);
            match slot.recall_trial(own == Some(State::Ready)) {
                Recalled::Nothing => {}
                Recalled::MakesWay => {
                    let release = slot.release();
                    let event = Event::Replacing { slot: number, id: None, release, roll: Some(roll) };
                    self.outbox.push_event(event);
                }
                Recalled::Over(tried) => self.end_trial(number, Some(tried), now),
            }
        }
    }

    fn finish_roll(&mut self, finished: Finished) {
        let Finished { id, outcome, replaced, stranded, release } = finished;
        if let (crate::RollOutcome::Completed, Some(release)) = (&outcome, release) {
            self.release = release;
        }
        self.outbox.push_event(Event::RollFinished { id, outcome, replaced, stranded });
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
