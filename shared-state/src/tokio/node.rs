//! A replica and all who wait for something of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::link::LinkError;
use crate::map::Writer;
use crate::{
    Answer, Command, Cursor, Full, Notice, Replica, ReplicaEvent, RequestError, RequestId, TooManyWatchers,
    Watch, WatchId,
};

/// A replica that several tasks and threads use, and one task drives.
#[derive(Debug)]
pub(super) struct Node {
    core: Mutex<Core>,
    /// Whether the state is whole and follows. Written under the lock.
    is_live: AtomicBool,
    /// All are told when that has changed, or nobody drives this any more.
    pub(super) turned: Notify,
    /// Told for each request that has completed: there is room for another.
    pub(super) room: Notify,
}

#[derive(Debug)]
struct Core {
    replica: Replica<Writer>,
    /// Their names are ours: no stranger can have them meet in one place.
    waiting: HashMap<RequestId, oneshot::Sender<Outcome>, RandomState>,
    watchers: HashMap<WatchId, Option<Waker>>,
    /// Wakes who drives it.
    driver: Option<Waker>,
    /// Requests without completion, when that was looked at last.
    outstanding: usize,
    is_gone: bool,
}

/// What came of a request.
type Outcome = Result<Answer, RequestError>;

/// What came of a request, some time.
pub(super) type Completion = oneshot::Receiver<Outcome>;

/// A request; without a name if there is nobody who could carry it out.
pub(super) type Requested = (Option<RequestId>, Completion);

impl Node {
    pub(super) fn new(replica: Replica<Writer>) -> Self {
        let core = Core {
            replica,
            waiting: HashMap::default(),
            watchers: HashMap::new(),
            driver: None,
            outstanding: 0,
            is_gone: false,
        };
        Self {
            core: Mutex::new(core),
            is_live: AtomicBool::new(false),
            turned: Notify::new(),
            room: Notify::new(),
        }
    }

    // What handles want.

    pub(super) fn submit(&self, command: Command) -> Result<Requested, Full> {
        self.request(|replica| replica.submit(command))
    }

    pub(super) fn sync(&self) -> Result<Requested, Full> {
        self.request(Replica::sync)
    }

    pub(super) fn at_least(&self, cursor: Cursor) -> Result<Requested, Full> {
        self.request(|replica| replica.at_least(cursor))
    }

    fn request(
        &self,
        request: impl FnOnce(&mut Replica<Writer>) -> Result<RequestId, Full>,
    ) -> Result<Requested, Full> {
        let (sender, receiver) = oneshot::channel();
        let mut core = self.core.lock();
        if core.is_gone {
            return Ok((None, receiver));
        }
        let id = request(&mut core.replica)?;
        core.waiting.insert(id, sender);
        // One that waits for a revision that is there already has completed.
        let mut told = core.settle(self);
        told.woken.extend(core.driver.take());
        drop(core);
        told.tell(self);
        Ok((Some(id), receiver))
    }

    pub(super) fn cancel(&self, id: RequestId) {
        let mut core = self.core.lock();
        if core.waiting.remove(&id).is_some() {
            core.replica.cancel(id);
            let told = core.settle(self);
            drop(core);
            told.tell(self);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.core.lock().is_gone
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::SeqCst)
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.core.lock().replica.cursor()
    }

    pub(super) fn watch(&self, watch: Watch) -> Result<WatchId, TooManyWatchers> {
        let mut core = self.core.lock();
        let id = core.replica.watch(watch)?;
        core.watchers.insert(id, None);
        Ok(id)
    }

    pub(super) fn unwatch(&self, id: WatchId) {
        let mut core = self.core.lock();
        core.replica.unwatch(id);
        let waker = core.watchers.remove(&id).flatten();
        drop(core);
        waker.into_iter().for_each(Waker::wake);
    }

    /// What the watcher is told next; `None` when it watches no more, or nobody drives this any more.
    pub(super) fn poll_notice(&self, id: WatchId, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut core = self.core.lock();
        if let Some(notice) = core.replica.poll_notice(id) {
            return Poll::Ready(Some(notice));
        }
        if core.is_gone {
            return Poll::Ready(None);
        }
        let Some(waker) = core.watchers.get_mut(&id) else { return Poll::Ready(None) };
        let former = waker.replace(cx.waker().clone());
        drop(core);
        // A waker may hold anything, and it goes where nothing is locked.
        drop(former);
        Poll::Pending
    }

