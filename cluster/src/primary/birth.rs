//! Starting a worker: four socket pairs, a board, the Welcome, the process; in this order.

use std::io::{PipeReader, PipeWriter};
use std::sync::Arc;
use std::time::Duration;

use cluster_ipc::board::PrimaryBoard;
use cluster_ipc::{Channel, Socket, Welcome};
use cluster_supervisor::Release;
use cluster_supervisor::WorkerId;
use cluster_supervisor::os::{Autopsy, Capture, Child, Stdio, Stream, Tree};

use super::forks::Forks;
use super::releases::Releases;
use crate::builder::Builder;
use crate::wire::{self, Greeting};
use crate::{Error, Result};

/// For how long the last lines of workers are waited for at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What every worker of this primary is started with.
#[derive(Debug)]
pub(super) struct Cradle {
    /// What workers are started from.
    pub(super) releases: Releases,
    /// What reads their output, if something does.
    capture: Option<Capture<WorkerId>>,
    /// Where their output goes.
    printed: Stdio,
    greeting: Greeting,
    /// Each worker holds a copy of the reading end, and nobody but this process the other: it ends when this process does.
    lifeline: PipeReader,
    _lifeline_end: PipeWriter,
}

/// A worker that was just started, as the primary holds it.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) child: Child,
    pub(super) autopsy: Autopsy,
    pub(super) tree: Tree,
    pub(super) control: Channel,
    pub(super) data: Channel,
    pub(super) state: Socket,
    pub(super) messages: Socket,
    pub(super) board: Arc<PrimaryBoard>,
}

impl Cradle {
    /// Pins the executable.
    pub(super) fn new(config: &mut Builder, open_files: u64) -> Result<Self> {
        let mut settings = std::mem::take(&mut config.settings);
        settings.args.get_or_insert_with(|| std::env::args_os().skip(1).collect());
        let releases = Releases::new(&settings)?;
        let (printed, capture) = std::mem::take(&mut config.output).start()?;
        let (lifeline, end) = std::io::pipe().map_err(Error::os("make the lifeline"))?;
        let greeting = Greeting {
            slot: 0,
            generation: 0,
            heartbeat: config.checks.heartbeat_expected().beats_every(),
            deadlines: config.deadlines(),
            orphan_timeout: config.orphan_timeout,
            open_files,
            connections: None,
            descriptors: Vec::new(),
        };
        Ok(Self { releases, capture, printed, greeting, lifeline, _lifeline_end: end })
    }

    /// Starts a worker. The Welcome is written before the process exists, so it is the first thing the worker reads.
    pub(super) fn bear(&mut self, id: WorkerId, release: Release, forks: &Forks) -> Result<Newborn> {
        // All that a worker may be started with are held until nobody may be.
        let pinned = self.releases.get(release).ok_or(Error::Ended)?;
        let settings = forks.settings(id.slot(), pinned);
        let spec = settings.spec(Arc::clone(&pinned.executable), &self.printed);
        let (control, childs_control) = Socket::pair()?;
        let (data, childs_data) = Socket::pair()?;
        let (state, childs_state) = Socket::pair()?;
        let (messages, childs_messages) = Socket::pair()?;
        let (board, memory) = PrimaryBoard::create()?;
        let lifeline = self.lifeline.try_clone().map_err(Error::os("duplicate the lifeline"))?;
        (self.greeting.slot, self.greeting.generation) = (id.slot(), id.generation());
        self.greeting.connections = settings.max_connections_per_worker;
        self.greeting.descriptors = settings.descriptors.names();
        let payload = wire::encode(&self.greeting)?;

        let mut control = Channel::new(control);
        let [data_end, state_end, messages_end] =
            [childs_data, childs_state, childs_messages].map(Socket::into_fd);
        let mut descriptors = vec![data_end, memory, lifeline.into(), state_end, messages_end];
        let extra = settings.descriptors.duplicate();
        descriptors.extend(extra.map_err(Error::os("duplicate a descriptor for a worker"))?);
        control
            .try_send(Welcome::frame(std::process::id(), payload, descriptors))
            .map_err(|_| Error::Ipc(cluster_ipc::Error::Malformed { what: "Welcome: it is too large" }))?;
        if !control.flush()? {
            // A child without a Welcome would take itself for a primary.
            let source = std::io::Error::from(rustix::io::Errno::TOOMANYREFS);
            return Err(Error::Os {
                operation: "send the Welcome: too many descriptors are in flight",
                source,
            });
        }
        let spec = spec.stdin(Stdio::from(childs_control.into_fd()));
        let mut child = spec.spawn()?;
        match self.watch(id, &mut child) {
            Ok(tree) => {
                let autopsy = Autopsy::begin(&child);
                let (data, board) = (Channel::new(data), Arc::new(board));
                Ok(Newborn { child, autopsy, tree, control, data, state, messages, board })
            }
            // Nobody could look after it.
            Err(error) => {
                child.kill_and_reap()?;
                Err(error)
            }
        }
    }

    fn watch(&self, id: WorkerId, child: &mut Child) -> Result<Tree> {
        let pipes = [(Stream::Stdout, child.take_stdout()), (Stream::Stderr, child.take_stderr())];
        for (stream, pipe) in pipes {
            if let (Some(capture), Some(pipe)) = (&self.capture, pipe) {
                capture.watch(id, stream, pipe)?;
            }
        }
        Ok(Tree::of(child)?)
    }

    /// What a worker that has ended printed last.
    pub(super) fn last_words(&self, id: WorkerId) -> String {
        let tail = self.capture.as_ref().and_then(|capture| capture.finish(id));
        tail.map(|tail| tail.to_string()).unwrap_or_default()
    }

    /// Lets the last lines of all get where they go.
    pub(super) fn close(&mut self) {
        // What could not be written by then is lost.
        if let Some(Err(error)) = self.capture.take().map(|capture| capture.close(LAST_LINES)) {
            tracing::warn!(%error, "the output of workers is not complete");
        }
    }
}
