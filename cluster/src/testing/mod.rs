//! A cluster within one process, for tests of what runs on a real one (feature `test-util`).
//!
//! How does your server take it when its worker is killed, replaced, or asked to leave? A [`TestCluster`] runs it in workers that are
//! tasks of the test. Everything else is what real processes have: the same [`Worker`], and behind it the same supervisor, acceptor,
//! shared state and messages. With tokio's clock [paused](tokio::time::pause) all that takes time takes none: back-off, linger and
//! deadlines pass as soon as there is nothing else to do, in their order.
//!
//! A server that finishes what it has begun:
//!
//! ```
//! use cluster::supervisor::Exit;
//! use cluster::testing::TestCluster;
//! use cluster::{Cluster, Worker};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! async fn echo(worker: Worker) -> cluster::Result<()> {
//!     let listener = worker.listen("127.0.0.1:7").await?;
//!     while let Some((mut stream, _)) = listener.accept().await {
//!         tokio::spawn(async move {
//!             let (mut read, mut write) = tokio::io::split(&mut stream);
//!             tokio::io::copy(&mut read, &mut write).await
//!         });
//!     }
//!     worker.drained().await;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::time::pause();
//! // In a #[tokio::test(start_paused = true)]:
//! let cluster = TestCluster::start(Cluster::builder().workers(1), echo).await?;
//! let mut client = cluster.connect()?;
//! client.write_all(b"before").await?;
//! client.read_exact(&mut [0; 6]).await?;
//!
//! let leaving = cluster.stop(0)?;
//! client.write_all(b"while it leaves").await?;
//! let mut answer = String::new();
//! client.shutdown().await?;
//! client.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "while it leaves");
//! assert_eq!(cluster.exit(leaving).await, Exit::Code(0));
//! # Ok(()) }
//! ```
//!
//! `cluster/tests/testing` has more: state after a restart, a leader that steps down.
//!
//! # What differs from processes
//!
//! * All share the thread, the memory and the clock of the test: a worker that blocks, blocks all of them.
//! * A worker that is killed, panics or returns loses its connections, its state and its messages at once, as a process does, but tasks that it
//!   has spawned can't be ended from outside: they go on until they notice. Those in a [`JoinSet`](tokio::task::JoinSet) of its own
//!   end with it.
//! * It ends with what it returns: what `main` may return, it may, with the same exit code (101 for a panic). `std::process::exit` ends the test.
//! * Nothing is bound: an address is known in its cluster only, so tests may use the same ports. Connections are Unix sockets below, whatever
//!   addresses they show. [`connect`](TestCluster::connect) is the way in. UDP and inherited sockets are not to be had.
//! * What was listened on once is kept until the cluster ends, though its listeners are dropped.
//! * The [status](TestCluster::status) has no totals over several lives, and no counters of the application.
//! * All connections are handed over ([`Mode::Handoff`](crate::Mode::Handoff)), whatever mode is asked for.
//! * Nobody's health is watched: there are no heartbeats, limits or samples, and no executables, environment, output or signals of processes.
//!   Of the [`Builder`] the rest counts.
//!
//! # The clock
//!
//! Pause it on a runtime of one thread (`#[tokio::test(start_paused = true)]`). While all tasks wait, tokio advances it to the next
//! timer, but not while something is on its way between workers, clients and the primary here: that goes through sockets
//! that have it before the sender goes on. The same can't be said of TCP or UDP, of other processes, and of threads
//! other than [`spawn_blocking`](tokio::task::spawn_blocking)'s: while a test waits for those, deadlines may pass.
//! So let a worker under test talk to the outside by something in memory, or leave the clock alone:
//! without a pause all works as well, in real time.

mod life;
mod primary;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::process::Termination;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cluster_acceptor::{Acceptor, Listeners, Settings};
use cluster_ipc::tokio::Readable;
use cluster_supervisor::{Exit, Supervisor, WorkerId};
use tokio::net::UnixStream;

use self::primary::{Core, Shared};
use crate::event::Publisher;
use crate::messages::{Desk, Pool, Switch};
use crate::primary::{Own, Shared as State, Task};
use crate::tasks::Tasks;
use crate::wire::Greeting;
use crate::{
    Address, Builder, ClusterStatus, Error, Events, Messages, NotReplaced, Result, RollReport, SharedState,
    Worker,
};

/// Of the jitter of back-offs: each run of a test is like the other.
const SEED: u64 = 1;

