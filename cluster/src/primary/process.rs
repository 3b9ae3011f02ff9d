//! A worker's process, as the primary holds it.

use cluster_health::os::Report;
use cluster_supervisor::os::{Autopsy, Child, Death, Tree};
use cluster_supervisor::{Exit, StopSignal, WorkerId};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::remains::Remains;
use super::system::Body;
use crate::record::about;
use crate::{Error, Result};

/// A process that lives, or has yet to be reaped.
#[derive(Debug)]
pub(super) struct Process {
    id: WorkerId,
    child: Child,
    tree: Tree,
    autopsy: Autopsy,
    /// The strongest signal that we have sent.
    sent: Option<StopSignal>,
}

impl Process {
    pub(super) fn new(id: WorkerId, child: Child, tree: Tree) -> Self {
        Self { id, autopsy: Autopsy::begin(&child), child, tree, sent: None }
    }

    /// How it ended, if that can be had; otherwise that nobody knows, if somebody else has reaped it.
    fn try_reap(&mut self) -> Option<Exit> {
        self.child.try_reap().unwrap_or(Some(Exit::Code(-1)))
    }
}

impl Body for Process {
    fn pid(&self) -> u32 {
        self.child.pid()
    }

    fn signal(&mut self, signal: Signal) -> Result<bool> {
        let stop =
            [StopSignal::Term, StopSignal::Kill].into_iter().find(|stop| stop.number() == signal.as_raw());
        self.sent = stop.or(self.sent);
        // So that those below it are known when it has ended. Without it some may not be found, no more.
        let _ = self.tree.look();
        match pidfd_send_signal(&self.child, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(Error::os("send a signal to a worker")(errno)),
        }
    }

    /// Without reaping it.
    fn examine(&mut self) -> Option<Death> {
        match self.autopsy.examine(&self.child, self.sent) {
            Ok(Some(death)) => Some(death),
            // Either somebody else has reaped it, or a debugger that holds it has to let go first.
            Ok(None) => self.try_reap().map(Death::new),
            Err(error) => {
                let id = self.id;
                about!(error, id, self.child.pid(), %error, "the end of worker {id} can't be explained");
                Some(Death::new(self.try_reap().unwrap_or(Exit::Code(-1))))
            }
        }
    }

    fn is_traced(&self) -> bool {
        self.child.is_traced()
    }

    /// The thread that only waits for the primary's end says nothing about it.
    fn report(&self) -> Option<Report> {
        Some(Report::of(self.child.pid()).ok()?.without_threads(crate::worker::GUARD))
    }

    fn into_remains(self: Box<Self>, kill_descendants: bool) -> Option<Remains> {
        Some(Remains { child: self.child, tree: kill_descendants.then_some(self.tree) })
    }
}
