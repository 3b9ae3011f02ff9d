//! The shared state: its hub, a link to each worker, and the primary's own replica.

use std::sync::Arc;

use cluster_ipc::Socket;
use cluster_shared_state::tokio::{Follower, Hub, SharedState, ipc, memory};
use cluster_shared_state::{ClientId, Epoch, PublisherConfig, ReplicaConfig};
use cluster_supervisor::WorkerId;
use tokio::sync::Notify;

use super::link::Task;
use crate::Result;
use crate::record::about;

/// The primary's own replica. No worker has that number.
const OWN: ClientId = ClientId::new(u64::MAX - 1, 0);

/// The primary's own replica, which follows from the moment at which somebody wants it.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    state: SharedState,
    wanted: Arc<Notify>,
}

impl Own {
    pub(crate) fn new() -> (Self, Follower) {
        let (state, follower) = SharedState::new(OWN, ReplicaConfig::new());
        (Self { state, wanted: Arc::default() }, follower)
    }

    pub(crate) fn state(&self) -> SharedState {
        self.wanted.notify_one();
        self.state.clone()
    }
}

/// Who orders all writes.
#[derive(Debug)]
pub(crate) struct Shared {
    hub: Hub,
    /// What is committed is there for all workers at once.
    ring: ipc::Ring,
    max_request: usize,
    _own: Task,
}

impl Shared {
    /// Of this epoch, which no primary before had.
    pub(crate) fn new(
        epoch: u64,
        config: PublisherConfig,
        own: &Own,
        mut follower: Follower,
    ) -> Result<Self> {
        let (broadcast, ring) = ipc::broadcast()?;
        let hub = Hub::broadcasting(Epoch::new(epoch.max(1)), config, broadcast);
        let (wanted, server) = (Arc::clone(&own.wanted), hub.clone());
        let task = tokio::spawn(async move {
            wanted.notified().await;
            let (here, there) = memory();
            tokio::join!(server.serve(OWN, there), follower.follow(here));
        });
        let max_request = ipc::max_request(&config.limits);
        Ok(Self { hub, ring, max_request, _own: Task::new(&task) })
    }

    /// Serves a worker over its socket until it ends, or what is returned is dropped.
    pub(crate) fn serve(&self, id: WorkerId, pid: u32, socket: Socket) -> Result<Task> {
        // From here on, not from when the task runs: that may be after the worker is gone.
        let (link, bell) = ipc::offer(socket, self.max_request, &self.ring)?;
        let serving = self.hub.serve_listening(client(id), link, bell);
        let task = tokio::spawn(async move {
            let error = serving.await;
            about!(debug, id, pid, %error, "the shared state of worker {id} follows no more");
        });
        Ok(Task::new(&task))
    }

    /// A worker has exited: what it held goes.
    pub(crate) fn gone(&self, id: WorkerId) {
        self.hub.gone(client(id));
    }
}

/// A slot's worker: its generation never repeats, so it is its incarnation.
pub(crate) fn client(id: WorkerId) -> ClientId {
    ClientId::new(u64::from(id.slot()), u64::from(id.generation()))
}
