//! The system for tests: workers are tasks, and so is who accepts.

use std::future::Future;
use std::io::{self, PipeWriter};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster_acceptor::{Acceptor, Listeners, Turning};
use cluster_ipc::Channel;
use cluster_ipc::tokio::Readable;
use cluster_supervisor::os::{Death, Executable};
use cluster_supervisor::{Exit, StopSignal, WorkerId};
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use crate::clock::{now, until};
use crate::primary::{Body, Cradle, Newborn, System, Task, Wires};
use crate::wire::Greeting;
use crate::{Builder, Error, Result, Settings, Worker};

/// Of the jitter of back-offs: each run of a test is like the other.
const SEED: u64 = 1;

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

/// Workers run `app`, and listen on these.
pub(super) fn system(config: &mut Builder, app: App, listeners: Listeners) -> Result<System> {
    let (acceptor, turning) = Acceptor::turned(config.acceptor()?, now())?;
    let readable = Readable::new(turning.readable()?)?;
    let (alive, acceptor_ended) = oneshot::channel();
    let accepting = Task::new(&tokio::spawn(accept(turning, readable, alive)));
    let cradle = Box::new(Nursery { app, greeting: config.greeting(0), _accepting: accepting });
    Ok(System { cradle, acceptor, acceptor_ended, listeners, signals: None, orphans: None, seed: SEED })
}

/// What the acceptor's thread does otherwise.
async fn accept(mut turning: Turning<WorkerId>, readable: Readable, _alive: oneshot::Sender<()>) {
    loop {
        readable.clear();
        match turning.turn(now()) {
            Ok(due) => tokio::select! {
                _ = readable.readable() => {}
                () = until(due) => {}
            },
            Err(error) => return tracing::error!(%error, "no connections any more"),
        }
    }
}

/// Where workers come from.
struct Nursery {
    app: App,
    greeting: Greeting,
    /// As long as there is a primary.
    _accepting: Task,
}

impl Cradle for Nursery {
    fn bear(&mut self, id: WorkerId, _: &Arc<Executable>, settings: &Settings) -> Result<Newborn> {
        let (wires, control, ends) = Wires::new()?;
        let (end, told) = io::pipe().map_err(Error::os("make a pipe"))?;
        let (greeting, extra) = (self.greeting.to(id, settings), settings.descriptors.duplicate()?);
        let [data, _, state, messages] = &ends;
        let copies: io::Result<_> = [control.as_fd(), data.as_fd(), state.as_fd(), messages.as_fd()]
            .into_iter()
            .map(|end| end.try_clone_to_owned().map(UnixStream::from))
            .collect();
        let copies = copies.map_err(Error::os("duplicate a worker's wires"))?;
        let worker = Worker::connect(Channel::new(control), greeting, ends, extra)?;
        worker.keep_copies();
        let (app, given) = (Arc::clone(&self.app), worker.clone());
        // What it does before it first waits is its own, too: a panic, say.
        let main = tokio::spawn(async move { app(given).await });
        let life = Arc::new(Life { worker, wires: copies, exit: OnceLock::new() });
        let running = Running { life: Arc::clone(&life), main: main.abort_handle() };
        tokio::spawn(wait(main, life, told));
        Ok(Newborn { body: Box::new(running), end: end.into(), sampler: None, wires })
    }
}

/// What a process has that the kernel takes from it when it ends.
#[derive(Debug)]
struct Life {
    worker: Worker,
    /// Copies of its ends of the wires.
    wires: Vec<UnixStream>,
    exit: OnceLock<Exit>,
}

impl Life {
    /// Nothing more comes from it or gets to it, whatever of it is left in this process.
    fn cut(&self) {
        for wire in &self.wires {
            // It may be closed already.
            let _ = wire.shutdown(Shutdown::Both);
        }
        self.worker.cut();
    }
}

/// A worker that lives. Dropping it ends what it runs.
#[derive(Debug)]
struct Running {
    life: Arc<Life>,
    main: AbortHandle,
}

impl Body for Running {
    fn pid(&self) -> u32 {
        self.life.worker.pid()
    }

    fn signal(&mut self, signal: Signal) -> Result<bool> {
        match signal {
            Signal::TERM => self.life.worker.terminate(),
            // In this order: what destructors may say nobody hears, since no process would run them.
            Signal::KILL => {
                self.life.cut();
                self.main.abort();
            }
            _ => {
                let operation = "send that signal: a worker in a test knows SIGTERM and SIGKILL";
                return Err(Error::os(operation)(io::ErrorKind::Unsupported));
            }
        }
        Ok(self.life.exit.get().is_none())
    }

    fn examine(&mut self) -> Option<Death> {
        self.life.exit.get().copied().map(Death::new)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.main.abort();
    }
}

/// Waits for a worker's end, and tells of it by closing the pipe.
async fn wait(main: JoinHandle<ExitCode>, life: Arc<Life>, _told: PipeWriter) {
    let ended = main.await;
    if ended.is_ok() {
        // What it sent before it returned is on its way: a timer is due when that has arrived.
        tokio::time::sleep(LAST_WORDS).await;
    }
    life.cut();
    life.exit.get_or_init(|| exit(ended));
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
