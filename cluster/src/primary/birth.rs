//! Starting a worker's process: four socket pairs, a board, the Welcome, the process; in this order.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cluster_health::os::{Roots, Sampler};
use cluster_ipc::Welcome;
use cluster_supervisor::WorkerId;
use cluster_supervisor::os::{Capture, Child, Executable, Stdio, Stream, Tree};

use super::process::Process;
use super::system::{Cradle, Newborn, Wires};
use crate::builder::Builder;
use crate::record::about;
use crate::wire::{self, Greeting};
use crate::{Error, Result, Settings};

/// For how long the last lines of workers are waited for at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Workers as processes, and what every one of this primary is started with.
#[derive(Debug)]
pub(super) struct Processes {
    /// What reads their output, if something does.
    capture: Option<Capture<WorkerId>>,
    /// Where their output goes.
    printed: Stdio,
    greeting: Greeting,
    /// Each worker holds a copy of the reading end, and nobody but this process the other: it ends when this process does.
    lifeline: PipeReader,
    _lifeline_end: PipeWriter,
}

impl Processes {
    pub(super) fn new(config: &mut Builder, open_files: u64) -> Result<Self> {
        let (printed, capture) = std::mem::take(&mut config.output).start()?;
        let (lifeline, end) = std::io::pipe().map_err(Error::os("make the lifeline"))?;
        let greeting = config.greeting(open_files);
        Ok(Self { capture, printed, greeting, lifeline, _lifeline_end: end })
    }

    /// What is to be held of a child from the first moment on: whom it starts, how it ends, what it uses.
    fn watch(&self, id: WorkerId, child: &mut Child) -> Result<(Tree, OwnedFd, Option<Sampler>)> {
        let pipes = [(Stream::Stdout, child.take_stdout()), (Stream::Stderr, child.take_stderr())];
        for (stream, pipe) in pipes {
            if let (Some(capture), Some(pipe)) = (&self.capture, pipe) {
                capture.watch(id, stream, pipe)?;
            }
        }
        let pid = child.pid();
        let sampler = Sampler::with_pidfd(&Roots::new(), pid, child.try_clone_pidfd()?);
        let sampler =
            sampler.inspect_err(|error| about!(warn, id, pid, %error, "worker {id} can't be measured"));
        Ok((Tree::of(child)?, child.try_clone_pidfd()?, sampler.ok()))
    }
}

impl Cradle for Processes {
    /// The Welcome is written before the process exists, so it is the first thing the worker reads.
    fn bear(&mut self, id: WorkerId, executable: &Arc<Executable>, settings: &Settings) -> Result<Newborn> {
        let spec = settings.spec(Arc::clone(executable), &self.printed);
        let (mut wires, childs_control, [data, memory, state, messages]) = Wires::new()?;
        let lifeline = self.lifeline.try_clone().map_err(Error::os("duplicate the lifeline"))?;
        let payload = wire::encode(&self.greeting.to(id, settings))?;

        let mut descriptors = vec![data, memory, lifeline.into(), state, messages];
        descriptors.extend(settings.descriptors.duplicate()?);
        wires
            .control
            .try_send(Welcome::frame(std::process::id(), payload, descriptors))
            .map_err(|_| Error::Ipc(cluster_ipc::Error::Malformed { what: "Welcome: it is too large" }))?;
        if !wires.control.flush()? {
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
            Ok((tree, end, sampler)) => {
                Ok(Newborn { body: Box::new(Process::new(id, child, tree)), end, sampler, wires })
            }
            // Nobody could look after it.
            Err(error) => {
                child.kill_and_reap()?;
                Err(error)
            }
        }
    }

    fn last_words(&self, id: WorkerId) -> String {
        let tail = self.capture.as_ref().and_then(|capture| capture.finish(id));
        tail.map(|tail| tail.to_string()).unwrap_or_default()
    }

    fn close(&mut self) {
        // What could not be written by then is lost.
        if let Some(Err(error)) = self.capture.take().map(|capture| capture.close(LAST_LINES)) {
            tracing::warn!(%error, "the output of workers is not complete");
        }
    }
}
