//! A cluster within one process, for tests of what runs on a real one (feature `test-util`).
//!
//! How does your server take it when its worker is killed, replaced, or asked to leave? A [`TestCluster`] runs it in workers that are
//! tasks of the test. Everything else is what real processes have: the same [`Worker`], the same [`Handle`], and between them the same
//! primary. With tokio's clock [paused](tokio::time::pause) all that takes time takes none: back-off, linger and
//! deadlines pass as soon as there is nothing else to do, in their order.
//!
//! A server that finishes what it has begun:
//!
//! ```
//! use cluster::supervisor::Exit;
//! use cluster::testing::TestCluster;
//! use cluster::{Cluster, Departure, Worker};
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
//! let leaving = cluster.handle().worker_of_slot(0).unwrap();
//! leaving.stop().await?;
//! client.write_all(b"while it leaves").await?;
//! let mut answer = String::new();
//! client.shutdown().await?;
//! client.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "while it leaves");
//! assert_eq!(leaving.departed().await?, Departure::Asked { exit: Exit::Code(0) });
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
//! * All connections are handed over ([`Mode::Handoff`](crate::Mode::Handoff)), whatever mode is asked for.
//! * Nothing is measured: there is no memory, processor time or number of descriptors of a worker. Workers beat, but as they share a thread none is
//!   silent alone. Whatever else [`Builder::health`] may look at counts: gauges, requests, lifetimes.
//! * A worker's pid is that of the test. Of signals it knows SIGTERM and SIGKILL, and the primary knows none. Of [`Settings`](crate::Settings) only
//!   the descriptors count: the program is the test, with its arguments, environment and output.
//!
//! # The clock
//!
//! Pause it on a runtime of one thread (`#[tokio::test(start_paused = true)]`). While all tasks wait, tokio advances it to the next
//! timer, but not while something is on its way between workers, clients and the primary here: that goes through sockets
//! that have it before the sender goes on. The same can't be said of TCP or UDP, of other processes, and of threads
//! other than [`spawn_blocking`](tokio::task::spawn_blocking)'s: while a test waits for those, deadlines may pass.
//! So let a worker under test talk to the outside by something in memory, or leave the clock alone:
//! without a pause all works as well, in real time.
//!
//! Workers beat by that clock, too, and are looked at: five times a second and once. For a day that is a while, so that a test
//! of days wants another pace of [`heartbeat`](Builder::heartbeat) and [`samples`](Builder::sample_every).

mod life;

use std::future::Future;
use std::net::SocketAddr;
use std::process::Termination;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cluster_acceptor::{Dialer, Listeners};
use cluster_supervisor::{WorkerId, WorkerState};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::{Address, Builder, Error, Event, Events, Handle, Primary, Result, Worker, WorkerHandle};

/// A cluster within this process. Dropping it ends its workers.
///
/// See the [module](self) for an example, and for what differs from processes.
#[derive(Debug)]
pub struct TestCluster {
    handle: Handle,
    dialer: Dialer,
    /// The port of the next client.
    port: AtomicU16,
    primary: JoinHandle<Result<()>>,
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
        let workers = builder.workers;
        let (cluster, mut events) = Self::begin(builder, life::boxed(app))?;
        if workers == 0 {
            return Ok(cluster);
        }
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Serving { .. }) {
                return Ok(cluster);
            }
        }
        Err(cluster.ended().await.err().unwrap_or(Error::Ended))
    }

    /// The same without waiting: for tests of how workers start, and of [messages](Handle::messages) that they send when they do.
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
        Ok(Self::begin(builder, life::boxed(app))?.0)
    }

    /// Also returns all events.
    fn begin(mut builder: Builder, app: life::App) -> Result<(Self, Events)> {
        // Whatever that is: here they run `app`.
        builder.settings.exec = None;
        let primary = Primary::new(builder)?;
        let (handle, events) = (primary.handle(), primary.events());
        let (listeners, dialer) = Listeners::apart();
        let running = primary.begin(|config| life::system(config, app, listeners))?;
        let cluster = Self { handle, dialer, port: AtomicU16::new(1), primary: tokio::spawn(running) };
        Ok((cluster, events))
    }

    /// Makes a handle to look at the cluster and to steer it: the primary's own. To kill a worker as SIGKILL does,
    /// [find](Handle::worker_of_slot) it and [kill](WorkerHandle::kill) it with 9.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Connects to the address that was listened on first, as another client each time. The connection waits until a worker accepts it, and
    /// goes to the one that the strategy chooses.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when nobody listens (yet), or the cluster has closed; `EAGAIN` when too many connections wait.
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
        UnixStream::from_std(self.dialer.connect(to, &Address::Ip(from))?.into())
    }

    /// Waits until this worker is ready, or one that comes after it in its slot, and returns which.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when the cluster ends before.
    pub async fn ready(&self, worker: WorkerId) -> Result<WorkerHandle> {
        let is_ready = |found: &WorkerHandle| {
            found.slot() == worker.slot() && found.id() >= worker && found.state() == WorkerState::Ready
        };
        let mut events = self.handle.events();
        loop {
            if let Some(found) = self.handle.workers().into_iter().find(is_ready) {
                return Ok(found);
            }
            events.recv().await.ok_or(Error::Ended)?;
        }
    }

    /// Lets so much time pass: whatever is due in it happens, each thing in its turn. With the clock paused that takes none.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Stops the cluster gracefully, as [`Handle::shutdown`], and returns when the last worker has ended.
    ///
    /// # Errors
    ///
    /// As [`ended`](Self::ended).
    pub async fn shutdown(self) -> Result<()> {
        // If it has ended before, it is told below how.
        let _ = self.handle.shutdown().await;
        self.ended().await
    }

    /// Waits until the cluster has ended.
    ///
    /// # Errors
    ///
    /// As [`Primary::run`].
    pub async fn ended(mut self) -> Result<()> {
        (&mut self.primary).await.unwrap_or(Err(Error::Ended))
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.primary.abort();
    }
}
