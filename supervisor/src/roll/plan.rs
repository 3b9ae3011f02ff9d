//! Which slot is next, and how: the order of all replacements.
//!
//! A roll is a list of slots; a worker that is to be replaced for itself (it has grown, it is old) stands in a line of its own,
//! before it. All share one budget: so many workers more than there are slots, so many slots without a ready worker, for
//! whatever reason. So replacements for different reasons never come at the same time, unless the budget lets them.
//!
//! | phase \ what happens | a slot's turn | fit                 | failed              | interrupted    | replaced, and crashes | abort         | all slots done |
//! |----------------------|---------------|---------------------|---------------------|----------------|-----------------------|---------------|----------------|
//! | Forward              | on trial      | replaced, next      | Back, why           | its turn again | Back, why             | Back, aborted | Completed      |
//! | Back                 | on trial      | has its old release | keeps what it has   | its turn again | -                     | -             | the reason     |
//!
//! Interrupted is a trial that ends for a reason of its slot's: its group is restarted. A crash after it was replaced speaks
//! against another release, not against the same as before.
//! Canaries are the first of a roll that have to be fit: each alone, and nobody else until all of them are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Judge, Release, Roll, RollId, RollOutcome, Trial, Unfit};
use crate::WorkerId;
use crate::status::RollView;

/// How a successor comes to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside its predecessor, who goes when it is fit.
    Beside,
    /// When its predecessor is gone.
    After,
    /// There is nobody.
    Vacant,
}

/// A trial that can begin.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) slot: u32,
    pub(crate) place: Place,
    pub(crate) trial: Trial,
}

/// What there is of a slot, for the question who is next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) release: Release,
    pub(crate) own: WorkerId,
    /// Somebody lives who is not the slot's own: a predecessor that drains. Or the slot's own is leaving. Or it is not its turn.
    pub(crate) is_busy: bool,
    /// Its own worker lives.
    pub(crate) is_inhabited: bool,
    /// Its own worker takes work.
    pub(crate) is_ready: bool,
    /// It was not given up.
    pub(crate) is_wanted: bool,
}

/// What there is in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// Slots that are wanted, or were given up, and are not on trial.
    pub(crate) slots: BTreeMap<u32, Seen>,
    /// Slots that are wanted.
    pub(crate) wanted: usize,
    /// Workers that live, and a place for each wanted slot that has none at the moment.
    pub(crate) living: usize,
    /// Wanted slots without a ready worker.
    pub(crate) unavailable: usize,
    /// Slots that were given up, and are missed.
    pub(crate) given_up: BTreeSet<u32>,
}

impl Sight {
    /// What it is once this trial has begun.
    fn begin(&mut self, slot: u32, place: Place) {
        let Some(seen) = self.slots.remove(&slot) else { return };
        match place {
            Place::Beside => self.living += 1,
            Place::After => self.unavailable += 1,
            Place::Vacant if seen.is_wanted => {}
            Place::Vacant => {
                self.given_up.remove(&slot);
                self.wanted += 1;
                self.living += 1;
                self.unavailable += 1;
            }
        }
    }
}

/// How many workers may be too many, and too few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) surge: u32,
    pub(crate) unavailable: u32,
}

/// What a roll has done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) id: RollId,
    pub(crate) outcome: RollOutcome,
    pub(crate) replaced: u32,
    /// How many of them could not go back.
    pub(crate) stranded: u32,
    pub(crate) release: Option<Release>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    running: Option<Running>,
    /// Workers that are to be replaced for themselves.
    singles: VecDeque<WorkerId>,
    last_id: u64,
}

#[derive(Clone, Debug)]
struct Running {
    id: RollId,
    roll: Roll,
    pending: VecDeque<u32>,
    /// How many have yet to be fit, one after the other, before all others follow.
    canaries: u32,
    on_trial: BTreeSet<u32>,
    /// Slots that were replaced, are wanted still and did not go back, with what they had before.
    replaced: Vec<(u32, Release)>,
    /// How many were replaced in all.
    count: u32,
    paused: bool,
    /// It goes back, for this reason.
    back: Option<RollOutcome>,
    /// That it goes back was told.
    told_back: bool,
}

