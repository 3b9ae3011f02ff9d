//! What becomes of a place when its worker ends.
//!
//! | state \ input | start  | exit of its own                 | spawn failed     | timeout | stop, shutdown |
//! |---------------|--------|---------------------------------|------------------|---------|----------------|
//! | Empty         | Live S | -                               | -                | -       | -              |
//! | Live          | -      | Live S, Backoff, Empty*, GaveUp | Backoff, Empty*  | -       | Live           |
//! | Backoff       | Live S | -                               | -                | Live S  | Empty          |
//! | `GaveUp`      | Live S | -                               | -                | -       | -              |
//!
//! S spawn the next generation, - ignored. A start that leaves the choice of the slot to us takes none in `Backoff`.
//! `Live` goes to `Empty*` when the slot is wanted down or the restart policy says so, to `GaveUp` when the budget
//! is used up or the exit code says that no restart will help, straight to a new `Live` when the delay is zero, and to `Backoff` otherwise.
//!
//! What the user wants ([`Want`]) and what is ([`SlotState`]) are kept apart: only so can a stop be remembered
//! while the worker still lives.
//! A slot that was given up is not wanted any more, but missed: a roll gives it another chance, unless the user has stopped it since.
//!
//! While a worker is replaced a slot holds two: its *own*, on whose life the slot's depends, and a successor on
//! [`Trial`]. A successor that is fit becomes the slot's own. If its predecessor ends before that, it becomes the slot's own
//! too, and stays on trial: should it fail, the slot goes back to the release it had.

mod ending;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::intensity::Intensity;
use crate::roll::{Place, Release, RollId, Step, Trial, TrialState, Unfit};
use crate::state::after;
use crate::status::GivenUp;
use crate::{Policy, WorkerId};

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
    /// Its own worker lives (or is being spawned).
    Live,
    /// No worker until the wait is over.
    Backoff { until: Instant },
    /// No worker until its turn comes, in a [group](crate::Group) that starts in order.
    Held,
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
    /// This worker is to be spawned when its turn comes.
    Hold(WorkerId),
    /// The slot waits for so long before the next start, after so many failures in a row.
    Wait { slot: u32, delay: Duration, failures: u32 },
    /// The slot stays empty, and somebody should know.
    GiveUp(GivenUp),
}

/// How a trial ended.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) roll: Option<RollId>,
    /// The successor, unless there was none yet.
    pub(crate) successor: Option<WorkerId>,
    pub(crate) result: Result<TakenOver, (Unfit, Ending)>,
}

/// Why a trial ended without a takeover, as far as it matters to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The successor is to blame.
    Fault,
    /// Nobody is: the slot, or the roll, goes no further.
    Dropped,
    /// Nobody is, and the slot is to have another trial.
    Interrupted,
}

/// What became of a trial whose roll goes no further.
#[derive(Clone, Debug)]
pub(crate) enum Recalled {
    /// There was none.
    Nothing,
    /// The predecessor is on its way out already, and makes way for the release that it had.
    MakesWay,
    /// It is over.
    Over(Tried),
}

/// A trial failed whose predecessor is gone: whatever the restart policy says, the slot gets a worker of its own release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owed {
    #[default]
    Nothing,
    /// The successor was of the slot's own release: its failure is the slot's.
    AsAfterFailure,
    /// It was of another: what it did says nothing of the one that comes back.
    AtOnce,
}

/// What a successor took over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOver {
    /// Who has to go now, if anybody lives.
    pub(crate) predecessor: Option<WorkerId>,
    /// What the slot ran before.
    pub(crate) before: Release,
    /// What it runs now.
    pub(crate) after: Release,
}

/// The record of one slot: what is wanted of it, what is with it, and its own worker.
///
/// Workers themselves are kept by [`WorkerId`] elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    number: u32,
    want: Want,
    state: SlotState,
    /// The last one that was given out.
    generation: u32,
    /// That of its own worker.
    own: u32,
    /// What it runs, unless the worker is on trial.
    release: Release,
    policy: Arc<Policy>,
    trial: Option<Trial>,
    owed: Owed,
    /// Nobody wants it any more, also if it was given up.
    is_dismissed: bool,
    /// When it was started by the user, as a number that counts up.
    started: u64,
    /// It was told that nothing is wanted of it.
    told_unwanted: bool,
    /// Its worker has to go and comes again: one of its [group](crate::Group) is restarted.
    marked: bool,
    restarts: u32,
    failures: u32,
    spawn_failures: u32,
    intensity: Intensity,
}

impl Slot {
    /// An empty slot that has never had a worker.
    pub(crate) fn new(number: u32, policy: Arc<Policy>) -> Self {
        Self {
            number,
            want: Want::Down,
            state: SlotState::Empty,
            generation: 0,
            own: 0,
            release: Release::default(),
            policy,
            trial: None,
            owed: Owed::Nothing,
            is_dismissed: false,
            started: 0,
            told_unwanted: true,
            marked: false,
            restarts: 0,
            failures: 0,
            spawn_failures: 0,
            intensity: Intensity::default(),
        }
    }

