//! Which slot is next, and how: the order of all replacements.
//!
//! A roll is a list of slots; a worker that is to be replaced for itself (it has grown, it is old) stands in a line of its own,
//! before it. All share one budget: so many workers more than there are slots, so many slots without a ready worker, for
//! whatever reason. So replacements for different reasons never come at the same time, unless the budget lets them.
//!
//! | phase \ what happens | a slot's turn | fit                 | failed              | abort              | all slots done |
//! |----------------------|---------------|---------------------|---------------------|--------------------|----------------|
//! | Forward              | on trial      | replaced, next      | Back, why           | Back, aborted      | Completed      |
//! | Back                 | on trial      | has its old release | keeps what it has   | -                  | the reason     |
//!
//! Canaries are the first slots of a roll: each alone, and nobody else until all of them are fit.

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
    /// Somebody lives who is not the slot's own: a predecessor that drains. Or the slot's own is leaving.
    pub(crate) is_busy: bool,
    /// Its own worker lives.
    pub(crate) is_inhabited: bool,
}

/// What there is in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// Slots that are wanted and not on trial.
    pub(crate) slots: BTreeMap<u32, Seen>,
    /// Slots that are wanted.
    pub(crate) wanted: usize,
    /// Workers that live.
    pub(crate) living: usize,
    /// Wanted slots without a ready worker.
    pub(crate) unavailable: usize,
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
    pub(crate) release: Option<Release>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    running: Option<Running>,
    /// Slots whose worker is to be replaced for itself.
    singles: VecDeque<u32>,
    last_id: u64,
}

#[derive(Clone, Debug)]
struct Running {
    id: RollId,
    roll: Roll,
    pending: VecDeque<u32>,
    /// How many of `pending` are canaries, or on trial as such.
    canaries: usize,
    on_trial: BTreeSet<u32>,
    /// Slots that were replaced and are wanted still, with what they had before.
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
        let pending: VecDeque<u32> = slots.into_iter().collect();
        let canaries = pending.len().min(roll.canaries as usize);
        let (on_trial, replaced) = (BTreeSet::new(), Vec::new());
        self.running = Some(Running {
            id,
            roll,
            pending,
            canaries,
            on_trial,
            replaced,
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

    /// Whether the roll has yet to come to this slot.
    pub(crate) fn is_pending(&self, slot: u32) -> bool {
        self.running.as_ref().is_some_and(|running| running.pending.contains(&slot))
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_none() && self.singles.is_empty()
    }

    /// Replaces the worker of this slot when there is room for that. Twice is once.
    pub(crate) fn add_single(&mut self, slot: u32) {
        if !self.singles.contains(&slot) {
            self.singles.push_back(slot);
        }
    }

    /// The slot is not wanted any more.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.singles.retain(|other| *other != slot);
        if let Some(running) = &mut self.running {
            running.drop_pending(slot);
            running.replaced.retain(|(other, _)| *other != slot);
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) -> bool {
        self.running.as_mut().is_some_and(|running| std::mem::replace(&mut running.paused, paused) != paused)
    }

    /// Stops the roll. Its trials are for the caller to end.
    pub(crate) fn abort(&mut self) {
        if let Some(running) = &mut self.running {
            running.turn_back(RollOutcome::Aborted);
        }
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
    pub(crate) fn handle_fit(&mut self, slot: u32, before: Release, after: Release, roll: Option<RollId>) {
        // Whoever wanted it replaced has what he wanted.
        self.singles.retain(|other| *other != slot);
        let Some(running) = self.of(roll) else { return };
        running.on_trial.remove(&slot);
        running.canaries = running.canaries.saturating_sub(1);
        let is_new = running.replaced.iter().all(|(other, _)| *other != slot);
        if running.back.is_none() {
            running.count += 1;
            running.replaced.push((slot, before));
        } else if is_new && after != before {
            // It was too late to recall it.
            running.count += 1;
            running.replaced.push((slot, before));
            if running.roll.roll_back {
                running.pending.push_back(slot);
            }
        }
    }

    /// The successor of a slot did not take over, or the slot is not wanted any more (`None`).
    pub(crate) fn handle_failed(&mut self, slot: u32, why: Option<(WorkerId, Unfit)>, roll: Option<RollId>) {
        let Some(running) = self.of(roll) else { return };
        running.on_trial.remove(&slot);
        running.canaries = running.canaries.saturating_sub(1);
        if let Some((id, reason)) = why {
            running.turn_back(RollOutcome::Failed { id, reason });
        }
    }

    fn of(&mut self, roll: Option<RollId>) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| Some(running.id) == roll)
    }

    /// The next trial that can begin, given what there is.
    pub(crate) fn poll_turn(&mut self, sight: &Sight, allowance: Allowance) -> Option<Turn> {
        self.singles.retain(|slot| sight.slots.get(slot).is_none_or(|seen| seen.is_inhabited));
        let single = (0..self.singles.len()).find_map(|at| {
            let slot = *self.singles.get(at)?;
            let seen = sight.slots.get(&slot)?;
            Some((at, slot, place(seen, sight, allowance)?, seen.release))
        });
        if let Some((at, slot, place, release)) = single {
            self.singles.remove(at);
            return Some(Turn {
                slot,
                place,
                trial: Trial::new(release, Duration::ZERO, Judge::new(), None),
            });
        }
        self.running.as_mut()?.poll_turn(sight, allowance)
    }

    /// The end of the roll, when it is over.
    pub(crate) fn poll_finished(&mut self) -> Option<Finished> {
        let running =
            self.running.take_if(|running| running.pending.is_empty() && running.on_trial.is_empty())?;
        let outcome = running.back.unwrap_or(RollOutcome::Completed);
        Some(Finished { id: running.id, outcome, replaced: running.count, release: running.roll.release })
    }
}

impl Running {
    fn poll_turn(&mut self, sight: &Sight, allowance: Allowance) -> Option<Turn> {
        let is_canary = self.canaries > 0 && self.back.is_none();
        if self.paused || (is_canary && !self.on_trial.is_empty()) {
            return None;
        }
        let next = (0..self.pending.len()).find_map(|at| {
            let slot = *self.pending.get(at)?;
            let seen = sight.slots.get(&slot)?;
            Some((at, slot, place(seen, sight, allowance)?, seen.release))
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

    /// The first reason counts.
    fn turn_back(&mut self, reason: RollOutcome) {
        if self.back.is_some() {
            return;
        }
        self.back = Some(reason);
        self.paused = false;
        self.pending.clear();
        if let (true, Some(release)) = (self.roll.roll_back, self.roll.release) {
            let changed = self.replaced.iter().filter(|(_, before)| *before != release);
            self.pending = changed.map(|(slot, _)| *slot).rev().collect();
        }
    }

    fn drop_pending(&mut self, slot: u32) {
        let before = self.pending.len();
        let canaries: BTreeSet<u32> = self.pending.iter().take(self.canaries).copied().collect();
        self.pending.retain(|other| *other != slot);
        if self.pending.len() != before && canaries.contains(&slot) {
            self.canaries -= 1;
        }
    }
}

/// How a successor may come to this slot now, if it may.
fn place(seen: &Seen, sight: &Sight, allowance: Allowance) -> Option<Place> {
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
    (sight.unavailable < allowance.unavailable as usize).then_some(Place::After)
}
