//! Where the cores meet: each decision becomes an effect, or an input of another core.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use cluster_health::{Probe, VerdictKind};
use cluster_ipc::{Frame, Kind};
use cluster_supervisor::{Action, Event as Life, RollOutcome, WorkerId, WorkerState};
use rustix::io::Errno;

use super::Core;
use super::link::Link;
use crate::Result;
use crate::acceptor::Command;
use crate::event::Event;
use crate::wire::{self, ToWorker};

impl Core {
    /// Carries out decisions until there are none.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            // Actions come before the events of the same moment: who hears that a worker is ready may connect to it.
            if let Some(action) = self.supervisor.poll_action() {
                self.apply(action, now);
            } else if let Some(event) = self.supervisor.poll_event() {
                self.handle_life(event);
            } else if let Some(verdict) = self.monitor.poll_verdict() {
                self.judge(&verdict, now);
            } else {
                break;
            }
        }
        self.confirm();
        self.pass_over();
        self.steer();
    }

    /// Sees to it that connections that come in by a socket of each slot find somebody who accepts them.
    fn steer(&mut self) {
        // When the cluster stops, all of them are the acceptor's.
        if self.stopping {
            return;
        }
        let well: BTreeSet<(u8, u32)> = self
            .links
            .iter()
            .filter(|(id, link)| link.may_serve() && self.is_ready(**id))
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
        match action {
            Action::Spawn(id) => self.spawn(id, now),
            Action::Admit(id) => {
                self.monitor.insert(id, now);
                // Ready is what it says when it has started.
                self.monitor.handle_probe(id, Probe::Startup, Ok(()), now, now);
                self.readmit(id);
            }
            Action::Withdraw(id) => {
                self.monitor.remove(id);
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            Action::AskStop(id) => self.ask_stop(id),
            Action::Signal(id, signal) => {
                if let Some(link) = self.links.get_mut(&id)
                    && let Err(error) = link.signal(signal)
                {
                    tracing::error!(slot = id.slot(), pid = link.child.pid(), %error, "worker {id} could not be signalled");
                }
            }
        }
    }

    fn spawn(&mut self, id: WorkerId, now: Instant) {
        match self.bear(id, now) {
            Ok(link) => {
                self.links.insert(id, link);
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
        let newborn = self.cradle.bear(id, release)?;
        let board = Arc::clone(&newborn.board);
        let (link, data) = Link::new(id, newborn, &self.shared, self.reports.clone(), now)?;
        self.acceptor.command(Command::Attach { worker: id, channel: Box::new(data), board });
        Ok(link)
    }

    fn ask_stop(&self, id: WorkerId) {
        let Some(link) = self.links.get(&id) else { return };
        match wire::encode(&ToWorker::Drain) {
            Ok(bytes) => link.send(Frame::new(Kind::Message, 0, bytes)),
            Err(error) => tracing::error!(slot = id.slot(), %error, "worker {id} could not be asked to stop"),
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
    fn handle_life(&mut self, event: Life) {
        let id = event.worker();
        let pid = id.and_then(|id| self.links.get(&id)).map(|link| link.child.pid());
        if let Life::GaveUp(_) = event {
            self.gave_up.push(event.to_string());
        }
        let ready = matches!(event, Life::Ready { .. });
        let exited = matches!(event, Life::Exited { .. });
        self.handle_roll_event(&event);
        let post_mortem = id.filter(|_| exited).and_then(|id| self.post_mortems.remove(&id)).map(Arc::new);
        let failed = matches!(event, Life::SpawnFailed { .. });
        let error = failed.then(|| self.why_not_spawned(id)).flatten();
        self.announce(Event::Lifecycle { event, pid, post_mortem, error });
        if ready {
            self.announce_serving();
        }
        if let Some(id) = id.filter(|_| exited) {
            self.monitor.remove(id);
            self.bury(id);
            self.acceptor.command(Command::Forget { worker: id });
            self.forget_releases();
        }
    }

    /// Sees to it that nobody is left of a worker that has ended, while others go on.
    fn bury(&mut self, id: WorkerId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.unreaped.insert(id, link.child.pid());
        let remains = link.into_remains(self.config.kill_descendants);
        tokio::spawn(remains.sweep(id, self.reports.clone()));
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
        match &event {
            Event::Lifecycle { event: life, pid, .. } => log(life, *pid, &event),
            Event::Health { id, kind, .. } if *kind != VerdictKind::Recovered => {
                tracing::warn!(slot = id.slot(), pid = self.pid(*id), "{event}");
            }
            Event::LeftBehind { id, .. } => tracing::warn!(slot = id.slot(), "{event}"),
            Event::Health { id, .. } | Event::Readiness { id, .. } | Event::Listening { id, .. } => {
                tracing::info!(slot = id.slot(), pid = self.pid(*id), "{event}");
            }
            _ => tracing::info!("{event}"),
        }
        self.events.publish(event);
    }

    fn pid(&self, id: WorkerId) -> Option<u32> {
        self.links.get(&id).map(|link| link.child.pid())
    }
}

fn log(life: &Life, pid: Option<u32>, event: &Event) {
    match life {
        Life::Exited { id, cause, .. } if cause.is_asked() => {
            tracing::info!(slot = id.slot(), pid, "{event}");
        }
        Life::Exited { id, .. } => tracing::warn!(slot = id.slot(), pid, "{event}"),
        Life::SpawnFailed { id, .. } => tracing::error!(slot = id.slot(), "{event}"),
        Life::ReplaceFailed { slot, .. } => tracing::warn!(slot, "{event}"),
        Life::RollFinished { outcome, .. } if *outcome != RollOutcome::Completed => tracing::warn!("{event}"),
        Life::BackingOff { slot, .. } => tracing::info!(slot, "{event}"),
        Life::GaveUp(given_up) => tracing::error!(slot = given_up.slot(), "{event}"),
        Life::Spawned { id } | Life::Online { id } => tracing::debug!(slot = id.slot(), pid, "{event}"),
        Life::Ready { id } | Life::Stopping { id, .. } => tracing::info!(slot = id.slot(), pid, "{event}"),
        _ => tracing::info!("{event}"),
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
