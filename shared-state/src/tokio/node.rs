//! A replica and all who wait for something of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::broadcast::{Heard, Listen};
use super::link::LinkError;
use crate::map::Writer;
use crate::{
    Answer, Command, Cursor, Full, Notice, ProtocolError, Replica, ReplicaEvent, RequestError, RequestId,
    Revision, TooManyWatchers, Watch, WatchId,
};

/// Messages of the broadcast that are taken in before others get their turn, and bytes of them: about 0.1 ms.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// How often a read tries to take in what is new while somebody else uses the replica: some microseconds, as long as most uses take.
const TRIES: u32 = 64;

/// A replica that several tasks and threads use, and one task drives.
#[derive(Debug)]
pub(super) struct Node {
    core: Mutex<Core>,
    /// Whether the state is whole and follows. Written under the lock.
    is_live: AtomicBool,
    /// Whether the state takes in what is broadcast. Written under the lock.
    is_tuned: AtomicBool,
    /// All are told when that has changed, or nobody drives this any more.
    pub(super) turned: Notify,
    /// Told for each request that has completed: there is room for another.
    pub(super) room: Notify,
}

#[derive(Debug)]
struct Core {
    replica: Replica<Writer>,
    ear: Option<Arc<dyn Listen>>,
    /// What was broadcast makes no sense. Whoever drives this has to know.
    failure: Option<ProtocolError>,
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
            ear: None,
            failure: None,
            waiting: HashMap::default(),
            watchers: HashMap::new(),
            driver: None,
            outstanding: 0,
            is_gone: false,
        };
        Self {
            core: Mutex::new(core),
            is_live: AtomicBool::new(false),
            is_tuned: AtomicBool::new(false),
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
        // What is waited for may be there to be heard.
        core.hear();
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
        // What was written before is not told as news.
        core.hear();
        let id = core.replica.watch(watch);
        if let Ok(id) = id {
            core.watchers.insert(id, None);
        }
        let mut told = core.settle(self);
        // The primary has to know that somebody waits.
        told.woken.extend(core.driver.take());
        drop(core);
        told.tell(self);
        id
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

    /// Takes in what was broadcast until now, if nobody else uses the replica all the while: whoever reads after this reads that.
    /// Bounded, and never waits for anybody.
    #[cold]
    pub(super) fn catch_up(&self) {
        let mut tries = (0..TRIES).map(|_| {
            std::hint::spin_loop();
            self.core.try_lock()
        });
        let Some(mut core) = self.core.try_lock().or_else(|| tries.find_map(|core| core)) else { return };
        core.hear();
        let mut told = core.settle(self);
        if core.failure.is_some() || core.replica.poll_broadcast().is_none() {
            told.woken.extend(core.driver.take());
        }
        drop(core);
        told.tell(self);
    }

    // What who drives it does.

    pub(super) fn handle_connected(&self, ear: Option<Arc<dyn Listen>>) {
        let former = self.with(|core| {
            core.replica.handle_connected();
            if ear.is_some() {
                core.replica.handle_listening();
            }
            std::mem::replace(&mut core.ear, ear)
        });
        // It has wakers, which may hold anything.
        drop(former);
    }

    pub(super) fn handle_disconnected(&self) {
        let former = self.with(|core| {
            core.replica.handle_disconnected();
            core.failure = None;
            core.ear.take()
        });
        drop(former);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let done = act(&mut core);
        let told = core.settle(self);
        drop(core);
        told.tell(self);
        done
    }

    /// Takes messages of the primary, and what it broadcast: readers see them all at once, and then those are woken who wait for
    /// them. Says what is next, if more may have been broadcast.
    pub(super) fn handle_messages(&self, batch: &mut Vec<Bytes>) -> Result<Option<Revision>, LinkError> {
        if batch.is_empty() && !self.is_tuned.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut core = self.core.lock();
        let handled = batch.drain(..).try_for_each(|message| core.replica.handle_message(message));
        // After the messages: what was broadcast before one of them is there.
        let has_more = handled.is_ok() && core.hear();
        let next = core.replica.poll_broadcast().filter(|_| has_more);
        let failure = core.failure.take();
        let cut_off = core.replica.cut_off_for().cloned();
        let told = core.settle(self);
        drop(core);
        told.tell(self);
        handled?;
        failure.map_or(Ok(()), Err)?;
        cut_off.map_or(Ok(next), |reason| Err(LinkError::CutOff(reason)))
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
    /// Takes in what was broadcast, up to a bound. Whether there is more.
    fn hear(&mut self) -> bool {
        let Some(ear) = &self.ear else { return false };
        let mut bytes = 0;
        for _ in 0..BATCH {
            let Some(next) = self.replica.poll_broadcast() else { return false };
            let heard = match ear.read(next) {
                Heard::Message(message) => {
                    bytes += message.len();
                    self.replica.handle_broadcast(message)
                }
                Heard::NotYet => return false,
                Heard::Missed => {
                    self.replica.handle_missed();
                    return false;
                }
            };
            if let Err(error) = heard {
                self.failure = Some(error);
                return false;
            }
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        true
    }

    /// Publishes what has changed and takes what has become known.
    fn settle(&mut self, node: &Node) -> Told {
        let mut told = Told::default();
        let is_tuned = self.replica.poll_broadcast().is_some();
        if node.is_tuned.swap(is_tuned, Ordering::Relaxed) != is_tuned {
            let ear = self.ear.clone().filter(|_| is_tuned);
            self.replica.state_mut().set_newest(ear.map(|ear| ear.newest()));
        }
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
        ReplicaEvent::Missed { next } => {
            tracing::info!(%next, "this replica is too slow for the broadcast: it asks for what it missed");
        }
        event => tracing::debug!(?event, "shared state"),
    }
}
