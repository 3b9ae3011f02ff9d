//! Steering a running primary from elsewhere.

use cluster_shared_state::tokio::SharedState;
use cluster_supervisor::{RollOutcome, WorkerId};
use tokio::sync::{mpsc, oneshot};

use super::shared::Own;
use crate::status::ClusterStatus;
use crate::{Error, Result};

/// Steers a running primary from elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    own: Own,
}

#[derive(Debug)]
pub(super) enum Order {
    Fork(oneshot::Sender<WorkerId>),
    Stop(WorkerId),
    Restart(u32, oneshot::Sender<Result<WorkerId>>),
    Scale(usize),
    /// With the executable of now, or with the one there is.
    Roll(Anew, oneshot::Sender<Result<RollReport>>),
    Pause(oneshot::Sender<bool>),
    Resume(oneshot::Sender<bool>),
    Abort,
    Shutdown,
    Status(oneshot::Sender<ClusterStatus>),
}

/// Whether a roll looks for a new executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anew {
    Yes,
    No,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollReport {
    /// How it ended, and why.
    pub outcome: RollOutcome,
    /// How many workers were replaced, those included that were rolled back.
    pub replaced: u32,
    /// How many of these run the new executable still although they were to go back: the old one could not be started there again.
    pub stranded: u32,
    /// Why a worker could not be started, if that is what ended it.
    pub error: Option<String>,
    /// Whether it was to another executable.
    pub new_executable: bool,
}

impl RollReport {
    /// Whether all workers are new ones.
    pub fn is_complete(&self) -> bool {
        self.outcome == RollOutcome::Completed
    }
}

impl Handle {
    pub(super) fn new(orders: mpsc::Sender<Order>, own: Own) -> Self {
        Self { orders, own }
    }

    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// The state that all workers and the primary share, as the primary sees it: a replica like the workers' ([`Worker::state`](crate::Worker::state)).
    /// It follows from the first call on, while the primary [runs](crate::Primary::run).
    pub fn state(&self) -> SharedState {
        self.own.state()
    }

    /// Starts one more worker, in the lowest free slot, and returns at once with its name; events tell how it fares. It
    /// is kept running like the others.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn fork(&self) -> Result<WorkerId> {
        self.ask(Order::Fork).await
    }

    /// Asks a worker to leave for good: it gets no more connections, finishes those it has, and exits. Returns at
    /// once; events tell when it has. A worker that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn stop(&self, worker: WorkerId) -> Result<()> {
        self.order(Order::Stop(worker)).await
    }

    /// Replaces all workers, a few at a time, the new before the old, and returns when that is over: see
    /// [`Builder::rolling`](crate::Builder::rolling). SIGHUP does the same.
    ///
    /// If the file of the executable is another one than before, the workers run that one from now on; it has to prove itself in
    /// one worker first, and if it doesn't, all goes on with the old one, which is kept open for that. So does a crash
    /// at any other time: a file that was replaced on disk is not started by accident. (A script can't be held so: what it runs is what
    /// stands in its file at the time. A warning says so, and [`ExecutableStatus::pinned`](crate::ExecutableStatus::pinned).)
    ///
    /// Dropping the future does not end the roll.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`]; [`Error::Roll`] while another roll goes on; [`Error::Process`] when the executable can't be opened. That
    /// a roll failed is no error but an [outcome](RollReport::outcome).
    pub async fn reload(&self) -> Result<RollReport> {
        self.ask(|reply| Order::Roll(Anew::Yes, reply)).await?
    }

    /// The same with the executable there is.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload).
    pub async fn restart_all(&self) -> Result<RollReport> {
        self.ask(|reply| Order::Roll(Anew::No, reply)).await?
    }

    /// Replaces the worker of a slot, the new before the old, when the [allowance](crate::Builder::rolling) for replacements has room.
    /// Returns the new one once it is ready and the old one was asked to leave.
    ///
    /// Dropping the future does not end it.
    ///
    /// # Errors
    ///
    /// [`Error::NotReplaced`]; [`Error::Ended`].
    pub async fn restart(&self, slot: u32) -> Result<WorkerId> {
        self.ask(|reply| Order::Restart(slot, reply)).await?
    }

    /// Wants so many workers from now on: starts what is missing, or stops those that were started last. Returns at once. Slots that
    /// were given up count, and are not started again by this: [`fork`](Self::fork) and [`reload`](Self::reload) do that.
    /// SIGTTIN and SIGTTOU do so with one more and one fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn scale(&self, workers: usize) -> Result<()> {
        self.order(Order::Scale(workers)).await
    }

    /// Replaces no more workers for now. Returns whether there is a roll to pause.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn pause_roll(&self) -> Result<bool> {
        self.ask(Order::Pause).await
    }

    /// Goes on with a roll that was paused. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn resume_roll(&self) -> Result<bool> {
        self.ask(Order::Resume).await
    }

    /// Ends a roll: those workers that run another executable already are rolled back. Without a roll nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn abort_roll(&self) -> Result<()> {
        self.order(Order::Abort).await
    }

    /// Stops the cluster gracefully; a second call stops it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn shutdown(&self) -> Result<()> {
        self.order(Order::Shutdown).await
    }

    /// How everybody is.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn status(&self) -> Result<ClusterStatus> {
        self.ask(Order::Status).await
    }

    async fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).await.map_err(|_| Error::Ended)
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply)).await?;
        answer.await.map_err(|_| Error::Ended)
    }
}
