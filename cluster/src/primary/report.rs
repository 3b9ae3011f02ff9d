//! How everybody is, as the primary sees it.

use std::time::Instant;

use cluster_ipc::board::Figures;
use cluster_supervisor::{WorkerId, WorkerState};

use super::Core;
use super::link::Link;
use crate::status::{ClusterStatus, ExecutableStatus, RollStatus, WorkerStatus};

impl Core {
    pub(super) fn status(&self, now: Instant) -> ClusterStatus {
        let status = self.supervisor.status();
        let processes = self.links.iter().map(|(id, link)| self.status_of(*id, link, now));
        let empty = status.slots.iter().filter(|slot| slot.current().is_none()).map(|slot| {
            let given_up = status.given_up.iter().find(|given_up| given_up.slot() == slot.slot());
            WorkerStatus {
                slot: slot.slot(),
                state: slot.state().as_str().to_owned(),
                restarts: slot.restarts(),
                release: slot.release().number(),
                reason: given_up.map(ToString::to_string),
                ..WorkerStatus::of(&Figures::default())
            }
        });
        let mut workers: Vec<_> = processes.chain(empty).collect();
        workers.sort_by_key(|worker| (worker.slot, worker.generation));
        let executable = self.cradle.releases.get(status.release);
        ClusterStatus {
            primary_pid: std::process::id(),
            listening: self.listeners.addresses(),
            workers,
            accept: self.acceptor.stats().snapshot(),
            executable: executable.map(|executable| ExecutableStatus {
                path: executable.path().to_string_lossy().into_owned(),
                pinned: executable.is_pinned(),
                release: status.release.number(),
            }),
            roll: status.roll.map(|roll| RollStatus {
                release: roll.release().map(cluster_supervisor::Release::number),
                replaced: roll.replaced(),
                paused: roll.is_paused(),
                rolling_back: roll.is_rolling_back(),
            }),
        }
    }

    pub(super) fn status_of(&self, id: WorkerId, link: &Link, now: Instant) -> WorkerStatus {
        let view = self.supervisor.worker(id);
        let state = view.as_ref().map_or(WorkerState::Stopped, |view| view.state());
        WorkerStatus {
            slot: id.slot(),
            generation: id.generation(),
            pid: Some(link.child.pid()),
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
            uptime_ms: u64::try_from((now - link.started).as_millis()).unwrap_or(u64::MAX),
            ..WorkerStatus::of(&link.board.figures())
        }
    }
}
