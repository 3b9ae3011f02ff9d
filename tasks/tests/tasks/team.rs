//! A pool, its workers, and tasks for them.

use std::future::pending;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_ipc::events::{Call, Event};
use cluster_ipc::session::Config;
use cluster_ipc::switch::{Port, Switch};
use cluster_ipc::tokio::Endpoint;
use cluster_ipc::{Connection, Error, Socket};
use cluster_tasks::{Desk, Pool, TaskContext, TaskError, TaskHandle, TaskPolicy, Tasks};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// For what has to happen, however busy the machine is.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the workers run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// The reply is who has done it.
    Small,
    /// Until nobody waits for it any more. Tells first who has begun it.
    Endless,
    /// Tells its progress up to this.
    Count(u32),
    Fail,
    Panic,
}
impl Event for Work {
    const NAME: &'static str = "work";
}
impl Call for Work {
    type Reply = u32;
}

/// Nobody runs it, unless a test says so.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Rare(pub(crate) Vec<u8>);
impl Event for Rare {
    const NAME: &'static str = "rare";
}
impl Call for Rare {
    type Reply = u32;
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

/// How a task ends, in time.
pub(crate) async fn end(handle: TaskHandle<u32>) -> Result<u32, TaskError> {
    within(handle).await
}

/// The worker that has begun it.
pub(crate) async fn begun(handle: &mut TaskHandle<u32>) -> u32 {
    let mut progress = handle.progress();
    within(progress.next()).await.expect("it begins")
}

/// A primary with a pool.
pub(crate) struct Team {
    pub(crate) switch: Switch<u32>,
    pub(crate) pool: Pool<u32>,
}

impl Team {
    pub(crate) fn new(policy: TaskPolicy) -> Self {
        let switch = Switch::new();
        let (pool, server) = Pool::new(switch.clone(), policy).unwrap();
        tokio::spawn(server.serve());
        Self { switch, pool }
    }

    /// With so many workers, each of which runs so many at a time.
    pub(crate) fn of(workers: u32, at_once: u16) -> (Self, Vec<Worker>) {
        let team = Self::new(TaskPolicy::new());
        let workers = (0..workers).map(|key| team.worker(key, at_once)).collect();
        (team, workers)
    }

    pub(crate) fn tasks(&self) -> Tasks {
        self.pool.desk().tasks()
    }

    /// One that runs nothing yet.
    pub(crate) fn join(&self, key: u32, slot: u32) -> Member {
        self.join_with(key, slot, Config::new())
    }

    /// One to whom only so much may be on its way, and that runs nothing yet.
    pub(crate) fn join_with(&self, key: u32, slot: u32, config: Config) -> Member {
        let (attached, theirs) = self.attach(key, slot);
        let wire = UnixStream::from(theirs.try_clone().unwrap());
        let (port, desk) = connect_with(theirs, config);
        Member { port, desk, attached, wire }
    }

    /// The primary's part of it, and the worker's end of the connection.
    pub(crate) fn attach(&self, key: u32, slot: u32) -> (JoinHandle<Error>, OwnedFd) {
        let (ours, theirs) = Socket::pair().unwrap();
        let ours = Connection::parent(ours, Config::new(), &[], Vec::new(), now());
        let attached = tokio::spawn(self.pool.attach(key, slot, Endpoint::new(ours).unwrap()));
        (attached, theirs.into_fd())
    }

    /// One that runs [`Work`]. Its slot is the last figure of its key.
    pub(crate) fn worker(&self, key: u32, at_once: u16) -> Worker {
        let member = self.join(key, key % 10);
        let (ended, news) = mpsc::unbounded_channel();
        let desk = member.desk.clone();
        let running = tokio::spawn(async move {
            let handler = |work, context| work_on(key, work, context, ended.clone());
            desk.run(at_once, handler, pending()).await.unwrap();
        });
        Worker { member, running, news }
    }
}

/// The worker's part.
pub(crate) fn connect(end: OwnedFd) -> (Port<u32>, Desk<u32>) {
    connect_with(end, Config::new())
}

fn connect_with(end: OwnedFd, config: Config) -> (Port<u32>, Desk<u32>) {
    let connection = Connection::child(Socket::from_fd(end), config, &[], now());
    let (port, serving) = Port::new(Endpoint::new(connection).unwrap());
    let desk = Desk::new(port.clone());
    tokio::spawn(desk.watch(serving));
    (port, desk)
}

/// A test may stop the runtime's clock.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Who is connected.
pub(crate) struct Member {
    pub(crate) port: Port<u32>,
    pub(crate) desk: Desk<u32>,
    pub(crate) attached: JoinHandle<Error>,
    wire: UnixStream,
}

impl Member {
    /// As if its process had died: what it has said is in the socket, and no more comes.
    pub(crate) async fn die(self) {
        self.wire.shutdown(Shutdown::Both).unwrap();
        let error = within(self.attached).await.unwrap();
        assert!(matches!(error, Error::PeerGone), "{error}");
    }
}

/// Who runs [`Work`].
pub(crate) struct Worker {
    pub(crate) member: Member,
    pub(crate) running: JoinHandle<()>,
    /// An endless task was dropped here.
    pub(crate) news: mpsc::UnboundedReceiver<()>,
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

async fn work_on(
    key: u32,
    work: Work,
    context: TaskContext,
    ended: mpsc::UnboundedSender<()>,
) -> Result<u32, String> {
    match work {
        Work::Small => Ok(key),
        Work::Endless => {
            let _ended = Ended(ended);
            context.progress(&key);
            pending().await
        }
        Work::Count(to) => {
            for number in 1..=to {
                // More than may wait to be sent are dropped.
                while !context.progress(&number) {
                    tokio::task::yield_now().await;
                }
            }
            Ok(to)
        }
        Work::Fail => Err("no luck".to_owned()),
        Work::Panic => panic!("as it was told"),
    }
}

/// Looks from time to time whether anybody waits for it, and says when nobody does any more.
pub(crate) fn blocking(context: &TaskContext, key: u32, has_ended: &AtomicBool) -> Result<u32, String> {
    context.progress(&key);
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    has_ended.store(true, Ordering::SeqCst);
    Ok(key)
}