impl Plan {
    pub(crate) fn begin(&mut self, roll: Roll, slots: impl IntoIterator<Item = u32>) -> RollId {
        self.last_id += 1;
        let id = RollId(self.last_id);
        self.running = Some(Running {
            id,
            pending: slots.into_iter().collect(),
            canaries: roll.canaries,
            roll,
            on_trial: BTreeSet::new(),
            replaced: Vec::new(),
            count: 0,
            paused: false,
            back: None,
            told_back: false,
        });
        id
    }

    pub(crate) fn roll(&self) -> Option<RollId> {
        self.running.as_ref().map(|running| running.id)
    }

    pub(crate) fn view(&self) -> Option<RollView> {
        self.running.as_ref().map(|running| RollView {
            id: running.id,
            release: running.roll.release,
            replaced: running.count,
            is_paused: running.paused,
            is_rolling_back: running.back.is_some(),
        })
    }

    /// That the roll goes back, and why; once.
    pub(crate) fn poll_back(&mut self) -> Option<(RollId, RollOutcome)> {
        let running = self.running.as_mut()?;
        let reason = running.back.as_ref().filter(|_| !running.told_back)?;
        running.told_back = true;
        Some((running.id, reason.clone()))
    }

    /// What may be started for a roll, and is not yet.
    pub(crate) fn releases(&self) -> impl Iterator<Item = Release> {
        let running = self.running.iter();
        running.flat_map(|running| {
            running.replaced.iter().map(|(_, before)| *before).chain(running.roll.release)
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_none() && self.singles.is_empty()
    }

    /// Replaces this worker when there is room for that. Twice is once.
    pub(crate) fn add_single(&mut self, id: WorkerId) {
        if !self.singles.contains(&id) {
            self.singles.push_back(id);
        }
    }

    /// A slot was started with this release: a roll to another one comes to it, too.
    pub(crate) fn handle_started(&mut self, slot: u32, release: Release) {
        let Some(running) = &mut self.running else { return };
        running.pending.retain(|other| *other != slot);
        running.replaced.retain(|(other, _)| *other != slot);
        if running.back.is_none() && running.roll.release.is_some_and(|wanted| wanted != release) {
            running.pending.push_back(slot);
        }
    }

    /// The slot is not wanted any more.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.singles.retain(|other| other.slot() != slot);
        if let Some(running) = &mut self.running {
            running.pending.retain(|other| *other != slot);
            running.replaced.retain(|(other, _)| *other != slot);
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) -> bool {
        self.running.as_mut().is_some_and(|running| std::mem::replace(&mut running.paused, paused) != paused)
    }

    /// Stops the roll. Returns which, if its trials are to be recalled: not if it goes back already.
    pub(crate) fn abort(&mut self) -> Option<RollId> {
        let running = self.running.as_mut()?;
        running.turn_back(RollOutcome::Aborted).then_some(running.id)
    }

    /// All is to end: nothing is replaced or rolled back any more.
    pub(crate) fn clear(&mut self) {
        self.singles.clear();
        if let Some(running) = &mut self.running {
            running.turn_back(RollOutcome::Aborted);
            running.pending.clear();
        }
    }

    /// The successor of a slot took over, which changes what it runs.
    pub(crate) fn handle_fit(
        &mut self,
        new: WorkerId,
        before: Release,
        after: Release,
        roll: Option<RollId>,
    ) {
        let slot = new.slot();
        // Whoever wanted its predecessor replaced has what he wanted.
        self.singles.retain(|other| other.slot() != slot || *other == new);
        let Some(running) = self.of(roll) else { return };
        running.on_trial.remove(&slot);
        let was_replaced = running.replaced.iter().any(|(other, _)| *other == slot);
        if running.back.is_none() {
            running.canaries = running.canaries.saturating_sub(1);
            running.count += 1;
            running.replaced.push((slot, before));
        } else if was_replaced {
            running.replaced.retain(|(other, _)| *other != slot);
        } else if after != before {
            // It was too late to recall it.
            running.count += 1;
            running.replaced.push((slot, before));
            if running.roll.roll_back {
                running.pending.push_back(slot);
            }
        }
    }

    /// The trial of a slot is over, and nobody is to blame: the slot, or its successor, is not wanted any more.
    pub(crate) fn handle_dropped(&mut self, slot: u32, roll: Option<RollId>) {
        if let Some(running) = self.of(roll) {
            running.on_trial.remove(&slot);
        }
    }

    /// The trial of a slot is over for a reason of the slot's own. It gets another turn.
    pub(crate) fn handle_interrupted(&mut self, slot: u32, roll: Option<RollId>) {
        let Some(running) = self.of(roll) else { return };
        running.on_trial.remove(&slot);
        let goes_back = running.roll.roll_back && running.has_changed(slot);
        if running.back.is_none() || goes_back {
            running.pending.push_front(slot);
        }
    }

    /// The successor of a slot was no good. Returns the roll whose trials are to be recalled for that, if one turns back now.
    pub(crate) fn handle_unfit(
        &mut self,
        slot: u32,
        id: WorkerId,
        reason: Unfit,
        roll: Option<RollId>,
    ) -> Option<RollId> {
        let running = self.of(roll)?;
        running.on_trial.remove(&slot);
        running.turn_back(RollOutcome::Failed { id, reason }).then_some(running.id)
    }

    /// A worker has crashed that had proved itself, perhaps too soon. If it was of another release than before, its roll turns
    /// back: returns which, if its trials are to be recalled for that, and what the slot goes back to at once, if it `may`:
    /// not while somebody is on trial there.
    pub(crate) fn handle_crash(
        &mut self,
        id: WorkerId,
        reason: Unfit,
        may: bool,
    ) -> Option<(Option<RollId>, Option<Release>)> {
        let running = self.running.as_mut().filter(|running| running.has_changed(id.slot()))?;
        let roll = running.turn_back(RollOutcome::Failed { id, reason }).then_some(running.id);
        let before = running.replaced.iter().find(|(slot, _)| *slot == id.slot()).map(|(_, before)| *before);
        let goes_back = before.filter(|_| may && running.roll.roll_back);
        if goes_back.is_some() {
            running.pending.retain(|slot| *slot != id.slot());
            running.replaced.retain(|(slot, _)| *slot != id.slot());
        }
        Some((roll, goes_back))
    }

    /// A slot keeps failing, or was given up, after it was replaced. Returns the roll whose trials are to be recalled for that.
    pub(crate) fn handle_failing(&mut self, id: WorkerId, reason: Unfit) -> Option<RollId> {
        let is_replaced =
            |running: &&mut Running| running.replaced.iter().any(|(slot, _)| *slot == id.slot());
        let running = self.running.as_mut().filter(is_replaced)?;
        running.turn_back(RollOutcome::Failed { id, reason }).then_some(running.id)
    }

    fn of(&mut self, roll: Option<RollId>) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| Some(running.id) == roll)
    }