    // What who drives it does.

    pub(super) fn handle_connected(&self) {
        self.with(Replica::handle_connected);
    }

    pub(super) fn handle_disconnected(&self) {
        self.with(Replica::handle_disconnected);
    }

    fn with(&self, act: impl FnOnce(&mut Replica<Writer>)) {
        let mut core = self.core.lock();
        act(&mut core.replica);
        let told = core.settle(self);
        drop(core);
        told.tell(self);
    }

    /// Takes messages of the primary: readers see them all at once, and then those are woken who wait for them.
    pub(super) fn handle_messages(&self, batch: &mut Vec<Bytes>) -> Result<(), LinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut core = self.core.lock();
        let handled = batch.drain(..).try_for_each(|message| core.replica.handle_message(message));
        let cut_off = core.replica.cut_off_for().cloned();
        let told = core.settle(self);
        drop(core);
        told.tell(self);
        handled?;
        cut_off.map_or(Ok(()), |reason| Err(LinkError::CutOff(reason)))
    }

    /// The next message to the primary. Whoever submits one later wakes the driver.
    pub(super) fn poll_transmit(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut core = self.core.lock();
        let message = core.replica.poll_transmit();
        let former = if message.is_none() { core.driver.replace(cx.waker().clone()) } else { None };
        // Some are not worth sending.
        let told = (core.replica.outstanding() != core.outstanding).then(|| core.settle(self));
        drop(core);
        drop(former);
        if let Some(told) = told {
            told.tell(self);
        }
        message
    }

    /// Nobody drives it any more: who waits is told. What was sent may have been carried out, what was not sent never will be.
    pub(super) fn close(&self) {
        let mut core = self.core.lock();
        core.is_gone = true;
        core.replica.abandon();
        let mut told = core.settle(self);
        told.woken.extend(core.watchers.values_mut().filter_map(Option::take));
        told.has_turned = true;
        let unsent = std::mem::take(&mut core.waiting);
        drop(core);
        drop(unsent);
        told.tell(self);
        self.room.notify_waiters();
    }
}

/// Who is to be told what, once the lock is free: those who are woken may use the handle, in whatever way they are.
#[derive(Debug, Default)]
#[must_use = "they wait, and nobody else will tell them"]
struct Told {
    woken: Vec<Waker>,
    completed: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    /// So many may hand over a request.
    room: usize,
    has_turned: bool,
}

impl Told {
    fn tell(self, node: &Node) {
        for (waiting, result) in self.completed {
            // Whoever asked may have stopped waiting.
            drop(waiting.send(result));
        }
        (0..self.room).for_each(|_| node.room.notify_one());
        if self.has_turned {
            node.turned.notify_waiters();
        }
        self.woken.into_iter().for_each(Waker::wake);
    }
}

impl Core {
    /// Publishes what has changed and takes what has become known.
    fn settle(&mut self, node: &Node) -> Told {
        let mut told = Told::default();
        self.replica.state_mut().publish();
        // Also for those that nobody wanted any more.
        let outstanding = self.replica.outstanding();
        told.room = self.outstanding.saturating_sub(outstanding);
        self.outstanding = outstanding;
        told.completed.reserve(told.room);
        while let Some((id, result)) = self.replica.poll_completion() {
            if let Some(waiting) = self.waiting.remove(&id) {
                told.completed.push((waiting, result));
            }
        }
        while let Some(id) = self.replica.poll_ready() {
            told.woken.extend(self.watchers.get_mut(&id).and_then(Option::take));
        }
        while let Some(event) = self.replica.poll_event() {
            tell(&event);
        }
        let is_live = self.replica.is_live();
        told.has_turned = node.is_live.swap(is_live, Ordering::SeqCst) != is_live;
        told
    }
}

fn tell(event: &ReplicaEvent) {
    match event {
        ReplicaEvent::Gap { expected, got } => {
            tracing::warn!(%expected, %got, "something is missing in the shared state: a snapshot was asked for");
        }
        ReplicaEvent::CutOff { reason } => tracing::error!(%reason, "the primary cut this replica off"),
        event => tracing::debug!(?event, "shared state"),
    }
}
