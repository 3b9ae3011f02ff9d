//! The set of slots and workers: inputs and wishes in, actions and events out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::outbox::Outbox;
use crate::roll::{Plan, Release, Unfit};
use crate::slot::{Ending, Next, Slot, SlotState, Tried};
use crate::state::{Input, State};
use crate::status::{GivenUp, SlotView, Status, WorkerView};
use crate::worker::Worker;
use crate::{Action, Event, Exit, ExitCause, Policy, WorkerId};

/// Decides which workers live. It starts, signals and watches no process itself: a driver does, as told.
///
/// # Contract
///
/// There are four kinds of methods:
///
/// - `handle_*` take what happened, from the driver;
/// - verbs ([`start`](Self::start), [`stop`](Self::stop), …) take what the user wants;
/// - `poll_*` say what to do next;
/// - the rest look and change nothing.
///
/// After any call of the first two kinds, the driver calls [`poll_action`](Self::poll_action) until it returns
/// `None`, then [`poll_event`](Self::poll_event) likewise, and then sets its one timer to
/// [`poll_timeout`](Self::poll_timeout), calling [`handle_timeout`](Self::handle_timeout) when that is due.
///
/// Every method may be called at any time, any number of times.
/// A call about a worker that has ended or never was does nothing, so messages may arrive late.
/// Time must not go backwards; a `now` earlier than the last one counts as the last one.
///
/// # Guarantees
///
/// - A slot never has two living workers, and an id is never used twice.
/// - Every worker that is to end ends within the deadlines of its [`StopSequence`](crate::StopSequence), as far as
///   SIGKILL can bring that about.
/// - Each [`Admit`](Action::Admit) is followed by exactly one [`Withdraw`](Action::Withdraw); no other action names
///   a worker once its exit was handled.
/// - After `handle_timeout(t)`, `poll_timeout()` is `None` or later than `t`.
///
/// Equal inputs, times and seeds give equal outputs. `Clone` makes a copy that goes its own way from there.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// Of slots that have none of their own.
    pub(crate) policy: Arc<Policy>,
    rng: fastrand::Rng,
    now: Option<Instant>,
    pub(crate) slots: BTreeMap<u32, Slot>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) outbox: Outbox,
    pub(crate) plan: Plan,
    /// What new slots run.
    pub(crate) release: Release,
    /// Slots started so far.
    starts: u64,
}