    /// Wants the slot up and returns its next worker, with a clean record: what failed before the user started it
    /// anew is not held against it.
    pub(crate) fn start(&mut self, release: Release, policy: Arc<Policy>, started: u64) -> WorkerId {
        self.want = Want::Up;
        self.told_unwanted = false;
        self.is_dismissed = false;
        self.owed = Owed::Nothing;
        self.marked = false;
        self.release = release;
        self.policy = policy;
        self.started = started;
        self.clear_record();
        self.next_generation()
    }

    /// Lets the worker that is its own now wait for its turn.
    pub(crate) fn hold(&mut self) {
        self.state = SlotState::Held;
    }

    /// Its turn has come, and this is who is to be spawned.
    pub(crate) fn take_turn(&mut self) -> WorkerId {
        self.state = SlotState::Live;
        self.own()
    }

    pub(crate) const fn waits_for_turn(&self) -> bool {
        matches!(self.state, SlotState::Held)
    }

    /// Its worker has to go, and comes again.
    pub(crate) const fn mark(&mut self) {
        if matches!(self.state, SlotState::Live) {
            self.marked = true;
        }
    }

    pub(crate) const fn is_marked(&self) -> bool {
        self.marked
    }

    fn clear_record(&mut self) {
        self.failures = 0;
        self.spawn_failures = 0;
        self.intensity.clear();
    }

    /// Wants the slot down: nothing will be started here any more. A living worker is not touched. Returns the trial that is
    /// over.
    pub(crate) fn stop(&mut self) -> Option<Tried> {
        self.want = Want::Down;
        self.is_dismissed = true;
        self.marked = false;
        match self.state {
            SlotState::Backoff { .. } | SlotState::Held => self.state = SlotState::Empty,
            SlotState::Empty | SlotState::Live | SlotState::GaveUp(_) => {}
        }
        let tried = self.end_trial(Unfit::Recalled, Ending::Dropped);
        self.owed = Owed::Nothing;
        tried
    }

    /// Puts a successor on trial. Returns who is to be spawned; nobody yet when its predecessor has to go first.
    pub(crate) fn begin_trial(&mut self, mut trial: Trial, place: Place) -> Option<WorkerId> {
        if self.has_given_up() {
            self.want = Want::Up;
            self.told_unwanted = false;
            self.clear_record();
        }
        let successor = match place {
            Place::Beside => Some(self.next_id()),
            Place::Vacant => Some(self.next_generation()),
            Place::After => None,
        };
        if let Some(id) = successor {
            trial.begin(id);
        }
        self.trial = Some(trial);
        successor
    }

    /// Asks the trial, if there is one, and ends it if that is what it says.
    pub(crate) fn ask_trial(&mut self, ask: impl FnOnce(&mut Trial) -> Step) -> Option<Tried> {
        match ask(self.trial.as_mut()?) {
            Step::On => None,
            Step::Failed(reason) => self.end_trial(reason, Ending::Fault),
            Step::Fit => self.take_over(),
        }
    }

    /// The slot is the successor's now.
    fn take_over(&mut self) -> Option<Tried> {
        let trial = self.trial.take()?;
        let successor = trial.successor()?;
        let own = self.own();
        let predecessor = (own != successor).then_some(own);
        let before = std::mem::replace(&mut self.release, trial.release);
        if before != trial.release {
            // What one program did is not held against another.
            self.clear_record();
        }
        self.own = successor.generation();
        self.state = SlotState::Live;
        let result = Ok(TakenOver { predecessor, before, after: trial.release });
        Some(Tried { roll: trial.roll, successor: Some(successor), result })
    }

    /// A worker of this slot has been ready for so long, and did not fail.
    pub(crate) fn serve(&mut self, ready_for: Duration) {
        self.intensity.serve(ready_for);
        if ready_for >= self.policy.stable_after {
            self.failures = 0;
        }
    }

