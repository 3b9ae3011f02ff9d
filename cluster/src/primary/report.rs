//! How everybody is, as the primary sees it.

use std::sync::Arc;
use std::time::Instant;

use cluster_supervisor::{WorkerId, WorkerState};

use super::Core;
use super::link::Link;
use crate::event::Event;
use crate::status::{ClusterStatus, ExecutableStatus, RollStatus, SlotStatus, WorkerStatus, millis};

impl Core {
    /// Brings the ledger up to date with those who live.
    fn take_stock(&mut self) {
        for (id, link) in &self.links {
            self.ledger.observe(*id, &link.counted());
        }
        for slot in self.supervisor.slots() {
            self.ledger.observe_restarts(slot.slot(), slot.restarts());
        }
    }

    /// Tells how everybody is to those who want to hear it regularly, when their time has come.
    pub(super) fn tell_regularly(&mut self, now: Instant) {
        let metrics = self.reporting.metrics.is_due(now);
        let table = self.reporting.table.is_due(now);
        if !metrics && !table {
            return;
        }
        let status = Arc::new(self.status(now));
        if table {
            self.reporting.sink.write(&status);
        }
        if metrics {
            // It is no news: not for the log.
            self.events.publish(Event::Metrics(status));
        }
    }

    pub(super) fn status(&mut self, now: Instant) -> ClusterStatus {
        self.take_stock();
        let status = self.supervisor.status();
        let processes = self.links.iter().map(|(id, link)| self.status_of(*id, link, now));
        let empty = WorkerStatus::of_empty_slots(&status);
        let mut workers: Vec<_> = processes.chain(empty).collect();
        workers.sort_by_key(|worker| (worker.slot, worker.generation));
        let executable = self.releases.get(status.release).map(|pinned| &pinned.executable);
        ClusterStatus {
            primary_pid: std::process::id(),
            uptime_ms: millis(now.saturating_duration_since(self.started)),
            listening: self.listeners.addresses(),
            workers,
            totals: self.ledger.totals(),
            slots: self.ledger.slots().map(|(slot, totals)| SlotStatus { slot, totals }).collect(),
            counters: self.ledger.counters(),
            accept: self.acceptor.status(),
            executable: executable.map(|executable| ExecutableStatus {
                path: executable.path().to_string_lossy().into_owned(),
                pinned: executable.is_pinned(),
                release: status.release.number(),
            }),
            roll: status.roll.as_ref().map(RollStatus::of),
        }
    }

    pub(super) fn status_of(&self, id: WorkerId, link: &Link, now: Instant) -> WorkerStatus {
        let view = self.supervisor.worker(id);
        let ago = |then| millis(now.saturating_duration_since(then));
        let state = view.as_ref().map_or(WorkerState::Stopped, |view| view.state());
        WorkerStatus {
            slot: id.slot(),
            generation: id.generation(),
            pid: Some(link.pid()),
            state: match state {
                WorkerState::Ready if link.silent || link.passed_over => "suspect",
                WorkerState::Ready if link.unready => "unready",
                state => state.as_str(),
            }
            .to_owned(),
            restarts: view.as_ref().map_or(0, |view| view.restarts()),
            release: view.map_or(0, |view| view.release().number()),
            memory_bytes: link.vitals.last().resident_bytes(),
            cpu_permille: link.vitals.cpu_permille(),
            open_files: link.vitals.last().open_descriptors(),
            uptime_ms: ago(link.started),
            addresses: self.listeners.addresses_of(link.listeners),
            heard_ms_ago: link.heard.map(ago),
            measured_ms_ago: link.vitals.measured().map(ago),
            gauges: link.gauges().collect(),
            ..WorkerStatus::of(&link.board.figures())
        }
    }
}