/// What the user wants.
impl Supervisor {
    /// A supervisor without workers. The seed feeds the jitter of the back-off.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy: Arc::new(policy),
            rng: fastrand::Rng::with_seed(seed),
            now: None,
            slots: BTreeMap::new(),
            workers: BTreeMap::new(),
            outbox: Outbox::default(),
            plan: Plan::default(),
            release: Release::default(),
            starts: 0,
        }
    }

    /// Starts one more worker and returns its id.
    ///
    /// It takes the lowest slot that is neither wanted nor alive, which may be one that was stopped, has finished
    /// or was given up, and a new slot when there is none.
    /// The slot begins with a clean record: an empty budget window and no back-off.
    ///
    /// From then on the slot is wanted: its workers are restarted by the [`Policy`].
    pub fn start(&mut self, now: Instant) -> WorkerId {
        let now = self.tick(now);
        let id = self.start_slot(Arc::clone(&self.policy), |_| true);
        self.advance(now);
        id
    }

    /// The same with a policy of its own, which says how its workers are started, restarted and stopped. What concerns several
    /// slots stays the supervisor's: [`group`](Policy::group), [`max_surge`](Policy::max_surge),
    /// [`max_unavailable`](Policy::max_unavailable).
    pub fn start_with(&mut self, policy: Policy, now: Instant) -> WorkerId {
        let now = self.tick(now);
        let id = self.start_slot(Arc::new(policy), |_| true);
        self.advance(now);
        id
    }

    /// The same without what may follow for others, in a slot that will do.
    pub(crate) fn start_slot(&mut self, policy: Arc<Policy>, will_do: impl Fn(&Slot) -> bool) -> WorkerId {
        let is_free = |slot: &&Slot| slot.is_free() && !self.is_inhabited(slot) && will_do(slot);
        let free = self.slots.values().find(is_free).map(Slot::number);
        // Slots are numbered without gaps, and memory ends long before the numbers do.
        let number = free.unwrap_or(self.slots.len() as u32);
        self.starts += 1;
        let (release, starts) = (self.release, self.starts);
        let slot = self.slots.entry(number).or_insert_with(|| Slot::new(number, Arc::clone(&policy)));
        let id = slot.start(release, policy, starts);
        self.plan.handle_started(number, release);
        self.begin(id);
        id
    }

    /// Starts the worker of this very slot again: one that was stopped, has finished or was given up, and at once one that is in
    /// back-off. Returns its id; `None` where nothing is to be started, or somebody still lives there: try again after his exit.
    ///
    /// It keeps its policy, and its place in a [group](crate::Group) that starts in order. Its record begins anew, as with
    /// [`start`](Self::start).
    pub fn start_again(&mut self, slot: u32, now: Instant) -> Option<WorkerId> {
        let now = self.tick(now);
        let release = self.release;
        let known = self.slots.get(&slot).filter(|slot| !self.is_inhabited(slot))?;
        if !known.is_free() && known.retry_at().is_none() {
            return None;
        }
        let (policy, started) = (known.policy(), known.started());
        let id = self.slots.get_mut(&slot)?.start(release, policy, started);
        self.plan.handle_started(slot, release);
        self.begin(id);
        self.advance(now);
        Some(id)
    }

    /// Stops this worker gracefully and wants its slot down: it is not restarted.
    ///
    /// The newest id of a slot in back-off is known here too, and ends the back-off. So a stop that crosses the
    /// worker's own death still keeps it from coming back.
    pub fn stop(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        self.end(id, now);
        self.advance(now);
    }

    /// The same without what may follow for others.
    pub(crate) fn end(&mut self, id: WorkerId, now: Instant) {
        let number = id.slot();
        let tried = self.slots.get_mut(&number).and_then(|slot| {
            if slot.own() == id {
                self.plan.forget(number);
                slot.stop()
            } else if slot.is_on_trial(id) {
                slot.end_trial(Unfit::Recalled, Ending::Fault)
            } else {
                None
            }
        });
        self.end_trial(number, tried, now);
        self.feed(id, Input::Stop, now);
        self.settle(number);
    }

    /// Stops all workers gracefully, at the same time, and cancels all back-offs.
    ///
    /// It is over when [`is_done`](Self::is_done) says so. A later [`start`](Self::start) starts a worker as ever.
    pub fn shutdown(&mut self, now: Instant) {
        self.end_all(Input::Stop, now);
    }

    /// Kills all workers and cancels all back-offs.
    ///
    /// A worker whose spawn has not been answered yet is killed as soon as it is.
    pub fn shutdown_now(&mut self, now: Instant) {
        self.end_all(Input::Kill, now);
    }

    fn end_all(&mut self, input: Input, now: Instant) {
        let now = self.tick(now);
        self.plan.clear();
        let numbers: Vec<u32> = self.slots.keys().copied().collect();
        for number in numbers {
            let tried = self.slots.get_mut(&number).and_then(Slot::stop);
            // The successor is ended below, with all others.
            if let Some(Tried { roll, successor, result: Err((reason, _)) }) = tried {
                self.plan.handle_dropped(number, roll);
                self.outbox.push_event(Event::ReplaceFailed { slot: number, id: successor, reason, roll });
                // Nobody's turn: the slot has its own.
                let own = self.slots.get(&number).map(Slot::own);
                if let Some(id) = successor.filter(|id| Some(*id) != own) {
                    self.feed(id, input, now);
                }
            }
            self.settle(number);
        }
        // In a group that stops in order, each in its turn: `advance` asks the last.
        if !self.policy.group.is_ordered() || input == Input::Kill {
            for worker in self.workers.values_mut() {
                worker.handle(input, now, &mut self.outbox);
            }
        }
        self.advance(now);
    }
}

