//! A supervisor on a clock that stands still until a test moves it.

#![allow(dead_code, reason = "each test file is its own crate and uses its own part")]
#![allow(clippy::expect_used, reason = "helpers of tests may panic as tests may")]

use std::time::{Duration, Instant};

use cluster_supervisor::{Action, Backoff, Event, Exit, Policy, Supervisor, WorkerId};

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const SIGABRT: Exit = Exit::Signal(6);
pub(crate) const SIGKILL: Exit = Exit::Signal(9);

/// One instant to count from: everything after it is virtual.
#[allow(clippy::disallowed_methods)]
pub(crate) fn base() -> Instant {
    Instant::now()
}

/// The default policy with waits that a test can foresee.
pub(crate) fn policy() -> Policy {
    Policy::new().backoff(Backoff::new().jitter_percent(0))
}

#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) supervisor: Supervisor,
    pub(crate) now: Instant,
}

impl Stage {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { supervisor: Supervisor::new(policy, 1), now: base() }
    }

    /// All actions since the last look.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.supervisor.poll_action()).collect()
    }

    /// All events since the last look, but for those that only say what was wanted.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.supervisor.poll_event());
        events.filter(|event| !matches!(event, Event::Starting { .. } | Event::Stopped { .. })).collect()
    }

    /// Forgets the actions and events so far.
    pub(crate) fn look_away(&mut self) {
        self.actions();
        self.events();
    }

    /// Starts a worker whose spawn is not answered yet.
    pub(crate) fn spawning(&mut self) -> WorkerId {
        let id = self.supervisor.start(self.now);
        assert_eq!(self.actions(), [Action::Spawn(id)]);
        id
    }

    pub(crate) fn starting(&mut self) -> WorkerId {
        let id = self.spawning();
        self.supervisor.handle_spawned(id, self.now);
        id
    }

    pub(crate) fn ready(&mut self) -> WorkerId {
        let id = self.starting();
        self.supervisor.handle_ready(id, self.now);
        assert_eq!(self.actions(), [Action::Admit(id)]);
        id
    }

    /// The process of `id` ends.
    pub(crate) fn exit(&mut self, id: WorkerId, exit: Exit) {
        self.supervisor.handle_exit(id, exit, self.now);
    }

    /// Moves the clock by `time`, stopping at no deadline in between.
    pub(crate) fn jump(&mut self, time: Duration) {
        self.now += time;
        self.supervisor.handle_timeout(self.now);
        let next = self.supervisor.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a deadline survived handle_timeout");
    }

    /// Moves the clock to the next deadline and returns how far that was.
    pub(crate) fn next_deadline(&mut self) -> Duration {
        let next = self.supervisor.poll_timeout().expect("a deadline is set");
        let wait = next.saturating_duration_since(self.now);
        self.jump(wait);
        wait
    }

    /// The one worker that an action of the list tells to spawn.
    pub(crate) fn spawned(actions: &[Action]) -> WorkerId {
        let mut spawns = actions.iter().filter_map(|action| match action {
            Action::Spawn(id) => Some(*id),
            Action::Admit(_) | Action::Withdraw(_) | Action::AskStop(_) | Action::Signal(..) => None,
        });
        let id = spawns.next().expect("one spawn");
        assert_eq!(spawns.next(), None, "only one spawn");
        id
    }
}
