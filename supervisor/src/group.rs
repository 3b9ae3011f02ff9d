//! Workers that need one another: in which order they start and stop, and who goes down with whom.
//!
//! The strategies of Erlang's supervisors (*OTP Design Principles*, "Supervisor Behaviour"), for slots in the order in which they were
//! started:
//!
//! | strategy | when a worker is to be restarted | start | stop |
//! |---|---|---|---|
//! | one for one | nobody else is touched | all at once | all at once |
//! | one for all | all others are stopped before, and started again | in order | in reverse order |
//! | rest for one | those started after it are stopped before, and started again | in order | in reverse order |
//!
//! In order: the next is spawned when the one before it is ready. In reverse: the next is asked when the one after it has ended.
//! There is no list of things to do that a crash in between could make wrong: what to do next follows from who is where, each
//! time anew.

use std::time::Instant;

use crate::roll::Unfit;
use crate::slot::{Ending, Slot};
use crate::state::{Input, State};
use crate::{Supervisor, WorkerId};

/// Who goes down with whom, and in which order: see [`Policy::group`](crate::Policy::group).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Group {
    /// Workers do not need one another. The default.
    #[default]
    OneForOne,
    /// Each needs all others: when one is restarted, all are.
    OneForAll,
    /// Each needs those that were started before it: when one is restarted, those after it are, too.
    RestForOne,
}

impl Group {
    /// Whether workers start and stop one after the other.
    pub(crate) const fn is_ordered(self) -> bool {
        match self {
            Self::OneForOne => false,
            Self::OneForAll | Self::RestForOne => true,
        }
    }
}

impl Supervisor {
    /// The worker of this slot is to be restarted: marks those who go down with it.
    pub(crate) fn mark(&mut self, failed: u32, now: Instant) {
        let group = self.policy.group;
        let Some(since) = self.slots.get(&failed).map(Slot::started) else { return };
        let goes_down = |slot: &&Slot| {
            slot.number() != failed
                && slot.is_wanted()
                && match group {
                    Group::OneForOne => false,
                    Group::OneForAll => true,
                    Group::RestForOne => slot.started() > since,
                }
        };
        let numbers: Vec<u32> = self.slots.values().filter(goes_down).map(Slot::number).collect();
        for number in numbers {
            let tried = self.slots.get_mut(&number).and_then(|slot| {
                slot.mark();
                slot.end_trial(Unfit::Recalled, Ending::Interrupted)
            });
            self.end_trial(number, tried, now);
        }
    }

    /// Takes the next step of a group that starts and stops in order, if there is one to take.
    pub(crate) fn advance_group(&mut self, now: Instant) {
        if !self.policy.group.is_ordered() {
            return;
        }
        if let Some(id) = self.last_to_stop() {
            self.feed(id, Input::Stop, now);
        } else if !self.is_stopping_some()
            && let Some(slot) = self.first_to_start().and_then(|number| self.slots.get_mut(&number))
        {
            let id = slot.take_turn();
            self.spawn(id);
        }
    }

    /// Slots with somebody in them who has to go, the last started first.
    fn leaving(&self) -> impl Iterator<Item = WorkerId> {
        let has_to_go = |id: &WorkerId| {
            self.slots
                .get(&id.slot())
                .is_some_and(|slot| slot.own() == *id && (slot.is_marked() || !slot.is_wanted()))
        };
        let mut all: Vec<WorkerId> = self.workers.keys().copied().filter(has_to_go).collect();
        all.sort_unstable_by_key(|id| {
            std::cmp::Reverse(self.slots.get(&id.slot()).map(|slot| slot.started()))
        });
        all.into_iter()
    }

    fn is_stopping_some(&self) -> bool {
        self.leaving().next().is_some()
    }

    /// Who is to be asked to stop now: the last of those who have to, unless somebody was asked and has not gone.
    fn last_to_stop(&self) -> Option<WorkerId> {
        let id = self.leaving().next()?;
        let state = self.workers.get(&id)?.state();
        matches!(state, State::Spawning | State::Starting | State::Ready).then_some(id)
    }

    /// The first slot that is not ready, if it waits for its turn.
    fn first_to_start(&self) -> Option<u32> {
        let first = self.first_not_ready()?;
        first.waits_for_turn().then(|| first.number())
    }

    fn first_not_ready(&self) -> Option<&Slot> {
        let is_ready =
            |id: WorkerId| self.workers.get(&id).is_some_and(|worker| worker.state() == State::Ready);
        let wanted = self.slots.values().filter(|slot| slot.is_wanted() && !is_ready(slot.own()));
        wanted.min_by_key(|slot| slot.started())
    }

    /// Which slots may get a successor: in order, those behind which nobody waits.
    pub(crate) fn who_has_turn(&self) -> impl Fn(&Slot) -> bool {
        let is_ordered = self.policy.group.is_ordered();
        let is_stopping = is_ordered && self.is_stopping_some();
        let first = if is_ordered { self.first_not_ready().map(Slot::started) } else { None };
        move |slot| !is_stopping && first.is_none_or(|first| slot.started() <= first)
    }
}