/// What happened.
impl Supervisor {
    /// The process was started, as [`Action::Spawn`] told.
    ///
    /// Nothing else about a worker counts before this but its exit. Its start timeout begins here.
    pub fn handle_spawned(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        if self.feed(id, Input::Spawned, now).is_some()
            && let Some(slot) = self.slots.get_mut(&id.slot())
        {
            slot.handle_spawned(id);
        }
    }

    /// The process could not be started: no processes, memory or descriptors left, a missing file.
    ///
    /// It is tried again after a back-off, under a new id and for as long as it takes.
    /// It costs nothing of the restart budget.
    pub fn handle_spawn_failed(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        if self.feed(id, Input::SpawnFailed, now) != Some(State::Gone) {
            return;
        }
        self.workers.remove(&id);
        self.outbox.forget(id);
        let slot = self.slots.get_mut(&id.slot());
        let (mut retry_in, mut tried) = (None, None);
        if let Some(slot) = slot {
            let of_trial = slot.is_on_trial(id);
            tried = of_trial.then(|| slot.end_trial(Unfit::SpawnFailed, Ending::Fault)).flatten();
            retry_in = slot.handle_spawn_failed(id, now, &mut self.rng);
        }
        self.outbox.push_event(Event::SpawnFailed { id, retry_in });
        self.end_trial(id.slot(), tried, now);
        self.settle(id.slot());
        self.advance(now);
    }

    /// The process runs and has spoken for the first time. Only told on, as an event.
    pub fn handle_online(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        self.feed(id, Input::Online, now);
    }

    /// The worker can take work. It is admitted, unless it is already being stopped.
    pub fn handle_ready(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        if self.feed(id, Input::Ready, now) == Some(State::Ready) {
            self.try_ready(id, now);
        }
        self.advance(now);
    }

    /// The process has ended. This is the one sign of death; give it once all that the worker had sent is handled.
    pub fn handle_exit(&mut self, id: WorkerId, exit: Exit, now: Instant) {
        let now = self.tick(now);
        self.feed(id, Input::Exit, now);
        let Some(worker) = self.workers.remove(&id) else { return };
        self.outbox.forget(id);
        let ended = worker.ended(exit, now);
        self.outbox.push_event(Event::Exited { id, exit, cause: ended.cause, uptime: ended.ready_for });

        let Some(slot) = self.slots.get_mut(&id.slot()) else { return };
        let had_proved_itself = slot.own() == id && !slot.is_on_trial(id);
        let tried = slot
            .is_on_trial(id)
            .then(|| slot.ask_trial(|trial| trial.handle_ended(exit, ended.cause)))
            .flatten();
        let reason = Unfit::Ended { exit, cause: ended.cause };
        let mut turned_back = None;
        if had_proved_itself
            && slot.has_failed(exit, ended.cause)
            && let Some((roll, before)) = self.plan.handle_crash(id, reason.clone(), slot.trial().is_none())
        {
            turned_back = roll;
            before.into_iter().for_each(|before| slot.go_back(before));
        }
        let next = slot.handle_exit(ended, now, &mut self.rng);
        let keeps_failing = match next {
            Next::GiveUp(_) => true,
            Next::Spawn(_) | Next::Wait { .. } => {
                had_proved_itself && slot.failures() > 1 && ended.cause != ExitCause::Left
            }
            Next::Nothing | Next::Hold(_) => false,
        };
        if keeps_failing {
            turned_back = turned_back.or_else(|| self.plan.handle_failing(id, reason));
        }
        // Before anything follows from it: whoever is to blame is named first.
        self.end_trial(id.slot(), tried, now);
        if let Some(roll) = turned_back {
            self.recall_trials(roll, now);
        }
        self.follow(next, now);
        self.settle(id.slot());
        self.advance(now);
    }