    /// This worker was ready and is on its way out: it will not take over, if that is what it was to do.
    pub(crate) fn handle_leaving(&mut self, id: WorkerId) {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.is_of(id)) {
            trial.handle_leaving();
        }
    }

    /// The successor on trial does not take over. It may live.
    pub(crate) fn end_trial(&mut self, reason: Unfit, ending: Ending) -> Option<Tried> {
        let trial = self.trial.take()?;
        let successor = trial.successor();
        if self.is_wanted() && successor.is_none_or(|successor| successor == self.own()) {
            let is_same = trial.release == self.release;
            self.owed = if is_same { Owed::AsAfterFailure } else { Owed::AtOnce };
        }
        Some(Tried { roll: trial.roll, successor, result: Err((reason, ending)) })
    }

    /// The roll of its trial goes no further. `serves` is whether its own worker takes work, and will go on to.
    ///
    /// If not, and the successor does, that one takes over: somebody has to serve, and it can be replaced in its turn.
    pub(crate) fn recall_trial(&mut self, serves: bool) -> Recalled {
        let (own, release) = (self.own(), self.release);
        let Some(trial) = &mut self.trial else { return Recalled::Nothing };
        let tried = match (trial.successor(), trial.state()) {
            (None, _) => {
                trial.recall(release);
                return Recalled::MakesWay;
            }
            (Some(successor), TrialState::Baking { .. }) if successor == own || !serves => self.take_over(),
            (Some(_), _) => self.end_trial(Unfit::Recalled, Ending::Dropped),
        };
        tried.map_or(Recalled::Nothing, Recalled::Over)
    }

    /// Its worker has failed, and its roll goes back: the next one is of the release that the slot had before.
    pub(crate) fn go_back(&mut self, before: Release) {
        self.release = before;
        self.clear_record();
        if self.is_wanted() {
            self.owed = Owed::AtOnce;
        }
    }

    /// The spawn of `id` worked: a later failure is the first again.
    pub(crate) fn handle_spawned(&mut self, id: WorkerId) {
        if id == self.own() {
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
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        if id != self.own() {
            return None;
        }
        // Whatever was to follow its end: it never was.
        self.marked = false;
        self.owed = Owed::Nothing;
        match self.want {
            Want::Down => {
                self.vacate();
                None
            }
            Want::Up => {
                self.spawn_failures = self.spawn_failures.saturating_add(1);
                let delay = self.policy.backoff.after_spawn_failure(self.spawn_failures, rng);
                self.wait(delay, now);
                Some(delay)
            }
        }
    }

    /// Ends a back-off that is over at `now` and returns the worker to spawn.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<WorkerId> {
        match self.state {
            SlotState::Backoff { until } if until <= now => Some(self.next_generation()),
            SlotState::Backoff { .. }
            | SlotState::Held
            | SlotState::Empty
            | SlotState::Live
            | SlotState::GaveUp(_) => None,
        }
    }

    /// When the back-off ends, if there is one.
    pub(crate) const fn retry_at(&self) -> Option<Instant> {
        match self.state {
            SlotState::Backoff { until, .. } => Some(until),
            SlotState::Held | SlotState::Empty | SlotState::Live | SlotState::GaveUp(_) => None,
        }
    }

    /// When the back-off ends, or the time of a trial.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry_at().into_iter().chain(self.trial.as_ref().and_then(Trial::deadline)).min()
    }

    /// Whether nothing is wanted of it and its own worker is gone, so that it can be started.
    pub(crate) const fn is_free(&self) -> bool {
        matches!((self.want, &self.state), (Want::Down, SlotState::Empty | SlotState::GaveUp(_)))
    }

    /// Its own worker, alive or not.
    pub(crate) const fn own(&self) -> WorkerId {
        WorkerId::new(self.number, self.own)
    }

    /// Whether it is not wanted any more, and nobody was told. That it was given up is told otherwise.
    pub(crate) fn tell_unwanted(&mut self) -> bool {
        !self.is_wanted() && !std::mem::replace(&mut self.told_unwanted, true) && !self.has_given_up()
    }

    pub(crate) const fn has_given_up(&self) -> bool {
        matches!(self.state, SlotState::GaveUp(_))
    }

    /// Whether it should have a worker: it is wanted, or was given up and not stopped since.
    pub(crate) const fn is_missed(&self) -> bool {
        self.is_wanted() || (self.has_given_up() && !self.is_dismissed)
    }

    pub(crate) fn is_on_trial(&self, id: WorkerId) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.is_of(id))
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        matches!(self.want, Want::Up)
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    pub(crate) const fn release(&self) -> Release {
        self.release
    }

    pub(crate) const fn trial(&self) -> Option<&Trial> {
        self.trial.as_ref()
    }

    /// What its next worker runs.
    pub(crate) fn release_of(&self, id: WorkerId) -> Release {
        self.trial.as_ref().filter(|trial| trial.is_of(id)).map_or(self.release, |trial| trial.release)
    }

    /// Orders slots by when the user started them.
    pub(crate) const fn started(&self) -> u64 {
        self.started
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
        let id = self.next_id();
        self.own = id.generation();
        self.state = SlotState::Live;
        id
    }

    fn next_id(&mut self) -> WorkerId {
        // Wraps only after four thousand million lives, by when nobody remembers the first.
        self.generation = self.generation.wrapping_add(1);
        WorkerId::new(self.number, self.generation)
    }

    fn vacate(&mut self) {
        self.want = Want::Down;
        self.state = SlotState::Empty;
    }

    fn wait(&mut self, delay: Duration, now: Instant) {
        self.state = SlotState::Backoff { until: after(now, delay) };
    }
}