/// A cluster within this process. Dropping it ends its workers.
///
/// See the [module](self) for an example, and for what differs from processes.
#[derive(Debug)]
pub struct TestCluster {
    shared: Arc<Shared>,
    own: Own,
    messages: Messages,
    desk: Desk,
    events: Publisher,
    /// The port of the next client.
    port: AtomicU16,
    _loop: Task,
}

impl TestCluster {
    /// Starts the workers, each of which runs `app`, and returns when all are ready.
    ///
    /// # Errors
    ///
    /// As [`launch`](Self::launch); [`Error::GaveUp`] when every worker fails too often to start; [`Error::Ended`] when they end
    /// and are not to be restarted.
    ///
    /// # Panics
    ///
    /// As [`launch`](Self::launch).
    pub async fn start<F, T>(
        builder: Builder,
        app: impl Fn(Worker) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = T> + Send + 'static,
        T: Termination,
    {
        let cluster = Self::launch(builder, app)?;
        cluster.shared.until(|core| core.has_started()).await?;
        Ok(cluster)
    }

    /// The same without waiting: for tests of how workers start, and of [messages](Self::messages) that they send when they do.
    /// On a runtime of one thread none has begun before the caller waits for something.
    ///
    /// # Errors
    ///
    /// An unknown strategy, or no descriptors.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn launch<F, T>(builder: Builder, app: impl Fn(Worker) -> F + Send + Sync + 'static) -> Result<Self>
    where
        F: Future<Output = T> + Send + 'static,
        T: Termination,
    {
        let now = tokio::time::Instant::now().into_std();
        let deadlines = builder.deadlines();
        let settings = Settings::boxed(builder.strategy.resolve()?)
            .window(builder.window)
            .batch(builder.batch)
            .max_connections(builder.limits.cluster)
            .when_full(builder.limits.when_full)
            .key(builder.key)
            .peek(builder.peek);
        let (acceptor, turning) = Acceptor::turned(settings, now)?;
        let readable = Readable::new(turning.readable()?)?;
        let (own, follower) = Own::new();
        let state = State::new(SEED, builder.state, &own, follower);
        let (switch, events) = (Switch::new(), Publisher::new());
        let messages = switch.port();
        let (tasks, spreading) = Pool::new(switch.clone(), builder.tasks.clone())?;
        tokio::spawn(spreading.serve());
        let desk = tasks.desk().clone();
        let greeting = Greeting {
            slot: 0,
            generation: 0,
            heartbeat: builder.checks.heartbeat_expected().beats_every(),
            deadlines,
            orphan_timeout: builder.orphan_timeout,
            open_files: 0,
            connections: builder.settings.max_connections_per_worker,
            descriptors: Vec::new(),
        };
        let shared = Shared::new(|shared| Core {
            supervisor: Supervisor::new(builder.policy, SEED),
            acceptor,
            turning,
            listeners: Listeners::apart(),
            state,
            switch,
            tasks,
            began: now,
            greeting,
            app: life::boxed(app),
            rolling: builder.rolling,
            events: events.clone(),
            living: BTreeMap::new(),
            exits: BTreeMap::new(),
            replaced: BTreeMap::new(),
            rolled: None,
            workers: builder.workers,
            serving: false,
            stopping: false,
            gave_up: Vec::new(),
            due: None,
            shared,
        });
        shared.with(|core, now| {
            for _ in 0..builder.workers {
                core.supervisor.start(now);
            }
        });
        let turns = Task::new(&tokio::spawn(Arc::clone(&shared).run(readable)));
        Ok(Self { shared, own, messages, desk, events, port: AtomicU16::new(1), _loop: turns })
    }

    /// Connects to the address that was listened on first, as another client each time. The connection waits until a worker accepts it, and
    /// goes to the one that the strategy chooses.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when nobody has listened yet, or the cluster has closed; `EAGAIN` when too many connections wait.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let port = self.port.fetch_add(1, Ordering::Relaxed).max(1);
        self.dial(None, ([192, 0, 2, 1], port).into())
    }

    /// Connects to this address, or the one that was listened on first, as a client of that address: for strategies that go by it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect).
    pub fn dial(&self, to: Option<&Address>, from: SocketAddr) -> std::io::Result<UnixStream> {
        let socket = self.shared.with(|core, _| core.listeners.connect(to, &Address::Ip(from)))?;
        UnixStream::from_std(socket.into())
    }