    /// The next trial that can begin, given what there is.
    ///
    /// `sight` is then what there is once it has begun.
    pub(crate) fn poll_turn(&mut self, sight: &mut Sight, allowance: Allowance) -> Option<Turn> {
        let turn = self.poll_single(sight, allowance);
        let turn = turn.or_else(|| self.running.as_mut()?.poll_turn(sight, allowance))?;
        sight.begin(turn.slot, turn.place);
        Some(turn)
    }

    fn poll_single(&mut self, sight: &Sight, allowance: Allowance) -> Option<Turn> {
        let is_there = |seen: &Seen, id: WorkerId| seen.own == id && seen.is_inhabited;
        self.singles.retain(|id| sight.slots.get(&id.slot()).is_none_or(|seen| is_there(seen, *id)));
        let (at, slot, place, release) = (0..self.singles.len()).find_map(|at| {
            let slot = self.singles.get(at)?.slot();
            let seen = sight.slots.get(&slot)?;
            Some((at, slot, place(seen, sight, sight.given_up.len(), allowance)?, seen.release))
        })?;
        self.singles.remove(at);
        Some(Turn { slot, place, trial: Trial::new(release, Duration::ZERO, Judge::new(), None) })
    }

    /// The end of the roll, when it is over.
    pub(crate) fn poll_finished(&mut self) -> Option<Finished> {
        let running =
            self.running.take_if(|running| running.pending.is_empty() && running.on_trial.is_empty())?;
        let stranded = running.stranded();
        // Where every slot was taken away from it nothing was completed.
        let forward = if running.count == 0 { RollOutcome::Aborted } else { RollOutcome::Completed };
        let outcome = running.back.unwrap_or(forward);
        let (replaced, release) = (running.count, running.roll.release);
        Some(Finished { id: running.id, outcome, replaced, stranded, release })
    }
}

