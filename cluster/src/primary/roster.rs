//! Who lives, for those who only look: a table that the primary's loop keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_supervisor::{Exit, StopSignal, WorkerId, WorkerState};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{Departure, Settings};

/// What is known of a worker.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) pid: Option<u32>,
    pub(super) state: WorkerState,
    pub(super) connected: bool,
    pub(super) departure: Option<Departure>,
}

/// The table as others see it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    shared: Arc<RwLock<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    living: BTreeMap<WorkerId, watch::Receiver<Snapshot>>,
    settings: Arc<Settings>,
}

impl Roster {
    pub(super) fn new(settings: Settings) -> Self {
        let table = Table { settings: Arc::new(settings), ..Table::default() };
        Self { shared: Arc::new(RwLock::new(table)) }
    }

    /// All who are not gone, by id.
    pub(super) fn all(&self) -> Vec<(WorkerId, watch::Receiver<Snapshot>)> {
        self.shared.read().living.iter().map(|(id, watched)| (*id, watched.clone())).collect()
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<watch::Receiver<Snapshot>> {
        self.shared.read().living.get(&id).cloned()
    }

    /// The one of this slot who is ready, the elder of two; the newest if none is.
    pub(super) fn of_slot(&self, slot: u32) -> Option<(WorkerId, watch::Receiver<Snapshot>)> {
        let table = self.shared.read();
        let mut lives = table.living.range(WorkerId::new(slot, 0)..=WorkerId::new(slot, u32::MAX));
        let ready = lives.clone().find(|(_, watched)| watched.borrow().state == WorkerState::Ready);
        ready.or_else(|| lives.next_back()).map(|(id, watched)| (*id, watched.clone()))
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.shared.read().settings)
    }

    pub(super) fn set_settings(&self, settings: Arc<Settings>) {
        self.shared.write().settings = settings;
    }
}

/// The side of the primary's loop. What nobody tells of any more when this is dropped, nobody will ever know.
#[derive(Debug)]
pub(super) struct Registry {
    roster: Roster,
    entries: BTreeMap<WorkerId, Entry>,
}

#[derive(Debug)]
struct Entry {
    sender: watch::Sender<Snapshot>,
    /// The last signal that somebody had sent to it.
    killed: Option<i32>,
    /// It said that it leaves since it was told to by somebody.
    terminated: bool,
}

impl Registry {
    pub(super) fn new(roster: Roster) -> Self {
        Self { roster, entries: BTreeMap::new() }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A new one, unless it is known.
    pub(super) fn add(&mut self, id: WorkerId) -> watch::Receiver<Snapshot> {
        let entry = self.entries.entry(id).or_insert_with(|| {
            let state = WorkerState::Starting;
            let (sender, watched) =
                watch::channel(Snapshot { pid: None, state, connected: false, departure: None });
            self.roster.shared.write().living.insert(id, watched);
            Entry { sender, killed: None, terminated: false }
        });
        entry.sender.subscribe()
    }

    pub(super) fn update(&mut self, id: WorkerId, pid: Option<u32>, state: WorkerState, connected: bool) {
        if let Some(entry) = self.entries.get(&id) {
            entry.sender.send_modify(|snapshot| {
                snapshot.pid = pid.or(snapshot.pid);
                snapshot.state = state;
                snapshot.connected = connected;
            });
        }
    }

    /// Somebody has this signal sent to it.
    pub(super) fn note_kill(&mut self, id: WorkerId, signal: i32) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.killed = Some(signal);
        }
    }

    /// It says that it was told to leave by somebody else.
    pub(super) fn note_terminated(&mut self, id: WorkerId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.terminated = true;
        }
    }

    /// Whether its end is the work of the signal that somebody had sent to it: it died of it, or left in order since it was SIGTERM.
    pub(super) fn was_killed(&self, id: WorkerId, exit: Exit) -> bool {
        let killed = |entry: &Entry| {
            let signal = entry.killed?;
            Some(exit == Exit::Signal(signal) || entry.terminated && signal == StopSignal::Term.number())
        };
        self.entries.get(&id).and_then(killed).unwrap_or(false)
    }

    /// It is gone, and no more in the table.
    pub(super) fn remove(&mut self, id: WorkerId, departure: Departure) {
        self.roster.shared.write().living.remove(&id);
        if let Some(entry) = self.entries.remove(&id) {
            entry.sender.send_modify(|snapshot| {
                snapshot.state = WorkerState::Stopped;
                snapshot.connected = false;
                snapshot.departure = Some(departure);
            });
        }
    }

    /// Those of a slot.
    pub(super) fn of_slot(&self, slot: u32) -> Vec<WorkerId> {
        self.entries.keys().copied().filter(|id| id.slot() == slot).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.roster.shared.write().living.clear();
    }
}
