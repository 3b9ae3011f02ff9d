//! Where the cores meet in a test: as in [`crate::primary`], with tasks in place of processes.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cluster_acceptor::{Acceptor, Command, Listeners, Turning};
use cluster_balancer::Classes;
use cluster_ipc::{Frame, Kind};
use cluster_supervisor::os::Death;
use cluster_supervisor::{
    Action, Event as Life, Exit, Figures, Roll, Supervisor, Totals, WorkerId, WorkerState,
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use super::life::{App, Living, Wiring};
use crate::event::Publisher;
use crate::messages::{self, Pool, Switch};
use crate::post_mortem::PostMortem;
use crate::primary::Shared as State;
use crate::status::{ClusterStatus, RollStatus, WorkerStatus, millis};
use crate::wire::{self, Greeting, ListenReply, Request, ToPrimary, ToWorker};
use crate::{Error, Event, NotReplaced, Result, RollReport};

/// The primary, as its own loop, the workers' tasks and the test have it.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// Something has changed: the loop looks when it has to wake next.
    turned: Notify,
    /// The same, for those who wait for something.
    changed: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(make: impl FnOnce(Weak<Self>) -> Core) -> Arc<Self> {
        Arc::new_cyclic(|shared| Self {
            core: Mutex::new(make(Weak::clone(shared))),
            turned: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// Does something to the primary, and all that follows from it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let result = self.settle(act);
        self.turned.notify_one();
        result
    }

    fn settle<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let now = tokio::time::Instant::now().into_std();
        let mut core = self.core.lock();
        let result = act(&mut core, now);
        core.settle(now);
        drop(core);
        self.changed.notify_waiters();
        result
    }

    /// Looks at the primary as it is.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Core, Instant) -> R) -> R {
        look(&self.core.lock(), tokio::time::Instant::now().into_std())
    }

    /// Ends all workers at once. They hold this, so nobody else would.
    pub(super) fn end(&self) {
        let living = std::mem::take(&mut self.core.lock().living);
        // Not under the lock: whoever ends may want it.
        drop(living);
    }

    /// Waits until there is what is looked for.
    pub(super) async fn until<R>(&self, mut look: impl FnMut(&mut Core) -> Option<R>) -> R {
        loop {
            // It hears of what changes from here on, also before it is awaited.
            let changed = self.changed.notified();
            let found = look(&mut self.core.lock());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }

    /// The loop of the primary: time passes, and connections come in.
    pub(super) async fn run(self: Arc<Self>, readable: cluster_ipc::tokio::Readable) {
        loop {
            readable.clear();
            self.settle(Core::handle_timeout);
            let deadline = self.core.lock().next_deadline();
            let until = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.turned.notified() => {}
                _ = readable.readable() => {}
                () = until => {}
            }
        }
    }
}

/// What a cluster in a test is made of.
pub(super) struct Core {
    pub(super) supervisor: Supervisor,
    pub(super) acceptor: Acceptor<WorkerId>,
    pub(super) turning: Turning<WorkerId>,
    pub(super) listeners: Listeners,
    pub(super) state: State,
    pub(super) switch: Switch,
    pub(super) tasks: Pool,
    pub(super) began: Instant,
    pub(super) greeting: Greeting,
    pub(super) app: App,
    pub(super) rolling: Roll,
    pub(super) events: Publisher,
    pub(super) living: BTreeMap<WorkerId, Living>,
    /// Of those who have ended.
    pub(super) exits: BTreeMap<WorkerId, Exit>,
    /// What came of replacing somebody, if somebody waits for it.
    pub(super) replaced: BTreeMap<WorkerId, Option<Result<WorkerId, NotReplaced>>>,
    /// What came of the last roll.
    pub(super) rolled: Option<RollReport>,
    pub(super) workers: usize,
    /// Has said that all workers are ready.
    pub(super) serving: bool,
    pub(super) stopping: bool,
    pub(super) gave_up: Vec<String>,
    /// When the acceptor has something to do.
    pub(super) due: Option<Instant>,
    pub(super) shared: Weak<Shared>,
}