    /// Does what follows the end of a worker.
    fn follow(&mut self, next: Next, now: Instant) {
        match next {
            Next::Nothing => {}
            Next::Hold(next) => self.hold(next),
            // Its predecessor made way for it.
            Next::Spawn(next) if self.slots.get(&next.slot()).is_some_and(|slot| slot.is_on_trial(next)) => {
                self.spawn(next);
            }
            Next::Spawn(next) => {
                self.mark(next.slot(), now);
                self.begin(next);
            }
            Next::Wait { slot, delay, failures } => {
                self.outbox.push_event(Event::BackingOff { slot, delay, failures });
                self.mark(slot, now);
            }
            Next::GiveUp(given_up) => {
                let number = given_up.slot();
                // A successor that was on its way is of the same release.
                let slot = self.slots.get_mut(&number);
                let tried = slot.and_then(|slot| slot.end_trial(Unfit::Recalled, Ending::Interrupted));
                self.outbox.push_event(Event::GaveUp(given_up));
                self.end_trial(number, tried, now);
                if self.policy.group.is_ordered() {
                    // Those who need one another are given up together.
                    self.end_all(Input::Stop, now);
                }
            }
        }
    }

    /// The worker's channel is closed and its process has not ended: it cannot be led any more.
    ///
    /// It is withdrawn and terminated: SIGTERM, later SIGKILL. Its exit is then judged by the restart policy.
    /// A worker that was already asked to stop is left alone until its deadline.
    pub fn handle_channel_lost(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        self.feed(id, Input::ChannelLost, now);
    }

    /// The worker says that it ends by itself: it finishes what it has and exits.
    ///
    /// It is withdrawn, and has the time of a [stop](Self::stop) for that. Its slot stays wanted: it gets another worker if the
    /// [`Policy`] restarts on such an exit. That costs nothing of the budget, but the pauses grow if it happens again and again. One that
    /// was not ready yet has failed to start.
    pub fn handle_leaving(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        self.feed(id, Input::Leave, now);
        self.advance(now);
    }

    /// The worker hangs: whoever watches its health has given it up.
    ///
    /// It is withdrawn and killed at once. Its exit is then judged by the restart policy.
    pub fn handle_unhealthy(&mut self, id: WorkerId, now: Instant) {
        let now = self.tick(now);
        self.feed(id, Input::Unhealthy, now);
    }

    /// Time has passed: lets every deadline up to `now` take effect.
    ///
    /// May be called early or late; a late call gives each next step its full time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        // One thing leads to another: a trial that is over asks the predecessor to stop, which has a deadline of its own, perhaps
        // none at all. It ends, as each step leads further, and only the driver can begin a new life.
        while self.poll_timeout().is_some_and(|deadline| deadline <= now) {
            for worker in self.workers.values_mut() {
                worker.handle_timeout(now, &mut self.outbox);
            }
            let is_due = |slot: &&Slot| slot.deadline().is_some_and(|deadline| deadline <= now);
            let due: Vec<u32> = self.slots.values().filter(is_due).map(Slot::number).collect();
            for number in due {
                let Some(slot) = self.slots.get_mut(&number) else { continue };
                let next = slot.handle_timeout(now);
                let tried = slot.ask_trial(|trial| trial.handle_timeout(now));
                if let Some(id) = next {
                    self.begin(id);
                }
                self.end_trial(number, tried, now);
            }
            self.advance(now);
        }
    }
}

