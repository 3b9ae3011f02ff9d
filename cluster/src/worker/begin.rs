//! How a process becomes a worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cluster_acceptor::worker::{Deadlines, Gate, Intake};
use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use cluster_ipc::{Adopted, Channel, Online, Socket};
use cluster_shared_state::PublisherConfig;
use cluster_supervisor::{WorkerId, os};
use parking_lot::Mutex;
use tracing::Instrument;

use super::control::Control;
use super::span::span;
use super::{Inner, Wires, Worker, beat, guard, shared};
use crate::messages::{self, Desk, Messages, Pool, Switch};
use crate::signals::Signals;
use crate::tasks::TaskPolicy;
use crate::wire::{self, Greeting};
use crate::{Error, Result};

/// Descriptors that come with the Welcome for this crate, before those that are for the application.
const OWN_DESCRIPTORS: usize = 5;

impl Worker {
    /// Becomes the worker that the primary's Welcome describes.
    pub(crate) fn adopt(adopted: Adopted) -> Result<Self> {
        let (channel, welcome, mut descriptors) = adopted.into_parts();
        let greeting: Greeting = wire::decode(welcome.payload())?;
        let extra = descriptors.split_off(descriptors.len().min(OWN_DESCRIPTORS));
        let [data, memory, lifeline, state, messages] = <[OwnedFd; OWN_DESCRIPTORS]>::try_from(descriptors)
            .map_err(|_| {
            Error::Ipc(cluster_ipc::Error::Malformed { what: "Welcome: it lacks descriptors" })
        })?;
        guard::watch(lifeline, greeting.orphan_timeout)?;
        os::set_open_files(greeting.open_files)?;
        set_name(greeting.slot);
        let mut signals = Signals::worker()?;

        let worker = Self::connect(channel, greeting, [data, memory, state, messages], extra)?;
        let inner = Arc::clone(&worker.inner);
        tokio::spawn(async move {
            signals.recv().await;
            inner.leave_by_itself(inner.deadlines).await;
        });
        Ok(worker)
    }

    /// Takes up the conversation with the primary: over the control channel, the data channel, the board, and the sockets of the
    /// shared state and of messages. The application may take the `extra` descriptors.
    pub(crate) fn connect(
        channel: Channel,
        greeting: Greeting,
        [data, memory, state, messages]: [OwnedFd; 4],
        extra: Vec<OwnedFd>,
    ) -> Result<Self> {
        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let most = greeting.connections;
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate), most));
        let mut channel = cluster_ipc::tokio::Channel::new(channel)?;
        // Goes out with the control task's first turn; an empty outbox takes it.
        drop(channel.try_send(Online::frame([])));
        let id = WorkerId::new(greeting.slot, greeting.generation);
        let control = Control::start(id, channel, Arc::clone(&gate), Arc::clone(&intake), greeting.deadlines);
        let data = cluster_ipc::tokio::Channel::new(Channel::new(Socket::from_fd(data)))?;
        let state = shared::follow(id, Socket::from_fd(state));
        let (messages, serving) = Messages::new(messages::worker_end(Socket::from_fd(messages))?);
        let desk = Desk::new(messages.clone());
        let serving = desk.watch(serving);
        let talking = async move {
            let error = serving.await;
            tracing::debug!(%error, "no messages any more");
        };
        tokio::spawn(talking.instrument(span(id)));
        let wires = Wires { control: Some(control.clone()), state, messages, desk, pool: None };
        let inner = Inner::new(id, gate, board, intake, wires, most);
        let descriptors = Mutex::new(greeting.descriptors.into_iter().zip(extra).collect());
        let inner = Arc::new(Inner { deadlines: greeting.deadlines, descriptors, ..inner });
        let (gauges, counters) = (Arc::clone(&inner.gauges), Arc::clone(&inner.counters));
        tokio::spawn(beat::beat(Arc::clone(&inner.board), control, gauges, counters, greeting.heartbeat));
        tokio::spawn(run_intake(Arc::clone(&inner), data, greeting.deadlines).instrument(span(id)));
        Ok(Self { inner })
    }

    /// Does what SIGTERM makes a process do.
    #[cfg(feature = "test-util")]
    pub(crate) fn terminate(&self) {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.leave_by_itself(inner.deadlines).await });
    }

    /// Prepares for [`cut`](Self::cut).
    #[cfg(feature = "test-util")]
    pub(crate) fn keep_copies(&self) {
        self.inner.intake.keep_copies();
    }

    /// Ends its connections, as the end of a process does.
    #[cfg(feature = "test-util")]
    pub(crate) fn cut(&self) {
        self.inner.intake.cut();
    }

    /// The one worker of inline mode: it accepts by itself. With `stop_within` it drains at SIGTERM or SIGINT, and ends after
    /// that time or at the second signal, whatever is left.
    pub(crate) fn inline(
        deadlines: Deadlines,
        stop_within: Option<Duration>,
        most: Option<u32>,
        state: PublisherConfig,
        tasks: TaskPolicy,
    ) -> Result<Self> {
        let switch = Switch::new();
        let (pool, spreading) = Pool::new(switch.clone(), tasks)?;
        let (_, memory) = PrimaryBoard::create()?;
        let board = Arc::new(WorkerBoard::open(memory)?);
        let gate = Arc::new(Gate::new());
        let intake = Arc::new(Intake::new(Arc::clone(&board), Arc::clone(&gate), most));
        if let Some(stop_within) = stop_within {
            let mut signals = Signals::inline()?;
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                signals.recv().await;
                let leaving = gate.leave_within(deadlines);
                tokio::select! {
                    _ = signals.recv() => {}
                    _ = async { tokio::join!(leaving, tokio::time::sleep(stop_within)) } => {
                        tracing::warn!("the server did not stop in time");
                    }
                }
                std::process::exit(0);
            });
        }
        let id = WorkerId::new(0, 1);
        let state = shared::alone(id, state);
        tokio::spawn(spreading.serve());
        let (messages, desk) = (switch.port(), pool.desk().clone());
        let wires = Wires { control: None, state, messages, desk, pool: Some(pool) };
        let inner = Inner::new(id, gate, board, intake, wires, most);
        Ok(Self { inner: Arc::new(Inner { deadlines, ..inner }) })
    }
}

/// Without its data channel a worker gets no connections: it finishes what it has and ends, to be replaced.
async fn run_intake(inner: Arc<Inner>, data: cluster_ipc::tokio::Channel, deadlines: Deadlines) {
    let error = Arc::clone(&inner.intake).receive(data).await;
    if inner.gate.is_leaving() {
        return;
    }
    if matches!(error, cluster_acceptor::Error::Ipc(cluster_ipc::Error::PeerGone)) {
        tracing::debug!("the data channel has ended");
    } else {
        tracing::error!(%error, "this worker can receive no more connections: it drains and ends");
    }
    inner.leave_by_itself(deadlines).await;
}

/// The process was started through a descriptor, so its name in `ps` would be that number.
fn set_name(slot: u32) {
    let exe = std::env::current_exe().ok();
    let stem =
        exe.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str()).unwrap_or("worker");
    let short: String = stem.chars().take(10).collect();
    if let Ok(name) = std::ffi::CString::new(format!("{short}:{slot}")) {
        // Only for people; nothing depends on it.
        let _ = rustix::thread::set_name(&name);
    }
}
