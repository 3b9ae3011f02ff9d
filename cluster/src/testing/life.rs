//! One worker: wires as a process has them, and tasks in its place.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_balancer::Classes;
use cluster_ipc::board::PrimaryBoard;
use cluster_ipc::tokio::Channel;
use cluster_ipc::{Frame, Socket};
use cluster_supervisor::{Exit, StopSignal, WorkerId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use super::primary::Shared;
use crate::messages::{self, Pool, Switch};
use crate::primary::{self, Task};
use crate::wire::Greeting;
use crate::{Result, Worker};

/// Frames that may wait for a worker's control channel.
const OUTGOING: usize = 64;

/// How long what a worker sent before it returned may take. With the clock paused that is any time.
const LAST_WORDS: Duration = Duration::from_millis(1);

/// What a process exits with whose main function panics.
const PANICKED: i32 = 101;

/// What a worker does, as its process's main function would; ends with the exit code.
pub(super) type App = Arc<dyn Fn(Worker) -> Pin<Box<dyn Future<Output = ExitCode> + Send>> + Send + Sync>;

pub(super) fn boxed<F, T>(app: impl Fn(Worker) -> F + Send + Sync + 'static) -> App
where
    F: Future<Output = T> + Send + 'static,
    T: Termination,
{
    Arc::new(move |worker| {
        let running = app(worker);
        Box::pin(async move { running.await.report() })
    })
}

/// A worker that lives. Dropping it ends what it runs.
#[derive(Debug)]
pub(super) struct Living {
    worker: Worker,
    pub(super) board: Arc<PrimaryBoard>,
    pub(super) started: Instant,
    /// The listeners that it accepts on, as far as it said.
    pub(super) listeners: Classes,
    /// How many connections it can hold, once it said so.
    pub(super) capacity: u32,
    /// It says that it can't take work.
    pub(super) unready: bool,
    main: AbortHandle,
    outgoing: mpsc::Sender<Frame<OwnedFd>>,
    _tasks: [Task; 3],
}

/// What a worker is connected to.
pub(super) struct Wiring<'a> {
    pub(super) state: &'a primary::Shared,
    pub(super) switch: &'a Switch,
    pub(super) tasks: &'a Pool,
    pub(super) shared: Arc<Shared>,
}

impl Living {
    /// Begins one. Returns its data channel too, which is the acceptor's.
    pub(super) fn begin(
        id: WorkerId,
        greeting: &Greeting,
        app: &App,
        wiring: Wiring<'_>,
        now: Instant,
    ) -> Result<(Self, cluster_ipc::Channel)> {
        let Wiring { state, switch, tasks, shared } = wiring;
        let (control, workers_control) = cluster_ipc::Channel::pair()?;
        let (data, workers_data) = Socket::pair()?;
        let (states, workers_state) = Socket::pair()?;
        let (letters, workers_letters) = Socket::pair()?;
        let (board, memory) = PrimaryBoard::create()?;
        let wires = [workers_data.into_fd(), memory, workers_state.into_fd(), workers_letters.into_fd()];
        let served = state.serve(id, std::process::id(), states)?;
        let endpoint = messages::primary_end_here(letters)?;
        let attached = tokio::spawn(tasks.attach(id, id.slot(), endpoint));
        if switch.holder(id.slot()).is_none() {
            switch.assign(id.slot(), id);
        }
        let control = Channel::new(control)?;
        let worker = Worker::connect_here(workers_control, greeting, wires)?;
        let (app, given) = (Arc::clone(app), worker.clone());
        // What it does before it first waits is its own, too: a panic, say.
        let main = tokio::spawn(async move { app(given).await });
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let life = Self {
            worker,
            board: Arc::new(board),
            started: now,
            listeners: Classes::none(),
            capacity: 1,
            unready: false,
            main: main.abort_handle(),
            outgoing,
            _tasks: [
                served,
                Task::new(&attached),
                Task::new(&tokio::spawn(attend(id, control, queue, main, shared))),
            ],
        };
        Ok((life, cluster_ipc::Channel::new(data)))
    }

    /// Sends a frame, unless too many wait.
    pub(super) fn send(&self, frame: Frame<OwnedFd>) {
        if self.outgoing.try_send(frame).is_err() {
            tracing::warn!("a message to a worker was lost: it does not read");
        }
    }

    pub(super) fn signal(&self, signal: StopSignal) {
        match signal {
            StopSignal::Term => self.worker.terminate(),
            StopSignal::Kill => self.main.abort(),
        }
    }

    /// Ends its connections, whoever has them.
    pub(super) fn cut(&self) {
        self.worker.cut();
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.main.abort();
    }
}

/// Brings what the worker says to the primary until it ends, and then that.
async fn attend(
    id: WorkerId,
    mut channel: Channel,
    mut queue: mpsc::Receiver<Frame<OwnedFd>>,
    mut main: JoinHandle<ExitCode>,
    shared: Arc<Shared>,
) {
    let mut is_open = true;
    let ended = loop {
        tokio::select! {
            received = channel.recv(), if is_open => match received {
                Ok(frame) => shared.with(|core, now| core.handle_frame(id, &frame, now)),
                Err(_) => is_open = false,
            },
            Some(frame) = queue.recv() => {
                if let Err(error) = channel.try_send(frame) {
                    tracing::warn!(worker = %id, %error, "a message to a worker was lost");
                }
            }
            ended = &mut main => break ended,
        }
    };
    if ended.is_ok() {
        // What it sent before it returned is on its way: a timer is due when that has arrived.
        tokio::time::sleep(LAST_WORDS).await;
    }
    while let Ok(Some(frame)) = channel.try_recv() {
        shared.with(|core, now| core.handle_frame(id, &frame, now));
    }
    shared.with(|core, now| core.handle_exit(id, exit(ended), now));
}

/// As the kernel would tell it of a process.
fn exit(ended: Result<ExitCode, JoinError>) -> Exit {
    match ended {
        Ok(code) => {
            Exit::Code((0..u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(u8::MAX).into())
        }
        Err(error) if error.is_panic() => Exit::Code(PANICKED),
        Err(_) => Exit::Signal(StopSignal::Kill.number()),
    }
}