impl Core {
    /// Carries out decisions until there are none, and turns the acceptor.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(action) = self.supervisor.poll_action() {
                self.apply(action, now);
            } else if let Some(event) = self.supervisor.poll_event() {
                self.handle_life(event, now);
            } else {
                break;
            }
        }
        self.living.iter().for_each(|(id, living)| self.tasks.set_well(*id, !living.unready));
        match self.turning.turn(now) {
            Ok(due) => self.due = due,
            Err(error) => tracing::error!(%error, "no connections any more"),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.supervisor.current_roll().is_some() {
            for (id, living) in &self.living {
                let figures = living.board.figures();
                self.supervisor.handle_figures(*id, Figures::new(figures.requests, figures.errors), now);
            }
        }
        self.supervisor.handle_timeout(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.supervisor.poll_timeout(), self.due].into_iter().flatten().min()
    }

    fn apply(&mut self, action: Action, now: Instant) {
        match action {
            Action::Spawn(id) => match self.bear(id, now) {
                Ok(()) => self.supervisor.handle_spawned(id, now),
                Err(error) => {
                    tracing::error!(%error, "worker {id} could not be started");
                    self.supervisor.handle_spawn_failed(id, now);
                }
            },
            Action::Admit(id) => {
                self.switch.assign(id.slot(), id);
                self.readmit(id);
            }
            Action::Withdraw(id) => {
                messages::hand_back(&self.switch, &self.supervisor, id);
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            Action::AskStop(id) => {
                if let (Some(living), Ok(bytes)) = (self.living.get(&id), wire::encode(&ToWorker::Drain)) {
                    living.send(Frame::new(Kind::Message, 0, bytes));
                }
            }
            Action::Signal(id, signal) => {
                if let Some(living) = self.living.get(&id) {
                    living.signal(signal);
                }
            }
        }
    }

    fn bear(&mut self, id: WorkerId, now: Instant) -> Result<()> {
        (self.greeting.slot, self.greeting.generation) = (id.slot(), id.generation());
        let shared = self.shared.upgrade().ok_or(Error::Ended)?;
        let wiring = Wiring { state: &self.state, switch: &self.switch, tasks: &self.tasks, shared };
        let (living, data) = Living::begin(id, &self.greeting, &self.app, wiring, now)?;
        let (slot, generation) = (id.slot(), id.generation());
        let (channel, board) = (Box::new(data), Arc::clone(&living.board));
        let pid = std::process::id();
        self.acceptor.command(Command::Attach { worker: id, slot, generation, pid, channel, board });
        self.living.insert(id, living);
        Ok(())
    }

    /// The worker that a slot has now.
    pub(super) fn current(&self, slot: u32) -> Option<WorkerId> {
        self.supervisor.slots().find(|view| view.slot() == slot)?.current()
    }

    pub(super) fn replace(&mut self, slot: u32, now: Instant) -> Result<WorkerId> {
        let current = self.current(slot).filter(|_| !self.stopping);
        let id = current.ok_or(Error::NotReplaced { slot, reason: NotReplaced::NoWorker })?;
        self.replaced.insert(id, None);
        self.supervisor.replace(id, now);
        Ok(id)
    }

    pub(super) fn roll(&mut self, now: Instant) -> Result<()> {
        if self.stopping {
            return Err(Error::Ended);
        }
        // There is but one program, and it has proved itself.
        let roll = self.rolling.clone().canaries(0, Duration::ZERO);
        self.supervisor.roll(roll, now).map_err(Error::Roll)?;
        self.rolled = None;
        Ok(())
    }

    /// Closes what is listened on. The receiver tells when what had connected is handed out.
    pub(super) fn close(&mut self) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        if !std::mem::replace(&mut self.stopping, true) {
            self.events.publish(Event::ShuttingDown);
            let (linger, within) = (self.greeting.deadlines.linger, self.greeting.deadlines.ordinary);
            self.acceptor.command(Command::Close { linger, within, done });
        }
        closed
    }

    /// Whether all are ready, or why that will never be.
    pub(super) fn has_started(&self) -> Option<Result<()>> {
        match (self.serving, self.supervisor.is_done()) {
            (true, _) => Some(Ok(())),
            (false, true) => Some(self.outcome().and(Err(Error::Ended))),
            (false, false) => None,
        }
    }

    pub(super) fn outcome(&self) -> Result<()> {
        match self.gave_up.is_empty() || self.stopping {
            true => Ok(()),
            false => Err(Error::GaveUp { reason: self.gave_up.join("; ") }),
        }
    }

    /// Gives connections to a worker that is ready.
    fn readmit(&self, id: WorkerId) {
        let is_ready = |view: cluster_supervisor::WorkerView| view.state() == WorkerState::Ready;
        let Some(living) = self.living.get(&id) else { return };
        let (capacity, listeners) = (living.capacity, living.listeners);
        if !living.unready && !listeners.is_empty() && self.supervisor.worker(id).is_some_and(is_ready) {
            self.acceptor.command(Command::Admit { worker: id, capacity, listeners });
        }
    }

    /// Publishes what happened to a worker, and lets go of one that has ended.
    fn handle_life(&mut self, event: Life, now: Instant) {
        let ended = match &event {
            Life::Exited { id, exit, .. } => Some((*id, *exit)),
            _ => None,
        };
        if let Life::GaveUp(_) = event {
            self.gave_up.push(event.to_string());
        }
        let post_mortem = ended.and_then(|(id, exit)| {
            let figures = self.living.get(&id).map(|living| self.status_of(id, living, now))?;
            let death = Death::new(exit);
            Some(Arc::new(PostMortem { death, reason: None, figures, last_words: String::new() }))
        });
        self.note_replaced(&event);
        let is_ready = matches!(event, Life::Ready { .. });
        self.events.publish(Event::Lifecycle { event, pid: None, post_mortem, error: None });
        if is_ready {
            self.announce_serving();
        }
        if let Some((id, exit)) = ended {
            self.acceptor.command(Command::Forget { worker: id });
            self.living.remove(&id);
            self.exits.insert(id, exit);
        }
    }

    fn announce_serving(&mut self) {
        let workers = self.supervisor.workers().filter(|view| view.state() == WorkerState::Ready).count();
        if !self.serving && workers >= self.workers {
            self.serving = true;
            self.events.publish(Event::Serving { addresses: self.listeners.addresses(), workers });
        }
    }

    /// Keeps what came of replacing workers, for those who wait for it.
    fn note_replaced(&mut self, event: &Life) {
        let is_replacing =
            |slot: u32| self.supervisor.slots().any(|view| view.slot() == slot && view.is_replacing());
        let (slot, result) = match event {
            Life::RollFinished { outcome, replaced, stranded, .. } => {
                self.rolled = Some(RollReport {
                    outcome: outcome.clone(),
                    replaced: *replaced,
                    stranded: *stranded,
                    error: None,
                    new_executable: false,
                });
                return;
            }
            Life::Replaced { new, .. } => (new.slot(), Ok(*new)),
            Life::ReplaceFailed { slot, reason, .. } => (*slot, Err(NotReplaced::Unfit(reason.clone()))),
            Life::Exited { id, .. } if !is_replacing(id.slot()) => (id.slot(), Err(NotReplaced::Gone)),
            Life::Stopped { slot } if !is_replacing(*slot) => (*slot, Err(NotReplaced::Gone)),
            _ => return,
        };
        for (_, waiting) in self.replaced.iter_mut().filter(|(id, _)| id.slot() == slot) {
            waiting.get_or_insert_with(|| result.clone());
        }
    }

    /// A worker has ended: whatever of it is left in this process is cut off.
    pub(super) fn handle_exit(&mut self, id: WorkerId, exit: Exit, now: Instant) {
        if let Some(living) = self.living.get(&id) {
            living.cut();
        }
        self.state.gone(id);
        self.supervisor.handle_exit(id, exit, now);
    }

    pub(super) fn handle_frame(&mut self, id: WorkerId, frame: &Frame<OwnedFd>, now: Instant) {
        let handled = match frame.kind() {
            Kind::Message => {
                wire::decode(frame.payload()).map(|message| self.handle_message(id, &message, now))
            }
            Kind::Request => wire::decode(frame.payload())
                .and_then(|request| self.handle_request(id, frame.id(), &request, now)),
            _ => {
                self.supervisor.handle_online(id, now);
                Ok(())
            }
        };
        if let Err(error) = handled {
            tracing::warn!(slot = id.slot(), %error, "worker {id} sent what cannot be understood");
        }
    }

    fn handle_message(&mut self, id: WorkerId, message: &ToPrimary, now: Instant) {
        let Some(living) = self.living.get_mut(&id) else { return };
        match message {
            ToPrimary::Accepting { listener, capacity } => {
                living.listeners = living.listeners.with(*listener);
                living.capacity = *capacity;
                self.readmit(id);
            }
            ToPrimary::Dropped { listener } => {
                living.listeners = living.listeners.without(*listener);
                self.withdraw_or_readmit(id);
            }
            ToPrimary::Leaving => {
                living.listeners = Classes::none();
                self.withdraw_or_readmit(id);
            }
            ToPrimary::Ready => self.supervisor.handle_ready(id, now),
            ToPrimary::Readiness(ready) => {
                if std::mem::replace(&mut living.unready, !ready) == *ready {
                    if !ready && self.supervisor.slots().any(|slot| slot.successor() == Some(id)) {
                        // It was to show that it can.
                        self.supervisor.handle_unhealthy(id, now);
                    }
                    self.withdraw_or_readmit(id);
                    self.events.publish(Event::Readiness { id, ready: *ready });
                }
            }
            // Nobody's health is watched here, and nothing is counted over several lives.
            ToPrimary::Gauges(_) | ToPrimary::Counter { .. } => {}
        }
    }

    fn withdraw_or_readmit(&self, id: WorkerId) {
        match self.living.get(&id) {
            Some(living) if living.unready || living.listeners.is_empty() => {
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            _ => self.readmit(id),
        }
    }

    fn handle_request(&mut self, id: WorkerId, number: u64, request: &Request, now: Instant) -> Result<()> {
        match request {
            Request::Listen { listen, nth } => {
                let reply: ListenReply = match self.listeners.listen(listen, *nth, id.slot()) {
                    Ok(answer) => {
                        let (listener, address) = (answer.granted.listener, answer.granted.address.clone());
                        if let Some(socket) = answer.accept {
                            self.acceptor.command(Command::Listen { listener, socket });
                        }
                        self.events.publish(Event::Listening { id, address });
                        Ok(answer.granted)
                    }
                    Err(error) => Err(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())),
                };
                self.reply(id, number, &reply)
            }
            Request::Leave => {
                self.supervisor.handle_leaving(id, now);
                self.reply(id, number, &())
            }
            Request::Status => self.reply(id, number, &self.status(now)),
        }
    }

    fn reply(&self, id: WorkerId, number: u64, reply: &impl Serialize) -> Result<()> {
        if let Some(living) = self.living.get(&id) {
            living.send(Frame::new(Kind::Reply, number, wire::encode(reply)?));
        }
        Ok(())
    }

    pub(super) fn status(&self, now: Instant) -> ClusterStatus {
        let status = self.supervisor.status();
        let living = self.living.iter().map(|(id, living)| self.status_of(*id, living, now));
        let mut workers: Vec<_> = living.chain(WorkerStatus::of_empty_slots(&status)).collect();
        workers.sort_by_key(|worker| (worker.slot, worker.generation));
        ClusterStatus {
            primary_pid: std::process::id(),
            uptime_ms: millis(now.saturating_duration_since(self.began)),
            listening: self.listeners.addresses(),
            workers,
            totals: Totals::default(),
            slots: Vec::new(),
            counters: BTreeMap::new(),
            accept: self.acceptor.status(),
            executable: None,
            roll: status.roll.as_ref().map(RollStatus::of),
        }
    }

    fn status_of(&self, id: WorkerId, living: &Living, now: Instant) -> WorkerStatus {
        let view = self.supervisor.worker(id);
        let state = view.as_ref().map_or(WorkerState::Stopped, |view| view.state());
        let is_unready = living.unready && state == WorkerState::Ready;
        WorkerStatus {
            slot: id.slot(),
            generation: id.generation(),
            state: if is_unready { "unready" } else { state.as_str() }.to_owned(),
            restarts: view.as_ref().map_or(0, |view| view.restarts()),
            uptime_ms: millis(now.saturating_duration_since(living.started)),
            ..WorkerStatus::of(&living.board.figures())
        }
    }
}
