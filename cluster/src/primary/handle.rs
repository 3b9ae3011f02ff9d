//! Steering a running primary from elsewhere.

use std::sync::Arc;

use cluster_balancer::DispatcherStatus;
use cluster_shared_state::tokio::SharedState;
use cluster_supervisor::{RollOutcome, WorkerId};
use tokio::sync::{mpsc, oneshot};

use super::forks::Forked;
use super::roster::Roster;
use super::shared::Own;
use super::worker_handle::WorkerHandle;
use crate::event::{Events, Subscriber};
use crate::messages::{Desk, Messages};
use crate::status::ClusterStatus;
use crate::tasks::Tasks;
use crate::{Error, Fork, Result, Settings};

/// Steers a running primary from elsewhere. Cheap to clone.
///
/// | Node's `cluster`, in the primary | here |
/// |---|---|
/// | `fork(env)` | [`fork`](Self::fork), [`fork_with`](Self::fork_with) |
/// | `setupPrimary(settings)`, `settings` | [`setup`](Self::setup), [`settings`](Self::settings) |
/// | `workers` | [`workers`](Self::workers), [`worker`](Self::worker), [`worker_of_slot`](Self::worker_of_slot) |
/// | `disconnect(callback)` | [`disconnect`](Self::disconnect) |
/// | `on(event)` | [`events`](Self::events); which is which: [`Event`](crate::Event#nodes-events) |
/// | `isPrimary`, `isWorker` | [`Cluster::is_primary`](crate::Cluster::is_primary), [`Cluster::is_worker`](crate::Cluster::is_worker) |
/// | `schedulingPolicy` | [`Scheduling`](crate::Scheduling) |
/// | a manager's restart of one, of all, of all staggered | [`restart`](Self::restart), [`restart_all`](Self::restart_all), the same with a [bake time](crate::Builder::rolling) |
#[derive(Clone, Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    own: Own,
    messages: Messages,
    events: Subscriber,
    roster: Roster,
    desk: Desk,
}

#[derive(Debug)]
pub(super) enum Order {
    Fork(Box<Fork>, oneshot::Sender<Forked>),
    Stop(WorkerId),
    Kill(WorkerId, i32, oneshot::Sender<Result<bool>>),
    Setup(Box<Settings>, oneshot::Sender<Result<Arc<Settings>>>),
    Restart(u32, oneshot::Sender<Result<WorkerId>>),
    Scale(usize),
    /// With the executable of now, or with the one there is.
    Roll(Anew, oneshot::Sender<Result<RollReport>>),
    Pause(oneshot::Sender<bool>),
    Resume(oneshot::Sender<bool>),
    Abort,
    Disconnect(oneshot::Sender<()>),
    Shutdown,
    Status(oneshot::Sender<ClusterStatus>),
    BalancerStatus(oneshot::Sender<DispatcherStatus<WorkerId>>),
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
    /// Whether it was to another executable, or to settings that had changed.
    pub new_executable: bool,
}

impl RollReport {
    /// Whether all workers are new ones.
    pub fn is_complete(&self) -> bool {
        self.outcome == RollOutcome::Completed
    }
}

