//! One worker, as the user of a primary holds it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cluster_supervisor::{WorkerId, WorkerState};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::handle::{Handle, Order};
use super::roster::Snapshot;
use super::worker_events::WorkerEvents;
use crate::event::Events;
use crate::{Departure, Error, Message, Request, Result, To};

/// One life of one worker: from [`Handle::fork`], [`Handle::workers`] or [`Handle::worker`]. Cheap to clone; dropping it does nothing to
/// the worker.
///
/// What only looks needs no await: it shows what the primary's loop noted last, also when the worker is long gone. A
/// worker's successor in the same slot is another worker, with a handle of its own.
///
/// | Node's `Worker` | here |
/// |---|---|
/// | `id` | [`id`](Self::id); [`slot`](Self::slot) is what stays over restarts |
/// | `process.pid` | [`pid`](Self::pid) |
/// | `state` | [`state`](Self::state) |
/// | `exitedAfterDisconnect` | [`departure`](Self::departure) |
/// | `disconnect()` | [`disconnect`](Self::disconnect), which waits, and [`stop`](Self::stop), which doesn't |
/// | `kill()`, `destroy()` | [`kill`](Self::kill) |
/// | `isConnected()`, `isDead()` | [`is_connected`](Self::is_connected), [`is_dead`](Self::is_dead) |
/// | `worker.on(…)` | [`events`](Self::events) |
///
/// ```no_run
/// # async fn example(handle: cluster::Handle) -> cluster::Result<()> {
/// let worker = handle.fork().await?;
/// let mut events = worker.events();
/// tokio::spawn(async move {
///     while let Some(event) = events.recv().await {
///         println!("{event}");
///     }
/// });
/// let departure = worker.disconnect().await?;
/// println!("worker {} {departure}", worker.id());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    id: WorkerId,
    snapshot: watch::Receiver<Snapshot>,
    handle: Handle,
    /// Its events from its fork on, until somebody wants them.
    from_fork: Arc<Mutex<Option<Events>>>,
}

impl WorkerHandle {
    pub(super) fn new(id: WorkerId, snapshot: watch::Receiver<Snapshot>, handle: Handle) -> Self {
        Self { id, snapshot, handle, from_fork: Arc::default() }
    }

    pub(super) fn with_events(self, events: Events) -> Self {
        *self.from_fork.lock() = Some(events);
        self
    }

    /// Sends it a message, and waits until it has room for it: [`Messages::send`](crate::ipc::switch::Port::send).
    ///
    /// # Errors
    ///
    /// [`Error::Ipc`]: it is not connected, ends meanwhile, or takes nothing.
    pub async fn send<M: Message>(&self, message: &M) -> Result<()> {
        Ok(self.handle.messages().send(To::Worker(self.id), message).await?)
    }

    /// The same with open sockets, files or other descriptors, at most 253. They are closed here once they are on their way.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_with<M: Message>(&self, message: &M, descriptors: Vec<OwnedFd>) -> Result<()> {
        Ok(self.handle.messages().send_with(To::Worker(self.id), message, descriptors).await?)
    }

    /// Asks it, and waits for its answer, 5 s at most: [`Messages::request`](crate::ipc::switch::Port::request).
    ///
    /// # Errors
    ///
    /// [`Error::Ipc`]: as for a message; it has answered with an error, or not in time.
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Reply> {
        Ok(self.handle.messages().request(To::Worker(self.id), request).await?)
    }

    /// Its name.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Its slot, which a successor has too.
    pub fn slot(&self) -> u32 {
        self.id.slot()
    }

    /// Its process; `None` until there is one. It stays known when the worker is gone, and may then be somebody else's.
    pub fn pid(&self) -> Option<u32> {
        self.snapshot.borrow().pid
    }

    /// What it does: `Starting`, `Ready`, `Draining`, `Stopping`, or `Stopped` once it is gone.
    pub fn state(&self) -> WorkerState {
        self.snapshot.borrow().state
    }

    /// Whether its channel is open: from the start of its process until that closes it, at the latest by ending.
    pub fn is_connected(&self) -> bool {
        self.snapshot.borrow().connected
    }

    /// Whether it is gone: its process has ended, or could not be started.
    pub fn is_dead(&self) -> bool {
        self.snapshot.borrow().departure.is_some()
    }

    /// How it went, once it is gone.
    pub fn departure(&self) -> Option<Departure> {
        self.snapshot.borrow().departure
    }

    /// Waits until it is gone, and returns how it went.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when the primary ends before that is known.
    pub async fn departed(&self) -> Result<Departure> {
        let mut snapshot = self.snapshot.clone();
        let gone = snapshot.wait_for(|snapshot| snapshot.departure.is_some()).await;
        gone.ok().and_then(|snapshot| snapshot.departure).ok_or(Error::Ended)
    }

    /// Asks it to leave for good, and returns how it went when its process has really ended: after it has finished what it has, or when it
    /// was killed at its deadline. Its slot stays empty. Any number of calls is one, and for one that is gone already it
    /// returns at once.
    ///
    /// Dropping the future does not take the wish back.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn disconnect(&self) -> Result<Departure> {
        if let Some(departure) = self.departure() {
            return Ok(departure);
        }
        self.stop().await?;
        self.departed().await
    }

    /// The same without waiting for its end.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub async fn stop(&self) -> Result<()> {
        self.handle.stop(self.id).await
    }

    /// Sends a signal to its process, by number (15 is SIGTERM, 9 is SIGKILL), and no more than that: nothing is asked of the worker, and its
    /// slot stays wanted. If it ends by it that counts as a crash: the worker is restarted by the
    /// [policy](crate::Builder::policy), and its budget pays for it. A manager's user expects that who is killed comes back; who is to go
    /// for good is [disconnected](Self::disconnect), first or in its place.
    ///
    /// A worker takes SIGTERM for a wish to leave: it finishes its requests before it ends.
    ///
    /// Returns whether it was there to be signalled.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for a number that is no signal, or when it may not be sent; [`Error::Ended`].
    pub async fn kill(&self, signal: i32) -> Result<bool> {
        self.handle.ask(|reply| Order::Kill(self.id, signal, reply)).await?
    }

    /// Its events alone, from now on, and the last is its end (or that it could not be started). The first call on a handle that
    /// [`fork`](Handle::fork) returned begins with the fork: none is missed.
    pub fn events(&self) -> WorkerEvents {
        let of = |events| WorkerEvents::new(self.id, events, self.snapshot.clone());
        if let Some(events) = self.from_fork.lock().take() {
            return of(events);
        }
        // In this order: otherwise it could end in between, and its end be waited for in vain.
        let events = of(self.handle.events());
        if self.is_dead() { events.over() } else { events }
    }
}
