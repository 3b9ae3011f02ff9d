//! Where the cores meet: each decision becomes an effect, or an input of another core.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use cluster_acceptor::Command;
use cluster_health::Probe;
use cluster_ipc::{Frame, Kind};
use cluster_supervisor::{Action, Event as Life, ExitCause, SlotView, StopSignal, WorkerId, WorkerState};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Core;
use super::link::Link;
use crate::event::Event;
use crate::messages;
use crate::record::{about, record};
use crate::wire::{self, ToWorker};
use crate::{Departure, Error, Result};

impl Core {
    /// Carries out decisions until there are none.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            // Actions come before the events of the same moment: who hears that a worker is ready may connect to it.
            if let Some(action) = self.supervisor.poll_action() {
                self.apply(action, now);
            } else if let Some(event) = self.supervisor.poll_event() {
                self.handle_life(event, now);
            } else if let Some(verdict) = self.monitor.poll_verdict() {
                self.judge(&verdict, now);
            } else {
                break;
            }
        }
        self.confirm();
        self.pass_over();
        self.steer();
        self.links.iter().for_each(|(id, link)| self.tasks.set_well(*id, link.may_serve()));
    }

    /// Sees to it that connections that come in by a socket of each slot find somebody who accepts them.
    fn steer(&mut self) {
        // When the cluster stops, all of them are the acceptor's.
        if self.stopping || self.parting.is_under_way() {
            return;
        }
        let well: BTreeSet<(u8, u32)> = self
            .links
            .iter()
            .filter(|(id, link)| link.takes_connections() && self.is_ready(**id))
            .flat_map(|(id, link)| link.listeners.iter().map(|listener| (listener, id.slot())))
            .collect();
        for orphan in self.listeners.steer(|listener, slot| well.contains(&(listener, slot))) {
            self.acceptor.command(Command::Orphan(orphan));
        }
    }

    pub(super) fn is_ready(&self, id: WorkerId) -> bool {
        self.supervisor.worker(id).is_some_and(|view| view.state() == WorkerState::Ready)
    }

    fn apply(&mut self, action: Action, now: Instant) {
        let id = action.id();
        match action {
            Action::Spawn(id) => self.spawn(id, now),
            Action::Admit(id) => {
                self.switch.assign(id.slot(), id);
                self.monitor.insert(id, now);
                // Ready is what it says when it has started.
                self.monitor.handle_probe(id, Probe::Startup, Ok(()), now, now);
                self.readmit(id);
            }
            Action::Withdraw(id) => {
                messages::hand_back(&self.switch, &self.supervisor, id);
                self.monitor.remove(id);
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            Action::AskStop(id) => self.ask_stop(id),
            Action::Signal(id, signal) => {
                let signal = match signal {
                    StopSignal::Term => Signal::TERM,
                    StopSignal::Kill => Signal::KILL,
                };
                if let Some(Err(error)) = self.links.get_mut(&id).map(|link| link.body.signal(signal)) {
                    let error = format!("it could not be signalled: {}", chain(&error));
                    self.announce(Event::Error { id, error: error.into() });
                }
            }
        }
        self.note(id);
    }

    /// Lets those who look know of what a worker does now.
    pub(super) fn note(&mut self, id: WorkerId) {
        // It is no worker yet; one that is gone is told of by its exit.
        let is_held = |slot: &SlotView| slot.newest() == id && slot.state() == WorkerState::Held;
        let held = || self.supervisor.slots().any(|slot| is_held(&slot)).then_some(WorkerState::Held);
        let state = self.supervisor.worker(id).map(|view| view.state()).or_else(held);
        let link = self.links.get(&id);
        let (pid, connected) = (link.map(Link::pid), link.is_some_and(|link| !link.disconnected));
        self.registry.update(id, pid, state.unwrap_or(WorkerState::Stopped), connected);
    }

    fn spawn(&mut self, id: WorkerId, now: Instant) {
        match self.bear(id, now) {
            Ok(link) => {
                self.links.insert(id, link);
                self.ledger.begin(id);
                self.supervisor.handle_spawned(id, now);
            }
            Err(error) => {
                // It may have printed something before it was given up.
                drop(self.cradle.last_words(id));
                self.spawn_error = Some((id, chain(&error).into()));
                self.supervisor.handle_spawn_failed(id, now);
            }
        }
    }

    fn bear(&mut self, id: WorkerId, now: Instant) -> Result<Link> {
        let release = self.supervisor.release_of(id).unwrap_or_default();
        // All that a worker may be started with are held until nobody may be.
        let pinned = self.releases.get(release).ok_or(Error::Ended)?;
        let settings = self.forks.settings(id.slot(), pinned);
        let newborn = self.cradle.bear(id, &pinned.executable, &settings)?;
        let (pid, board) = (newborn.body.pid(), Arc::clone(&newborn.wires.board));
        let (link, data) =
            Link::new(id, newborn, &self.shared, &self.switch, &self.tasks, self.reports.clone(), now)?;
        let (slot, generation) = (id.slot(), id.generation());
        let channel = Box::new(data);
        self.acceptor.command(Command::Attach { worker: id, slot, generation, pid, channel, board });
        Ok(link)
    }

    fn ask_stop(&self, id: WorkerId) {
        let Some(link) = self.links.get(&id) else { return };
        match wire::encode(&ToWorker::Drain) {
            Ok(bytes) => link.send(Frame::new(Kind::Message, 0, bytes)),
            Err(error) => {
                about!(error, id, link.pid(), %error, "worker {id} could not be asked to stop");
            }
        }
    }

    /// Gives connections to a worker again that was withdrawn while it went on being ready.
    pub(super) fn readmit(&self, id: WorkerId) {
        let Some(link) = self.links.get(&id) else { return };
        let ready = self.is_ready(id);
        let (capacity, listeners) = (link.capacity, link.listeners);
        if ready && link.may_serve() && !listeners.is_empty() {
            self.acceptor.command(Command::Admit { worker: id, capacity, listeners });
        }
    }

    /// Publishes what happened to a worker, and lets go of one that is dead.
    fn handle_life(&mut self, event: Life, now: Instant) {
        let id = event.worker();
        let pid = id.and_then(|id| self.links.get(&id)).map(Link::pid);
        self.look_at_life(&event);
        let ready = matches!(event, Life::Ready { .. });
        let exited = matches!(event, Life::Exited { .. });
        if let Life::Replaced { new, .. } = event {
            self.ledger.count_replaced(new.slot());
        }
        let slot = event.slot();
        let ends = exited || matches!(event, Life::Stopped { .. } | Life::GaveUp(_));
        self.handle_roll_event(&event);
        let post_mortem = id.filter(|_| exited).and_then(|id| self.post_mortems.remove(&id)).map(Arc::new);
        let failed = matches!(event, Life::SpawnFailed { .. });
        let error = failed.then(|| self.why_not_spawned(id)).flatten();
        self.announce(Event::Lifecycle { event, pid, post_mortem, error });
        if ready {
            self.announce_serving();
        }
        if let Some(id) = id.filter(|_| ready) {
            self.release_listeners(id.slot(), now);
        }
        if let Some(id) = id.filter(|_| exited) {
            self.monitor.remove(id);
            self.bury(id);
            self.acceptor.command(Command::Forget { worker: id });
            self.forget_releases();
        }
        match slot.filter(|_| ends) {
            Some(slot) if self.is_over(slot) => self.release_all_listeners(slot),
            // A predecessor may have been the last one who wanted something.
            Some(slot) => self.release_listeners(slot, now),
            None => {}
        }
    }

    /// Whether nobody lives in this slot, nor will. A worker that has yet to end keeps its ports open, though it takes no more
    /// connections: another one may be started meanwhile, and nobody who connects is refused.
    fn is_over(&self, slot: u32) -> bool {
        let is_wanted = self.supervisor.slots().any(|view| view.slot() == slot && view.is_wanted());
        !is_wanted && !self.links.keys().any(|id| id.slot() == slot)
    }

    /// Notes who comes, who does what, and who is gone: before it is told.
    fn look_at_life(&mut self, event: &Life) {
        match event {
            Life::Starting { id, .. } | Life::Held { id } => drop(self.registry.add(*id)),
            Life::SpawnFailed { id, .. } => return self.registry.remove(*id, Departure::NeverStarted),
            Life::Exited { id, exit, cause, .. } => {
                // Whoever goes since it was not asked to: the cluster is no more the one that somebody left empty.
                self.resting &= cause.is_asked() || *cause == ExitCause::Left;
                let departure = Departure::new(*exit, *cause, self.registry.was_killed(*id, *exit));
                return self.registry.remove(*id, departure);
            }
            Life::Stopped { slot } => {
                self.forget_forks();
                // Whose turn did not come.
                let supervisor = &self.supervisor;
                let is_gone = |id: &WorkerId| supervisor.worker(*id).is_none();
                for id in self.registry.of_slot(*slot).into_iter().filter(is_gone) {
                    self.registry.remove(id, Departure::NeverStarted);
                }
            }
            Life::GaveUp(_) => {
                self.resting = false;
                self.gave_up.push(event.to_string());
            }
            _ => {}
        }
        if let Some(id) = event.worker() {
            self.note(id);
        }
    }

    /// Sees to it that nobody is left of a worker that has ended, while others go on.
    fn bury(&mut self, id: WorkerId) {
        let Some(link) = self.links.remove(&id) else { return };
        let pid = link.pid();
        if let Some(remains) = link.body.into_remains(self.config.kill_descendants) {
            self.unreaped.insert(id, pid);
            tokio::spawn(remains.sweep(id, self.reports.clone()));
        }
    }

    /// Why this worker could not be started, unless another one could not be since.
    pub(super) fn why_not_spawned(&self, id: Option<WorkerId>) -> Option<Arc<str>> {
        let (of, error) = self.spawn_error.as_ref()?;
        (Some(*of) == id).then(|| Arc::clone(error))
    }

    fn announce_serving(&mut self) {
        let workers = self.supervisor.workers().filter(|view| view.state() == WorkerState::Ready).count();
        if !self.serving && workers >= self.config.workers {
            self.serving = true;
            self.announce(Event::Serving { addresses: self.listeners.addresses(), workers });
        }
    }

    /// One line in the log, one event to subscribers.
    pub(super) fn announce(&self, event: Event) {
        record(&event, event.worker().and_then(|id| self.pid(id)));
        self.events.publish(event);
    }

    /// The process that a worker has, or had if it has ended and is not reaped yet.
    pub(super) fn pid(&self, id: WorkerId) -> Option<u32> {
        let link = self.links.get(&id).map(Link::pid);
        link.or_else(|| self.unreaped.get(&id).copied())
    }
}

/// An error with its causes and, where there is one, the remedy, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        line = format!("{line}: {cause}");
        let errno = cause.downcast_ref::<std::io::Error>().and_then(Errno::from_io_error);
        line += match errno {
            Some(Errno::MFILE) => " (raise `ulimit -n`)",
            Some(Errno::AGAIN) => " (raise `ulimit -u`, or the limit of tasks of its control group)",
            _ => "",
        };
    }
    line
}
