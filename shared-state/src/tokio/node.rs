//! A replica and all who wait for something of it.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

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
    /// Whether the state is whole and follows; closed when nobody drives it any more.
    pub(super) live: watch::Sender<bool>,
    /// Told for each request that has completed: there is room for another.
    pub(super) room: Notify,
}

#[derive(Debug)]
struct Core {
    replica: Replica<Writer>,
    waiting: HashMap<RequestId, oneshot::Sender<Result<Answer, RequestError>>>,
    watchers: HashMap<WatchId, Option<Waker>>,
    /// Wakes who drives it.
    driver: Option<Waker>,
    /// Requests without completion, when that was looked at last.
    outstanding: usize,
    is_gone: bool,
}

/// What came of a request, some time.
pub(super) type Completion = oneshot::Receiver<Result<Answer, RequestError>>;

impl Node {
    pub(super) fn new(replica: Replica<Writer>) -> Self {
        let core = Core {
            replica,
            waiting: HashMap::new(),
            watchers: HashMap::new(),
            driver: None,
            outstanding: 0,
            is_gone: false,
        };
        Self { core: Mutex::new(core), live: watch::Sender::new(false), room: Notify::new() }
    }

    // What handles want.

    pub(super) fn submit(&self, command: Command) -> Result<(RequestId, Completion), Full> {
        self.request(|replica| replica.submit(command))
    }

    pub(super) fn sync(&self) -> Result<(RequestId, Completion), Full> {
        self.request(Replica::sync)
    }

    pub(super) fn at_least(&self, cursor: Cursor) -> Result<(RequestId, Completion), Full> {
        self.request(|replica| replica.at_least(cursor))
    }

    fn request(
        &self,
        request: impl FnOnce(&mut Replica<Writer>) -> Result<RequestId, Full>,
    ) -> Result<(RequestId, Completion), Full> {
        let mut core = self.core.lock();
        let id = request(&mut core.replica)?;
        let (sender, receiver) = oneshot::channel();
        if !core.is_gone {
            core.waiting.insert(id, sender);
        }
        // One that waits for a revision that is there already has completed.
        let mut woken = core.settle(self);
        woken.extend(core.driver.take());
        drop(core);
        woken.into_iter().for_each(Waker::wake);
        Ok((id, receiver))
    }

    pub(super) fn cancel(&self, id: RequestId) {
        let mut core = self.core.lock();
        if core.waiting.remove(&id).is_some() {
            core.replica.cancel(id);
            let woken = core.settle(self);
            drop(core);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.core.lock().is_gone
    }

    pub(super) fn is_live(&self) -> bool {
        *self.live.borrow()
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
        core.watchers.remove(&id);
    }

    /// What the watcher is told next; `None` when nobody drives this any more.
    pub(super) fn poll_notice(&self, id: WatchId, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut core = self.core.lock();
        if let Some(notice) = core.replica.poll_notice(id) {
            return Poll::Ready(Some(notice));
        }
        if core.is_gone {
            return Poll::Ready(None);
        }
        core.watchers.insert(id, Some(cx.waker().clone()));
        Poll::Pending
    }

    // What who drives it does.

    pub(super) fn handle_connected(&self) {
        self.with(Replica::handle_connected);
    }

    pub(super) fn handle_disconnected(&self) {
        self.live.send_replace(false);
        self.with(Replica::handle_disconnected);
    }

    fn with(&self, act: impl FnOnce(&mut Replica<Writer>)) {
        let mut core = self.core.lock();
        act(&mut core.replica);
        let woken = core.settle(self);
        drop(core);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Takes messages of the primary: readers see them all at once, and then those are woken who wait for them.
    pub(super) fn handle_messages(&self, batch: &mut Vec<Bytes>) -> Result<(), LinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut core = self.core.lock();
        let handled = batch.drain(..).try_for_each(|message| core.replica.handle_message(message));
        let cut_off = core.replica.cut_off_for().cloned();
        let woken = core.settle(self);
        drop(core);
        woken.into_iter().for_each(Waker::wake);
        handled?;
        cut_off.map_or(Ok(()), |reason| Err(LinkError::CutOff(reason)))
    }

    /// The next message to the primary. Whoever submits one later wakes the driver.
    pub(super) fn poll_transmit(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut core = self.core.lock();
        let message = core.replica.poll_transmit();
        if message.is_none() {
            core.driver = Some(cx.waker().clone());
        }
        message
    }

    /// Nobody drives it any more: who waits is told.
    pub(super) fn close(&self) {
        let mut core = self.core.lock();
        core.is_gone = true;
        core.waiting.clear();
        let woken: Vec<Waker> = core.watchers.values_mut().filter_map(Option::take).collect();
        drop(core);
        self.live.send_replace(false);
        self.room.notify_waiters();
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Core {
    /// Publishes what has changed and hands over what has become known. Returns whom to wake once the lock is free.
    #[must_use = "they wait, and nobody else will wake them"]
    fn settle(&mut self, node: &Node) -> Vec<Waker> {
        self.replica.state_mut().publish();
        while let Some((id, result)) = self.replica.poll_completion() {
            // Whoever asked may have stopped waiting.
            if let Some(waiting) = self.waiting.remove(&id) {
                drop(waiting.send(result));
            }
        }
        // Also for those that nobody wanted any more.
        let outstanding = self.replica.outstanding();
        (outstanding..self.outstanding).for_each(|_| node.room.notify_one());
        self.outstanding = outstanding;
        let mut woken = Vec::new();
        while let Some(id) = self.replica.poll_ready() {
            woken.extend(self.watchers.get_mut(&id).and_then(Option::take));
        }
        while let Some(event) = self.replica.poll_event() {
            tell(&event);
        }
        let is_live = self.replica.is_live();
        node.live.send_if_modified(|was| std::mem::replace(was, is_live) != is_live);
        woken
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