/// What to do next.
impl Supervisor {
    /// The next thing to do, in order; `None` when all is done for now.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll_action()
    }

    /// The next thing to tell, in order.
    ///
    /// Events that are not polled wait, but not without bound: past some thousands the oldest are dropped, see
    /// [`lost_events`](Self::lost_events).
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.poll_event()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` when no deadline is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let workers = self.workers.values().filter_map(Worker::deadline);
        workers.chain(self.slots.values().filter_map(Slot::deadline)).min()
    }
}

/// A look from outside.
impl Supervisor {
    /// Whether nothing lives and nothing is to come: no worker, no spawn unanswered, no back-off.
    ///
    /// True before the first start, after a shutdown, and when every slot has finished or was given up; ask
    /// [`given_up`](Self::given_up) which.
    pub fn is_done(&self) -> bool {
        self.workers.is_empty()
            && self.slots.values().all(|slot| slot.deadline().is_none() && !slot.waits_for_turn())
    }

    /// The slots that were given up, with the reason, by slot. Starting such a slot anew takes it off the list.
    pub fn given_up(&self) -> impl Iterator<Item = &GivenUp> {
        self.slots.values().filter_map(|slot| match slot.state() {
            SlotState::GaveUp(given_up) => Some(given_up),
            SlotState::Empty | SlotState::Live | SlotState::Held | SlotState::Backoff { .. } => None,
        })
    }

    /// All workers that live or are being spawned, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.workers.values().map(|worker| self.view(worker))
    }

    /// This worker, if it lives or is being spawned.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerView> {
        self.workers.get(&id).map(|worker| self.view(worker))
    }

    /// All slots that ever had a worker, by number.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> {
        self.slots.values().map(|slot| SlotView::new(slot, self.workers.get(&slot.own())))
    }

    /// All of that at once. Events tell the same as it changes: who notes them knows what this shows.
    pub fn status(&self) -> Status {
        Status {
            slots: self.slots().collect(),
            workers: self.workers().collect(),
            given_up: self.given_up().cloned().collect(),
            roll: self.roll_view(),
            release: self.release,
        }
    }

    /// How many events were dropped because nobody polled them.
    pub const fn lost_events(&self) -> u64 {
        self.outbox.lost_events()
    }

    fn view(&self, worker: &Worker) -> WorkerView {
        let restarts = self.slots.get(&worker.id().slot()).map_or(0, Slot::restarts);
        WorkerView::new(worker, restarts)
    }

    /// Who lives in this slot.
    pub(crate) fn lives(&self, slot: &Slot) -> impl Iterator<Item = WorkerId> {
        let (first, last) = (WorkerId::new(slot.number(), 0), WorkerId::new(slot.number(), u32::MAX));
        self.workers.range(first..=last).map(|(id, _)| *id)
    }

    /// Whether any generation of this slot still lives.
    fn is_inhabited(&self, slot: &Slot) -> bool {
        self.lives(slot).next().is_some()
    }

    /// A new life begins, now or when its turn comes.
    fn begin(&mut self, id: WorkerId) {
        if self.policy.group.is_ordered() { self.hold(id) } else { self.spawn(id) }
    }

    fn hold(&mut self, id: WorkerId) {
        if let Some(slot) = self.slots.get_mut(&id.slot()) {
            slot.hold();
        }
        self.outbox.push_event(Event::Held { id });
    }

    /// A new life begins.
    pub(crate) fn spawn(&mut self, id: WorkerId) {
        let Some(slot) = self.slots.get(&id.slot()) else { return };
        let (release, policy) = (slot.release_of(id), slot.policy());
        self.workers.insert(id, Worker::spawn(id, release, policy, &mut self.outbox));
    }

    /// Tells once that a slot is not wanted any more, and lets the plan forget it.
    fn settle(&mut self, slot: u32) {
        if self.slots.get_mut(&slot).is_some_and(Slot::tell_unwanted) {
            self.plan.forget(slot);
            self.outbox.push_event(Event::Stopped { slot });
        }
    }

    /// Gives an input to a worker and returns its state afterwards.
    ///
    /// This is the one place where ids are looked up: a stale or made-up one finds `None`.
    pub(crate) fn feed(&mut self, id: WorkerId, input: Input, now: Instant) -> Option<State> {
        let worker = self.workers.get_mut(&id)?;
        let was = worker.state();
        worker.handle(input, now, &mut self.outbox);
        let is = worker.state();
        if was == State::Ready
            && is != was
            && let Some(slot) = self.slots.get_mut(&id.slot())
        {
            slot.handle_leaving(id);
        }
        Some(is)
    }

    /// The time of this call, never before that of the last one.
    pub(crate) fn tick(&mut self, now: Instant) -> Instant {
        let now = self.now.map_or(now, |last| last.max(now));
        self.now = Some(now);
        now
    }
}
