//! The worker's replica of the shared state.

use cluster_ipc::Socket;
use cluster_shared_state::tokio::{Hub, SharedState, ipc, memory};
use cluster_shared_state::{Epoch, PublisherConfig, ReplicaConfig};
use cluster_supervisor::WorkerId;
use tracing::Instrument;

use crate::primary::client;

/// A replica that follows the primary over this socket until the primary is gone. Then it can be read, and no more.
pub(super) fn follow(id: WorkerId, socket: Socket) -> SharedState {
    let (state, mut follower) = SharedState::new(client(id), ReplicaConfig::new());
    let following = async move {
        match ipc::accept(socket).await {
            Ok((link, listening)) => {
                let error = follower.follow_listening(link, listening).await;
                tracing::debug!(%error, "the shared state follows no more");
            }
            // Then this worker is never ready, and another is tried.
            Err(error) => tracing::error!(%error, "the shared state can't be followed"),
        }
    };
    tokio::spawn(following.instrument(super::span::span(id)));
    state
}

/// The state of a process that is all of its cluster.
pub(super) fn alone(id: WorkerId, config: PublisherConfig) -> SharedState {
    let hub = Hub::new(Epoch::new(1), config);
    let (state, mut follower) = SharedState::new(client(id), ReplicaConfig::new());
    let (here, there) = memory();
    tokio::spawn(async move { tokio::join!(hub.serve(client(id), there), follower.follow(here)) });
    state
}