    /// Kills a slot's worker, as SIGKILL does, and returns which that was: [`exit`](Self::exit) tells when it has ended. It is restarted as the policy says.
    ///
    /// # Errors
    ///
    /// [`Error::NotReplaced`] when there is none.
    pub fn kill(&self, slot: u32) -> Result<WorkerId> {
        self.act(slot, |core, id| {
            if let Some(living) = core.living.get(&id) {
                living.signal(cluster_supervisor::StopSignal::Kill);
            }
        })
    }

    /// Asks a slot's worker to leave for good, as [`Handle::stop`](crate::Handle::stop), and returns at once which that is:
    /// [`exit`](Self::exit) tells when it has.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn stop(&self, slot: u32) -> Result<WorkerId> {
        let now = tokio::time::Instant::now().into_std();
        self.act(slot, |core, id| core.supervisor.stop(id, now))
    }

    fn act(&self, slot: u32, act: impl FnOnce(&mut Core, WorkerId)) -> Result<WorkerId> {
        self.shared.with(|core, _| {
            let id = core.current(slot).ok_or(Error::NotReplaced { slot, reason: NotReplaced::NoWorker })?;
            act(core, id);
            Ok(id)
        })
    }

    /// Waits until this worker has ended, and returns how.
    pub async fn exit(&self, worker: WorkerId) -> Exit {
        self.shared.until(|core| core.exits.get(&worker).copied()).await
    }

    /// Waits until this worker is the one of its slot and ready, or one after it is, and returns which.
    pub async fn ready(&self, worker: WorkerId) -> WorkerId {
        let is_ready = |view: &cluster_supervisor::WorkerView| {
            view.id() >= worker
                && view.id().slot() == worker.slot()
                && view.state() == cluster_supervisor::WorkerState::Ready
        };
        self.shared.until(|core| core.supervisor.workers().find(is_ready).map(|view| view.id())).await
    }

    /// Replaces a slot's worker, the new before the old, as [`Handle::restart`](crate::Handle::restart).
    ///
    /// # Errors
    ///
    /// [`Error::NotReplaced`].
    pub async fn restart(&self, slot: u32) -> Result<WorkerId> {
        let id = self.shared.with(|core, now| core.replace(slot, now))?;
        let result = self.shared.until(|core| core.replaced.get(&id).cloned().flatten()).await;
        result.map_err(|reason| Error::NotReplaced { slot, reason })
    }

    /// Replaces all workers, as [`Handle::reload`](crate::Handle::reload) where the executable is the same.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`]; [`Error::Roll`] while another roll goes on.
    pub async fn reload(&self) -> Result<RollReport> {
        self.shared.with(Core::roll)?;
        Ok(self.shared.until(|core| core.rolled.clone()).await)
    }

    /// Wants so many workers from now on, as [`Handle::scale`](crate::Handle::scale).
    pub fn scale(&self, workers: usize) {
        self.shared.with(|core, now| core.supervisor.scale(workers, now));
    }

    /// Lets so much time pass: whatever is due in it happens, each thing in its turn. With the clock paused that takes none.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// What happens in the cluster from now on. Of workers' processes nothing is known: they have none.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// The state that all share, as the primary sees it: [`Handle::state`](crate::Handle::state).
    pub fn state(&self) -> SharedState {
        self.own.state()
    }

    /// Messages to and from the workers, as the primary has them: [`Handle::messages`](crate::Handle::messages).
    pub fn messages(&self) -> Messages {
        self.messages.clone()
    }

    /// Submits tasks to the workers: [`Handle::tasks`](crate::Handle::tasks).
    pub fn tasks(&self) -> Tasks {
        self.desk.tasks()
    }

    /// How everybody is.
    pub fn status(&self) -> ClusterStatus {
        self.shared.look(Core::status)
    }

    /// Stops the cluster gracefully, as [`Handle::shutdown`](crate::Handle::shutdown), and returns when the last worker has ended.
    ///
    /// # Errors
    ///
    /// [`Error::GaveUp`] when every worker had failed too often before.
    pub async fn shutdown(&self) -> Result<()> {
        let (given_up, closed) = self.shared.with(|core, _| (core.outcome(), core.close()));
        // If it is closing already, that is waited for below.
        if closed.await.is_ok() {
            self.shared.with(|core, now| core.supervisor.shutdown(now));
        }
        self.shared.until(|core| core.supervisor.is_done().then_some(())).await;
        given_up
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.shared.end();
    }
}
