//! What becomes of a place when its worker ends.
//!
//! | state \ input | start  | exit of the newest            | spawn failed     | timeout | stop, shutdown |
//! |---------------|--------|-------------------------------|------------------|---------|----------------|
//! | Empty         | Live S | -                             | -                | -       | -              |
//! | Live          | -      | Live S, Backoff, Empty*, GaveUp | Backoff, Empty* | -       | Live           |
//! | Backoff       | -      | -                             | -                | Live S  | Empty          |
//! | `GaveUp`      | Live S | -                             | -                | -       | -              |
//!
//! S spawn the next generation, - ignored.
//! `Live` goes to `Empty*` when the slot is wanted down or the restart policy says so, to `GaveUp` when the budget
//! is used up, straight to a new `Live` when the delay is zero, and to `Backoff` otherwise.
//!
//! What the user wants ([`Want`]) and what is ([`SlotState`]) are kept apart: only so can a stop be remembered
//! while the worker still lives.

use std::time::{Duration, Instant};

use crate::intensity::Intensity;
use crate::state::after;
use crate::status::GivenUp;
use crate::worker::Ended;
use crate::{Policy, Restart, WorkerId};

/// What the user wants of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Up,
    Down,
}

/// What is with a slot.
#[derive(Clone, Debug)]
pub(crate) enum SlotState {
    /// No worker, and none to come.
    Empty,
    /// Its newest generation lives (or is being spawned).
    Live,
    /// No worker until the wait is over.
    Backoff { until: Instant },
    /// No worker: the budget is used up.
    GaveUp(GivenUp),
}

/// What follows an exit.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// The slot stays empty.
    Nothing,
    /// This worker is to be spawned now.
    Spawn(WorkerId),
    /// The slot waits for so long before the next start.
    Wait(Duration),
    /// The slot stays empty, and somebody should know.
    GiveUp(GivenUp),
}

/// The record of one slot: what is wanted of it, what is with it, and its newest generation.
///
/// Workers themselves are kept by [`WorkerId`] elsewhere, as a slot may come to hold two lives at a time when it
/// is rolled. All that the slot decides it decides about its newest.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    number: u32,
    want: Want,
    state: SlotState,
    generation: u32,
    restarts: u32,
    failures: u32,
    spawn_failures: u32,
    intensity: Intensity,
}

impl Slot {
    /// An empty slot that has never had a worker.
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            want: Want::Down,
            state: SlotState::Empty,
            generation: 0,
            restarts: 0,
            failures: 0,
            spawn_failures: 0,
            intensity: Intensity::default(),
        }
    }

    /// Wants the slot up and returns its next worker, with a clean record: what failed before the user started it
    /// anew is not held against it.
    pub(crate) fn start(&mut self) -> WorkerId {
        self.want = Want::Up;
        self.failures = 0;
        self.spawn_failures = 0;
        self.intensity.clear();
        self.next_generation()
    }

    /// Wants the slot down: nothing will be started here any more. A living worker is not touched.
    pub(crate) fn stop(&mut self) {
        self.want = Want::Down;
        match self.state {
            SlotState::Backoff { .. } => self.state = SlotState::Empty,
            SlotState::Empty | SlotState::Live | SlotState::GaveUp(_) => {}
        }
    }

    /// Decides what follows the end of a worker.
    pub(crate) fn handle_exit(
        &mut self,
        ended: Ended,
        now: Instant,
        policy: &Policy,
        rng: &mut fastrand::Rng,
    ) -> Next {
        let Ended { id, exit, cause, ready_for } = ended;
        if id != self.newest() {
            return Next::Nothing;
        }
        match (self.want, policy.restart, exit.is_clean()) {
            (Want::Down, Restart::Always | Restart::OnFailure | Restart::Never, _)
            | (Want::Up, Restart::Never, _)
            | (Want::Up, Restart::OnFailure, true) => {
                self.vacate();
                return Next::Nothing;
            }
            (Want::Up, Restart::OnFailure, false) | (Want::Up, Restart::Always, _) => {}
        }
        if ready_for.is_some_and(|ready_for| ready_for >= policy.stable_after) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if let Err(restarts) = self.intensity.spend(policy.budget, ready_for.unwrap_or_default()) {
            let failures = restarts.saturating_add(1);
            let given_up = GivenUp { id, failures, period: policy.budget.period(), exit, cause };
            self.want = Want::Down;
            self.state = SlotState::GaveUp(given_up.clone());
            return Next::GiveUp(given_up);
        }
        self.restarts = self.restarts.saturating_add(1);
        let delay = policy.backoff.after_failure(self.failures, rng);
        if delay.is_zero() {
            return Next::Spawn(self.next_generation());
        }
        self.wait(delay, now);
        Next::Wait(delay)
    }

    /// The spawn of `id` worked: a later failure is the first again.
    pub(crate) fn handle_spawned(&mut self, id: WorkerId) {
        if id == self.newest() {
            self.spawn_failures = 0;
        }
    }

    /// Decides after which wait the failed spawn of `id` is tried again, if at all. Costs no budget.
    ///
    /// Even a wait of zero goes through the timer: a driver that fails at once would otherwise be told to spawn
    /// again at once, and a shutdown could never get in between.
    pub(crate) fn handle_spawn_failed(
        &mut self,
        id: WorkerId,
        now: Instant,
        policy: &Policy,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        if id != self.newest() {
            return None;
        }
        match self.want {
            Want::Down => {
                self.vacate();
                None
            }
            Want::Up => {
                self.spawn_failures = self.spawn_failures.saturating_add(1);
                let delay = policy.backoff.after_spawn_failure(self.spawn_failures, rng);
                self.wait(delay, now);
                Some(delay)
            }
        }
    }

    /// Ends a back-off that is over at `now` and returns the worker to spawn.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<WorkerId> {
        match self.state {
            SlotState::Backoff { until } if until <= now => Some(self.next_generation()),
            SlotState::Backoff { .. } | SlotState::Empty | SlotState::Live | SlotState::GaveUp(_) => None,
        }
    }

    /// When the back-off ends, if there is one.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            SlotState::Backoff { until, .. } => Some(until),
            SlotState::Empty | SlotState::Live | SlotState::GaveUp(_) => None,
        }
    }

    /// Whether nothing is wanted of it and its newest is gone, so that it can be started.
    pub(crate) const fn is_free(&self) -> bool {
        matches!((self.want, &self.state), (Want::Down, SlotState::Empty | SlotState::GaveUp(_)))
    }

    /// The id of its newest generation, alive or not.
    pub(crate) const fn newest(&self) -> WorkerId {
        WorkerId::new(self.number, self.generation)
    }

    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    pub(crate) const fn state(&self) -> &SlotState {
        &self.state
    }

    pub(crate) const fn restarts(&self) -> u32 {
        self.restarts
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    fn next_generation(&mut self) -> WorkerId {
        // Wraps only after four thousand million lives, by when nobody remembers the first.
        self.generation = self.generation.wrapping_add(1);
        self.state = SlotState::Live;
        self.newest()
    }

    fn vacate(&mut self) {
        self.want = Want::Down;
        self.state = SlotState::Empty;
    }

    fn wait(&mut self, delay: Duration, now: Instant) {
        self.state = SlotState::Backoff { until: after(now, delay) };
    }
}