impl Handle {
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        own: Own,
        messages: Messages,
        events: Subscriber,
        roster: Roster,
        desk: Desk,
    ) -> Self {
        Self { orders, own, messages, events, roster, desk }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// The state that all workers and the primary share, as the primary sees it: a replica like the workers' ([`Worker::state`](crate::Worker::state)).
    /// It follows from the first call on, while the primary [runs](crate::Primary::run).
    pub fn state(&self) -> SharedState {
        self.own.state()
    }

    /// Messages to and from the workers. Handlers are best set before the primary [runs](crate::Primary::run): from then on requests
    /// that nobody answers are refused at once.
    pub fn messages(&self) -> Messages {
        self.messages.clone()
    }

    /// Submits tasks to the workers that [run](crate::Worker::run_tasks) them, while the primary [runs](crate::Primary::run); what is
    /// submitted before waits for that.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use cluster::{Cluster, Message, Request, Role};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Factor(u64);
    /// impl Message for Factor {
    ///     const NAME: &'static str = "factor";
    /// }
    /// impl Request for Factor {
    ///     type Reply = Vec<u64>;
    /// }
    ///
    /// # fn factors(of: u64, is_cancelled: impl Fn() -> bool) -> Vec<u64> { vec![of] }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// match Cluster::builder().workers(2).role()? {
    ///     Role::Primary(primary) => {
    ///         let tasks = primary.handle().tasks();
    ///         tokio::spawn(primary.run());
    ///         let factors = tasks.submit(&Factor(1_000_007)).deadline(Duration::from_secs(60)).await?;
    ///         println!("{factors:?}");
    ///     }
    ///     Role::Worker(worker) => {
    ///         worker.ready().await;
    ///         worker.run_blocking_tasks(1, |task: Factor, context| Ok(factors(task.0, || context.is_cancelled()))).await?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn tasks(&self) -> Tasks {
        self.desk.tasks()
    }

    /// Subscribes to the events from now on, as [`Primary::events`](crate::Primary::events) does. They end with the cluster.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Starts one more worker, in the lowest free slot, and returns its handle at once: its process may not be there yet. It
    /// is kept running like the others.
    ///
    /// That it can't be started is no error but an [event](crate::Event#nodes-events), and is tried again. While all
    /// [leave](Self::disconnect) it waits for the end of that.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], also when the cluster is stopping.
    pub async fn fork(&self) -> Result<WorkerHandle> {
        self.fork_with(Fork::new()).await
    }

    /// The same, with an environment or descriptors of its own.
    ///
    /// # Errors
    ///
    /// As [`fork`](Self::fork).
    pub async fn fork_with(&self, fork: Fork) -> Result<WorkerHandle> {
        let Forked { id, snapshot, events } = self.ask(|reply| Order::Fork(Box::new(fork), reply)).await?;
        Ok(WorkerHandle::new(id, snapshot, self.clone()).with_events(events))
    }

    /// All workers that are not gone, by slot: also those that start, and those on their way out. None before the primary
    /// [runs](crate::Primary::run), and none afterwards.
    pub fn workers(&self) -> Vec<WorkerHandle> {
        let all = self.roster.all().into_iter();
        all.map(|(id, snapshot)| WorkerHandle::new(id, snapshot, self.clone())).collect()
    }

    /// This worker, if it is not gone.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerHandle> {
        self.roster.get(id).map(|snapshot| WorkerHandle::new(id, snapshot, self.clone()))
    }

    /// The worker of a slot. While it is being replaced there are two: of these the one that is ready, the elder if both are.
    pub fn worker_of_slot(&self, slot: u32) -> Option<WorkerHandle> {
        self.roster.of_slot(slot).map(|(id, snapshot)| WorkerHandle::new(id, snapshot, self.clone()))
    }

    /// Changes what workers are started with: what is set in `changes`, the rest stays as it is. Returns what is so from now on, which an
    /// [event](crate::Event::Setup) tells too.
    ///
    /// It is for those that are forked later. Workers that live are not touched, and keep what they were started with over crashes and
    /// restarts; a [`reload`](Self::reload) brings the new settings to all, and if the first worker with them is no good, all keep what they have.
    /// (Node's `setupPrimary`. There a worker that is restarted by its manager gets the new settings, as it is one more fork.)
    ///
    /// # Errors
    ///
    /// [`Error::Process`] when the executable can't be opened; then nothing has changed. [`Error::Ended`].
    pub async fn setup(&self, changes: Settings) -> Result<Arc<Settings>> {
        self.ask(|reply| Order::Setup(Box::new(changes), reply)).await?
    }

    /// What workers that are forked now are started with: Node's `cluster.settings`. Before the primary runs, what the builder has set.
    pub fn settings(&self) -> Arc<Settings> {
        self.roster.settings()
    }

    /// Asks all workers to leave, and returns when the last process has really ended and been reaped; at the next turn of the loop if there are
    /// none. What has connected is still served, and who comes from now on is refused, as at a [`shutdown`](Self::shutdown).
    ///
    /// The primary goes on: the ports are free, and workers that are forked afterwards may listen on them again. (In Node it may return
    /// before workers have ended or drained.) Dropping the future does not take the wish back; any number of calls is one.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn disconnect(&self) -> Result<()> {
        self.ask(Order::Disconnect).await
    }

    /// Asks a worker to leave for good: it gets no more connections, finishes those it has, and exits. Returns at
    /// once; events tell when it has. A worker that is gone already is no error. When the last one has left so, the primary goes on: others may
    /// be [forked](Self::fork). Its port stays until it has ended, for one that is forked meanwhile: if nobody is, who has connected by then is
    /// closed unanswered. That nobody shall come is said by [`disconnect`](Self::disconnect) or [`scale`](Self::scale).
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
    /// A manager's staggered restart is a roll with a bake time ([`Builder::rolling`](crate::Builder::rolling)): so long each new worker serves
    /// before its predecessor has to go, and the next one follows only then.
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
    /// SIGTTIN and SIGTTOU do so with one more and one fewer. With 0 the primary goes on, without workers; they leave as by
    /// [`disconnect`](Self::disconnect), and whoever is wanted meanwhile is started afterwards.
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

    /// Stops the cluster gracefully: who comes from now on is refused, who has connected is answered, then workers leave. A second call stops
    /// it at once.
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

    /// How connections are balanced: the strategy, what each worker has and ever got, who is passed over, and what waits. It can be
    /// serialised. Only connections that the primary hands out are counted here: those of mode [`Handoff`](crate::Mode::Handoff), and in
    /// the other modes those of workers that can't accept.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn balancer_status(&self) -> Result<DispatcherStatus<WorkerId>> {
        self.ask(Order::BalancerStatus).await
    }

    async fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).await.map_err(|_| Error::Ended)
    }

    pub(super) async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply)).await?;
        answer.await.map_err(|_| Error::Ended)
    }
}
