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
//! * When all are to leave, whoever was let in is answered, and everybody else is refused ([`Handle::shutdown`]).
//! * A crash loop ends: first restart at once, then with growing pauses, and after ten in a minute of serving the
//!   slot is given up; when none is left, [`Primary::run`] says which worker, why, how often.
//! * No orphan: when the primary dies, however, its workers drain and are gone within 2 s, even one that is
//!   stopped or spinning.
//!
//! # A tour
//!
//! The examples named here are in the repository, a page each: `cargo run --release --example hello`.
//!
//! ## Listening
//!
//! [`Worker::listen`] asks the primary for an address; all workers that ask for the same share it. What is more than an address is said by
//! [`Listen`]: Unix sockets, sockets inherited from a service manager, the backlog. UDP is [`Worker::bind_udp`] (example `udp_echo`).
//!
//! Connections come in one of three ways, by [`Mode`]: handed over by the primary (the default), from one socket for all, or from a
//! `SO_REUSEPORT` socket per slot. A [`Stream`] reads and writes as tokio's do; TLS goes on top of it (example `tls`, where any worker resumes
//! sessions of all).
//!
//! With [`workers(0)`](Builder::workers) there is one process and no primary, for debuggers and tests; the program stays the same (example
//! `blocking`).
//!
//! ## Balancing
//!
//! The worker with the least to do gets the next connection. [`Builder::strategy`] takes another strategy by its name, [`Builder::strategy_with`]
//! one of [`balancer::strategy`] or of your own. [`Builder::key`] says which connections belong together: of one client, cookie, host, … (example
//! `sticky`).
//!
//! ```no_run
//! use std::time::Duration;
//! use cluster::balancer::LeastLoaded;
//! use cluster::balancer::strategy::Sticky;
//! use cluster::{Cluster, Key, WhenFull};
//!
//! let builder = Cluster::builder()
//!     .strategy_with(Sticky::new(LeastLoaded::new(), Duration::from_secs(1800)))
//!     .key(Key::first_of([Key::cookie("sid"), Key::address()]))
//!     .max_connections_per_worker(10_000)
//!     .when_full(WhenFull::Wait);
//! # drop(builder);
//! ```
//!
//! ## Restarts
//!
//! A worker that dies is replaced: at once if it ran well before, with growing pauses if not, and not for ever ([`Builder::max_restarts`]).
//! [`Builder::policy`] has the rest: which exits are followed by a restart, how long a start may take, who goes down with whom. What happens is
//! told by [`Primary::events`]; a death with all that is known of it, in a [`PostMortem`]. The [`Handle`] starts, stops and replaces single
//! workers. Example `http`: `curl -X POST localhost:3000/crash`.
//!
//! ## Draining
//!
//! A worker that is to leave gets no new connections, and finishes those it has, in two phases; the server only has to be told of the second by
//! [`Worker::draining`], and [`Worker::layer`] tells HTTP clients of the first. A server that keeps no account of its connections waits for
//! [`Worker::drained`]. [`Builder::linger`] and the [policy](Builder::policy)'s stop sequence say how long all this may take. SIGTERM to the
//! primary, or [`Handle::shutdown`], does it with all workers; twice means now.
//!
//! ## Rolls
//!
//! [`Handle::reload`], or SIGHUP, replaces all workers without losing a request, each successor ready before its predecessor drains. If there
//! is a new executable, one canary runs it first ([`Builder::rolling`]), and if that is no good, all goes on with the old one. Example `rolling`.
//!
//! ## Health
//!
//! Workers beat, and one that doesn't gets no connections and is replaced in the end ([`Builder::heartbeat`]). Limits of memory, CPU use,
//! requests, lifetime, failures and figures of your own ([`Worker::gauge`]) are set by [`Builder::max_memory`] and its like, or in detail:
//!
//! ```no_run
//! use std::time::Duration;
//! use cluster::Cluster;
//! use cluster::health::{Checks, Limit, Outliers, Quantity};
//!
//! let half_a_minute = Duration::from_secs(30);
//! let checks = Checks::new()
//!     .limit(Quantity::Memory, Limit::over(500e6).lasting(half_a_minute).recycle())
//!     .limit(Quantity::gauge("queue"), Limit::over(1000.0).suspect())
//!     .outliers(Outliers::new());
//! let builder = Cluster::builder().health(checks);
//! # drop(builder);
//! ```
//!
//! ## State
//!
//! [`Worker::state`] and [`Handle::state`] are one map, read at the speed of memory and written by way of the primary: counters,
//! compare-and-set, transactions, keys that expire or end with their worker, and watches. [`Typed`](state::tokio::Typed) has values of your own types in
//! it. Examples `counter`, `sessions`, `rate_limiter`, `configuration`.
//!
//! ## Messages
//!
//! [`Worker::messages`] and [`Handle::messages`] send to the primary, to one worker or to all others, and ask any of them; a [`Message`] is any
//! serde type with a name, a [`Request`] one with a reply, and open sockets and files may go along. See [`Messages`] and the example `messages`.
//!
//! ## Tasks
//!
//! [`Worker::tasks`] and [`Handle::tasks`] submit work to whichever worker runs it ([`Worker::run_tasks`], or [`Worker::run_blocking_tasks`] for what
//! computes for long): at most so many at a time in each, at most once, elsewhere if a worker dies before it began. A task may have a deadline, be
//! cancelled, and tell of its progress. See [`Tasks`] and the example `tasks`.
//!
//! ## Metrics
//!
//! [`Worker::status`] and [`Handle::status`] tell how everybody is, in a [`ClusterStatus`] that can be serialised, printed as a table, or (feature
//! `prometheus`) written as text for Prometheus: so any worker serves the figures of all. Totals don't go back when a worker is replaced. The
//! application adds its own by [`Worker::count`] and [`Worker::gauge`]. [`Builder::metrics_every`] and [`Builder::report_every`] tell unasked.
//! [`Worker::span`] puts the worker into the records of `tracing`. Example `metrics`.
//!
//! ## Workers, one by one
//!
//! [`Handle::fork`] starts one more worker, with an environment and open files of its own if need be ([`Fork`]), and returns its [`WorkerHandle`]:
//! how it is, its events, messages to it, a signal, its end, and how it went ([`Departure`]). [`Handle::setup`] changes what later workers are
//! started with ([`Settings`]), [`Handle::disconnect`] has all of them leave. Who comes from Node's `cluster` finds each of its methods, options and
//! events in `docs/from-node.md`.
//!
//! ## Tests of your own
//!
//! With the feature `test-util`, `testing::TestCluster` runs the workers as tasks of a test, on a clock that it may stop: how a server takes crashes,
//! restarts and drains is tested in milliseconds.
//!
//! # Features
//!
//! * `http` (default): [`Worker::layer`], a tower layer.
//! * `axum`: `axum::serve::Listener` for [`Listener`].
//! * `prometheus`: `ClusterStatus::to_prometheus`, the status of all as text, to be served by any worker.
//! * `test-util`: `testing`, a cluster within one process, with a virtual clock, for tests of what runs on this one.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cluster needs Linux (5.10 or later)");

