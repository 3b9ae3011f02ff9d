//! One life of one worker: its state, its deadline and its story.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exit::{SIGKILL, SIGTERM};
use crate::outbox::Outbox;
use crate::roll::{Figures, Release};
use crate::state::{Input, State, cause};
use crate::{Action, Event, Exit, ExitCause, Policy, StopSignal, WorkerId};

/// A worker from the decision to spawn it until its exit was handled.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    id: WorkerId,
    release: Release,
    policy: Arc<Policy>,
    figures: Figures,
    state: State,
    deadline: Option<Instant>,
    /// Why it is on its way out, once it is.
    cause: Option<ExitCause>,
    /// It was sent SIGKILL.
    is_killed: bool,
    online: bool,
    spawned_at: Option<Instant>,
    ready_since: Option<Instant>,
    /// When it stopped being ready. Dying may take long and is no merit.
    ready_until: Option<Instant>,
}

/// How a life ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) id: WorkerId,
    pub(crate) exit: Exit,
    pub(crate) cause: ExitCause,
    /// How long it had been ready, `None` when it never was.
    pub(crate) ready_for: Option<Duration>,
}

impl Worker {
    /// A new life, with the order to begin it.
    pub(crate) fn spawn(id: WorkerId, release: Release, policy: Arc<Policy>, out: &mut Outbox) -> Self {
        out.push_event(Event::Starting { id, release });
        let state = State::Spawning;
        if let Some(action) = state.action(id) {
            out.push_action(action);
        }
        Self {
            id,
            release,
            policy,
            figures: Figures::default(),
            state,
            deadline: None,
            cause: None,
            is_killed: false,
            online: false,
            spawned_at: None,
            ready_since: None,
            ready_until: None,
        }
    }

    /// Takes an input; the resulting actions and events go to `out`.
    pub(crate) fn handle(&mut self, input: Input, now: Instant, out: &mut Outbox) {
        if (self.state, input, self.online) == (State::Starting, Input::Online, false) {
            self.online = true;
            out.push_event(Event::Online { id: self.id });
        }
        let next = self.state.next(input);
        if next == self.state {
            return;
        }
        let last = std::mem::replace(&mut self.state, next);
        self.deadline = next.deadline(now, &self.policy);

        if input == Input::Spawned {
            self.spawned_at = Some(now);
            out.push_event(Event::Spawned { id: self.id });
        }
        if next == State::Ready {
            self.ready_since = Some(now);
            out.push_event(Event::Ready { id: self.id });
        }
        let was_leaving = self.cause.is_some();
        self.cause = cause(self.cause, next, input);
        if let (false, Some(cause)) = (was_leaving, self.cause) {
            out.push_event(Event::Stopping { id: self.id, cause });
        }
        if last == State::Ready {
            self.ready_until = Some(now);
            out.push_action(Action::Withdraw(self.id));
        }
        if let Some(action) = next.action(self.id) {
            self.is_killed |= matches!(action, Action::Signal(_, StopSignal::Kill));
            out.push_action(action);
        }
    }

    /// Lets all deadlines up to `now` pass. Afterwards the next one, if any, is later than `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        // More than one can pass when a policy has steps of zero length.
        // It ends, as every timeout leads to a later state and `Killed` has no deadline.
        while self.deadline.is_some_and(|deadline| deadline <= now) {
            self.handle(Input::Timeout, now, out);
        }
    }

    /// The story of this life, now that it ended with `exit`.
    pub(crate) fn ended(&self, exit: Exit, now: Instant) -> Ended {
        Ended { id: self.id, exit, cause: self.exit_cause(exit), ready_for: self.ready_for(now) }
    }

    fn exit_cause(&self, exit: Exit) -> ExitCause {
        let by_itself = if self.ready_since.is_some() { ExitCause::Crash } else { ExitCause::BootFailure };
        match (self.cause, exit) {
            // The kernel closes a dying process's channel a moment before it reports the exit, so every crash can
            // look like a lost channel first. A signal that is not ours gives it away.
            (Some(ExitCause::ChannelLost), Exit::Signal(signal))
                if signal != SIGTERM && (signal != SIGKILL || !self.is_killed) =>
            {
                by_itself
            }
            // Whoever goes before it has begun has not got ready, however politely.
            (Some(ExitCause::Left), Exit::Signal(_) | Exit::Code(_)) if self.ready_since.is_none() => {
                by_itself
            }
            (Some(cause), Exit::Signal(_) | Exit::Code(_)) => cause,
            (None, Exit::Signal(_) | Exit::Code(_)) => by_itself,
        }
    }

    pub(crate) const fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) const fn release(&self) -> Release {
        self.release
    }

    pub(crate) const fn figures(&self) -> Figures {
        self.figures
    }

    pub(crate) const fn set_figures(&mut self, figures: Figures) {
        self.figures = figures;
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) const fn spawned_at(&self) -> Option<Instant> {
        self.spawned_at
    }

    pub(crate) const fn ready_since(&self) -> Option<Instant> {
        self.ready_since
    }

    pub(crate) fn ready_for(&self, now: Instant) -> Option<Duration> {
        let since = self.ready_since?;
        Some(self.ready_until.unwrap_or(now).saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[allow(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn ready_worker() -> (Worker, Instant, Outbox) {
        let (now, mut out) = (Instant::now(), Outbox::default());
        let mut worker = Worker::spawn(WorkerId::new(0, 1), Release::default(), Arc::default(), &mut out);
        for input in [Input::Spawned, Input::Online, Input::Ready] {
            worker.handle(input, now, &mut out);
        }
        (worker, now, out)
    }

    #[test]
    fn a_crash_that_shows_first_as_a_lost_channel_is_still_a_crash() {
        let (mut worker, now, mut out) = ready_worker();
        worker.handle(Input::ChannelLost, now, &mut out);
        assert_eq!(worker.exit_cause(Exit::Signal(11)), ExitCause::Crash);
        assert_eq!(worker.exit_cause(Exit::Signal(15)), ExitCause::ChannelLost);
        assert_eq!(
            worker.exit_cause(Exit::Code(0)),
            ExitCause::ChannelLost,
            "it may have handled our SIGTERM"
        );
    }

    #[test]
    fn time_spent_dying_does_not_count_as_being_ready() {
        let (mut worker, now, mut out) = ready_worker();
        worker.handle(Input::Unhealthy, now + 5 * SECOND, &mut out);
        assert_eq!(worker.ready_for(now + 500 * SECOND), Some(5 * SECOND));
    }

    #[test]
    fn online_is_told_once() {
        let (now, mut out) = (ready_worker().1, Outbox::default());
        let mut worker = Worker::spawn(WorkerId::new(0, 1), Release::default(), Arc::default(), &mut out);
        for input in [Input::Online, Input::Spawned, Input::Online, Input::Online] {
            worker.handle(input, now, &mut out);
        }
        let events: Vec<_> = std::iter::from_fn(|| out.poll_event()).collect();
        let id = worker.id();
        let release = Release::default();
        assert_eq!(events, [Event::Starting { id, release }, Event::Spawned { id }, Event::Online { id }]);
    }
}
