//! What waits to be polled.

use std::collections::VecDeque;

use crate::{Action, Event, WorkerId};

/// Events are kept for a driver that polls now and then, not for one that never does.
const MAX_EVENTS: usize = 8192;

/// The actions and events that the driver has not polled yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    /// Bounded by nature: a life has at most six actions, and no life begins before the driver answered the last.
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    lost_events: u64,
}

impl Outbox {
    pub(crate) fn push_action(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Adds an event; the oldest one makes room for it when nobody polls them.
    pub(crate) fn push_event(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.lost_events += 1;
        }
        self.events.push_back(event);
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) const fn lost_events(&self) -> u64 {
        self.lost_events
    }

    /// Drops the actions on a worker that is gone, so that none reaches a stranger or the void.
    ///
    /// Its `Withdraw` stays, unless the `Admit` before it has not been polled either: then neither is needed.
    pub(crate) fn forget(&mut self, id: WorkerId) {
        let never_admitted = self.actions.contains(&Action::Admit(id));
        self.actions
            .retain(|&action| action.id() != id || (action == Action::Withdraw(id) && !never_admitted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdraw_outlives_the_worker_only_when_its_admit_was_polled() {
        let (gone, other) = (WorkerId::new(0, 1), WorkerId::new(1, 1));
        let mut outbox = Outbox::default();
        outbox.push_action(Action::Admit(gone));
        outbox.push_action(Action::AskStop(other));
        outbox.push_action(Action::Withdraw(gone));
        let mut polled = outbox.clone();

        outbox.forget(gone);
        assert_eq!(outbox.poll_action(), Some(Action::AskStop(other)));
        assert_eq!(outbox.poll_action(), None);

        assert_eq!(polled.poll_action(), Some(Action::Admit(gone)));
        polled.forget(gone);
        assert_eq!(polled.poll_action(), Some(Action::AskStop(other)));
        assert_eq!(polled.poll_action(), Some(Action::Withdraw(gone)));
    }

    #[test]
    fn events_that_nobody_polls_do_not_pile_up() {
        let mut outbox = Outbox::default();
        for generation in 0..10_000 {
            outbox.push_event(Event::Online { id: WorkerId::new(0, generation) });
        }
        assert_eq!(outbox.events.len(), MAX_EVENTS);
        assert_eq!(outbox.lost_events(), 10_000 - MAX_EVENTS as u64);
        let oldest = Event::Online { id: WorkerId::new(0, 10_000 - MAX_EVENTS as u32) };
        assert_eq!(outbox.poll_event(), Some(oldest), "the newest are kept");
    }
}
