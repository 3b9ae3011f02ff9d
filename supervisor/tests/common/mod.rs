//! A supervisor on a clock that stands still until a test moves it.

#![allow(dead_code, reason = "each test file is its own crate and uses its own part")]
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may panic as tests may")]

use std::time::{Duration, Instant};

use cluster_supervisor::{
    Action, Backoff, Event, Exit, Policy, Release, Roll, RollOutcome, Supervisor, WorkerId, WorkerState,
};

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const SIGABRT: Exit = Exit::Signal(6);
pub(crate) const SIGKILL: Exit = Exit::Signal(9);

/// What rolls go to. Before, all run release 0.
pub(crate) const NEW: Release = Release::new(7);

pub(crate) const fn id(slot: u32, generation: u32) -> WorkerId {
    WorkerId::new(slot, generation)
}

/// One instant to count from: everything after it is virtual.
#[allow(clippy::disallowed_methods)]
pub(crate) fn base() -> Instant {
    Instant::now()
}

/// The default policy with waits that a test can foresee.
pub(crate) fn policy() -> Policy {
    Policy::new().backoff(Backoff::new().jitter_percent(0))
}

/// So many ready workers, and nothing left to poll.
pub(crate) fn serving(workers: u32, policy: Policy) -> Stage {
    let mut stage = Stage::new(policy);
    for _ in 0..workers {
        stage.supervisor.start(stage.now);
    }
    (0..workers).for_each(|slot| stage.becomes_ready(id(slot, 1)));
    stage.look_away();
    stage
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

    /// Who was to be spawned, of all actions since the last look.
    pub(crate) fn spawns(&mut self) -> Vec<WorkerId> {
        let spawns = |action: &Action| matches!(action, Action::Spawn(_));
        self.actions().into_iter().filter(spawns).map(Action::id).collect()
    }

    /// Who was asked to stop, of all actions since the last look.
    pub(crate) fn stops(&mut self) -> Vec<WorkerId> {
        let stops = |action: &Action| matches!(action, Action::AskStop(_));
        self.actions().into_iter().filter(stops).map(Action::id).collect()
    }

    /// What was asked of processes since the last look.
    pub(crate) fn spawns_and_stops(&mut self) -> Vec<Action> {
        let is_either = |action: &Action| matches!(action, Action::Spawn(_) | Action::AskStop(_));
        self.actions().into_iter().filter(is_either).collect()
    }

    /// All outcomes since the last look, as lines.
    pub(crate) fn outcomes(&mut self) -> Vec<String> {
        let over = |event: &Event| {
            matches!(event, Event::RollFinished { .. } | Event::Replaced { .. } | Event::ReplaceFailed { .. })
        };
        self.events().iter().filter(|event| over(event)).map(Event::to_string).collect()
    }

    /// How a roll has ended since the last look.
    pub(crate) fn outcome(&mut self) -> Option<RollOutcome> {
        self.events().into_iter().find_map(|event| match event {
            Event::RollFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// What the slots run.
    pub(crate) fn releases(&self) -> Vec<u32> {
        self.supervisor.slots().map(|slot| slot.release().number()).collect()
    }

    /// What the slots do.
    pub(crate) fn states(&self) -> Vec<WorkerState> {
        self.supervisor.slots().map(|slot| slot.state()).collect()
    }

    /// How many take work.
    pub(crate) fn ready_count(&self) -> usize {
        self.supervisor.workers().filter(|worker| worker.state() == WorkerState::Ready).count()
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

    /// This worker was spawned, and is ready.
    pub(crate) fn becomes_ready(&mut self, id: WorkerId) {
        self.supervisor.handle_spawned(id, self.now);
        self.supervisor.handle_ready(id, self.now);
    }

    /// The process of `id` ends.
    pub(crate) fn exit(&mut self, id: WorkerId, exit: Exit) {
        self.supervisor.handle_exit(id, exit, self.now);
    }

    /// The process of `id` ends in peace, as one does that was asked to.
    pub(crate) fn leaves(&mut self, id: WorkerId) {
        self.exit(id, Exit::Code(0));
    }

    /// This successor is ready, and its predecessor, that of the generation before, has gone.
    pub(crate) fn takes_over(&mut self, id: WorkerId) {
        self.becomes_ready(id);
        self.leaves(WorkerId::new(id.slot(), id.generation() - 1));
    }

    /// Whoever is asked to stop goes, and whoever is to be spawned is ready, until nothing is left to do.
    pub(crate) fn ends_and_comes(&mut self) {
        for _ in 0..100 {
            let actions = self.actions();
            for action in &actions {
                match action {
                    Action::Spawn(id) => self.becomes_ready(*id),
                    Action::AskStop(id) => self.leaves(*id),
                    Action::Admit(_) | Action::Withdraw(_) | Action::Signal(..) => {}
                }
            }
            if actions.is_empty() {
                return;
            }
        }
        panic!("there is always something to do");
    }

    pub(crate) fn roll(&mut self, roll: Roll) {
        self.supervisor.roll(roll, self.now).expect("no roll goes on");
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