impl Running {
    fn poll_turn(&mut self, sight: &Sight, allowance: Allowance) -> Option<Turn> {
        let is_canary = self.canaries > 0 && self.back.is_none();
        if self.paused || (is_canary && !self.on_trial.is_empty()) {
            return None;
        }
        let is_missing = |slot: &u32| sight.slots.get(slot).is_some_and(|seen| !seen.is_ready);
        let missing = self.replaced.iter().filter(|(slot, _)| is_missing(slot)).count();
        if self.back.is_none() && missing > allowance.unavailable as usize {
            // They come first: a roll that goes on whatever becomes of those it has replaced leaves nobody to serve.
            return None;
        }
        // Those that were given up and are not its to bring back would hold it up for ever.
        let missing = self.pending.iter().filter(|slot| sight.given_up.contains(slot)).count();
        let next = (0..self.pending.len()).find_map(|at| {
            let slot = *self.pending.get(at)?;
            let seen = sight.slots.get(&slot)?;
            Some((at, slot, place(seen, sight, missing, allowance)?, seen.release))
        });
        let (at, slot, place, current) = next?;
        self.pending.remove(at);
        self.on_trial.insert(slot);
        let old = self.replaced.iter().find(|(other, _)| *other == slot).map(|(_, release)| *release);
        let (release, bake) = match (&self.back, is_canary) {
            (Some(_), _) => (old.unwrap_or(current), Duration::ZERO),
            (None, true) => (self.roll.release.unwrap_or(current), self.roll.canary_bake),
            (None, false) => (self.roll.release.unwrap_or(current), self.roll.bake),
        };
        Some(Turn { slot, place, trial: Trial::new(release, bake, self.roll.judge, Some(self.id)) })
    }

    /// The first reason counts. Returns whether this is it.
    fn turn_back(&mut self, reason: RollOutcome) -> bool {
        if self.back.is_some() {
            return false;
        }
        self.back = Some(reason);
        self.paused = false;
        self.pending.clear();
        if self.roll.roll_back {
            self.pending = self.changed().rev().collect();
        }
        true
    }

    /// Slots that run another release by now than before.
    fn changed(&self) -> impl DoubleEndedIterator<Item = u32> {
        let is_changed = |before: Release| self.roll.release.is_some_and(|release| release != before);
        self.replaced.iter().filter(move |(_, before)| is_changed(*before)).map(|(slot, _)| *slot)
    }

    fn has_changed(&self, slot: u32) -> bool {
        self.changed().any(|other| other == slot)
    }

    /// How many keep the new release although they were to go back.
    fn stranded(&self) -> u32 {
        let should_go_back = self.back.is_some() && self.roll.roll_back;
        if should_go_back { self.changed().count() as u32 } else { 0 }
    }
}

/// How a successor may come to this slot now, if it may. So many slots are missing beside those that are wanted.
fn place(seen: &Seen, sight: &Sight, missing: usize, allowance: Allowance) -> Option<Place> {
    if seen.is_busy {
        return None;
    }
    if !seen.is_inhabited {
        return Some(Place::Vacant);
    }
    // With neither nothing could ever be replaced.
    let surge = if allowance.surge == 0 && allowance.unavailable == 0 { 1 } else { allowance.surge };
    if sight.living < sight.wanted.saturating_add(surge as usize) {
        return Some(Place::Beside);
    }
    (sight.unavailable + missing < allowance.unavailable as usize).then_some(Place::After)
}