#[cfg(feature = "axum")]
mod axum;
mod builder;
mod clock;
mod departure;
mod error;
mod event;
mod fork;
#[cfg(feature = "http")]
mod layer;
mod messages;
mod output;
mod post_mortem;
mod primary;
mod record;
mod reporting;
mod role;
mod scheduling;
mod settings;
mod signals;
mod status;
#[cfg(feature = "test-util")]
pub mod testing;
mod wire;
mod worker;

pub use cluster_acceptor as acceptor;
pub use cluster_acceptor::worker::{Connection, Stream};
pub use cluster_acceptor::{AcceptStatus, Address, Listen, Mode, Peek, UnknownMode, WhenFull};
pub use cluster_balancer as balancer;
pub use cluster_balancer::key::{Found, Key};
pub use cluster_health as health;
pub use cluster_ipc as ipc;
pub use cluster_ipc::events::{Call as Request, Event as Message};
pub use cluster_shared_state as state;
pub use cluster_shared_state::tokio::SharedState;
pub use cluster_supervisor as supervisor;
pub use cluster_supervisor::{Totals, WorkerId};
pub use cluster_tasks as tasks;
pub use cluster_tasks::{Begun, Progress, Submission, TaskContext, TaskError, TaskHandle, TaskPolicy, Tasks};

/// A line that a worker printed, as a sink gets it: see [`Output::lines`].
pub type Line<'a> = cluster_supervisor::os::Line<'a, WorkerId>;

#[cfg(feature = "axum")]
pub use self::axum::{PeerAddr, Via};
pub use self::builder::Builder;
pub use self::departure::Departure;
pub use self::error::{Error, NotReplaced, Result};
pub use self::event::{Event, Events};
pub use self::fork::Fork;
#[cfg(feature = "http")]
pub use self::layer::{ClusterLayer, ClusterService, ResponseFuture};
pub use self::messages::{Letter, Letters, Messages, Peer, Reached, To};
pub use self::output::Output;
pub use self::post_mortem::PostMortem;
pub use self::primary::{Handle, Primary, RollReport, WorkerEvents, WorkerHandle};
pub use self::role::Role;
pub use self::scheduling::Scheduling;
pub use self::settings::Settings;
pub use self::status::{ClusterStatus, ExecutableStatus, RollStatus, SlotStatus, WorkerStatus};

pub use self::worker::{Listener, UdpSocket, Worker};

/// Where it begins.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "only a name")]
pub struct Cluster;

impl Cluster {
    /// Settings with their defaults.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Whether a primary started this process as its worker: Node's `cluster.isWorker`.
    ///
    /// It looks at stdin, where a worker finds its channel, and consumes nothing: the answer is the same before
    /// [`Builder::role`] and after, on any thread, without a runtime. So a program may tell early, before it reads its configuration, say.
    ///
    /// ```
    /// use cluster::Cluster;
    ///
    /// assert!(Cluster::is_primary() && !Cluster::is_worker());
    /// ```
    pub fn is_worker() -> bool {
        cluster_ipc::is_child()
    }

    /// Whether no primary started this process: Node's `cluster.isPrimary`. In inline mode it is so, too, and the one process is the worker
    /// as well.
    pub fn is_primary() -> bool {
        !Self::is_worker()
    }
}
