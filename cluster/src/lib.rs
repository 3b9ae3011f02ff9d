//! Multi-process servers: a primary that starts worker processes, shares ports among them, watches
//! them, and replaces them without losing a connection.
//!
//! ```no_run
//! use cluster::{Cluster, Role};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> cluster::Result<()> {
//!     match Cluster::builder().workers(4).role()? {
//!         Role::Primary(primary) => primary.run().await, // until SIGTERM
//!         Role::Worker(worker) => {
//!             let listener = worker.listen("0.0.0.0:3000").await?; // shared by all workers
//! #           #[cfg(feature = "axum")] {
//!             let app = axum::Router::new().layer(worker.layer());
//!             axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.ok();
//! #           }
//!             Ok(())
//!         }
//!     }
//! }
//! ```
//!
//! # What it promises
//!
//! * A connection is lost in a worker's crash only if the application in that worker had taken it. All others,
//!   also those that were already sent to it, go to another worker; the client never notices.
//! * A worker that hangs (stopped, or in a loop that never yields) gets no connections after five
//!   missed heartbeats, gives back those it had not taken, and is replaced after 10 s. If the primary itself was stopped, nobody is blamed.
//! * A worker that is asked to leave loses no request, keep-alive or not (see [`Worker::draining`]).
//! * A crash loop ends: first restart at once, then with growing pauses, and after ten in a minute of serving the
//!   slot is given up; when none is left, [`Primary::run`] says which worker, why, how often.
//! * No orphan: when the primary dies, however, its workers drain and are gone within 2 s, even one that is
//!   stopped or spinning.
//!
//! # Features
//!
//! * `http` (default): [`Worker::layer`], a tower layer.
//! * `axum`: `axum::serve::Listener` for [`Listener`].

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cluster needs Linux (5.10 or later)");

mod acceptor;
mod address;
#[cfg(feature = "axum")]
mod axum;
mod builder;
mod error;
mod event;
mod key;
#[cfg(feature = "http")]
mod layer;
mod listen;
mod listeners;
mod output;
mod post_mortem;
mod primary;
mod reuseport;
mod role;
mod signals;
mod status;
mod wire;
mod worker;

pub use cluster_balancer as balancer;
pub use cluster_health as health;
pub use cluster_ipc as ipc;
pub use cluster_shared_state as state;
pub use cluster_shared_state::tokio::SharedState;
pub use cluster_supervisor as supervisor;
pub use cluster_supervisor::WorkerId;

/// A line that a worker printed, as a sink gets it: see [`Output::lines`].
pub type Line<'a> = cluster_supervisor::os::Line<'a, WorkerId>;

pub use self::address::Address;
#[cfg(feature = "axum")]
pub use self::axum::PeerAddr;
pub use self::builder::{Builder, WhenFull};
pub use self::error::{Error, NotReplaced, Result};
pub use self::event::{Event, Events};
pub use self::key::{Found, Key, Peek};
#[cfg(feature = "http")]
pub use self::layer::{ClusterLayer, ClusterService, ResponseFuture};
pub use self::listen::{Listen, Mode, UnknownMode};
pub use self::output::Output;
pub use self::post_mortem::PostMortem;
pub use self::primary::{Handle, Primary, RollReport};
pub use self::role::Role;
pub use self::status::{AcceptStatus, ClusterStatus, ExecutableStatus, RollStatus, WorkerStatus};
pub use self::worker::{Listener, Stream, Worker};

/// Where it begins.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "only a name")]
pub struct Cluster;

impl Cluster {
    /// Settings with their defaults.
    pub fn builder() -> Builder {
        Builder::new()
    }
}
