//! Who there is, and what waits for each.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::budget::{Budget, Cost, Share};
use super::callee::Callee;
use super::envelope::Refusal;
use super::limits::capacity;
use super::{Key, Limits, Peer, To};
use crate::Error;
use crate::codec::Raw;
use crate::tokio::Sender;

/// A letter to a worker.
#[derive(Debug)]
struct Outgoing {
    /// `None`: only to be told when all before it have gone.
    letter: Option<(Bytes, Vec<OwnedFd>, Share)>,
    /// Told when the worker has room for it, or why it never will.
    done: oneshot::Sender<Result<(), Error>>,
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Node<K> {
    outbox: mpsc::Sender<Outgoing>,
    room: Budget,
    /// How many were put into the outbox and have not gone.
    waiting: Arc<AtomicUsize>,
    pub(super) callee: Arc<Callee<K>>,
    pub(super) sender: Sender<[u8], Raw>,
}

impl<K: Key> Node<K> {
    pub(super) fn new(sender: &Sender<[u8], Raw>, limits: &Limits) -> (Self, Outbox) {
        let (outbox, queue) = mpsc::channel(capacity(limits.outbox));
        let waiting = Arc::default();
        let node = Self {
            outbox,
            room: Budget::new(limits.outbox),
            waiting: Arc::clone(&waiting),
            callee: Arc::new(Callee::new(limits)),
            sender: sender.clone(),
        };
        (node, Outbox { queue, waiting })
    }

    /// Queues a letter unless too many wait. What is returned tells when the worker has room for it.
    pub(super) fn try_post(
        &self,
        sealed: Bytes,
        descriptors: Vec<OwnedFd>,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Refusal> {
        let place = self.outbox.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Refusal::NotTaken,
            mpsc::error::TrySendError::Closed(()) => Refusal::Unreachable,
        })?;
        let share = self.room.try_take(Cost::of(&sealed, &descriptors)).ok_or(Refusal::NotTaken)?;
        let (done, posted) = oneshot::channel();
        self.put(place, Outgoing { letter: Some((sealed, descriptors, share)), done });
        Ok(posted)
    }

    fn put(&self, place: mpsc::Permit<'_, Outgoing>, outgoing: Outgoing) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        place.send(outgoing);
    }

    /// The same, waiting until it may be queued and the worker has room.
    pub(super) async fn post(&self, sealed: Bytes, descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        let share = self.room.take(Cost::of(&sealed, &descriptors)).await;
        self.queue(Some((sealed, descriptors, share))).await
    }

    /// Waits until all letters that were queued before have gone, so that a call comes after them.
    pub(super) async fn pass(&self) -> Result<(), Refusal> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        self.queue(None).await
    }

    /// Asks the worker, after all letters that were queued for it before, and when it has few enough calls of this caller.
    pub(super) async fn ask(
        &self,
        caller: Peer<K>,
        sealed: &Bytes,
        descriptors: Vec<OwnedFd>,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Error> {
        let cost = Cost::of(sealed, &descriptors);
        let _open = until(deadline, self.callee.open(caller, cost)).await?;
        // Its connection has ended.
        until(deadline, self.pass()).await?.map_err(|_| Error::PeerGone)?;
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let client = self.sender.client::<Bytes>().timeout(rest);
        client.request_with(sealed, descriptors).await.map(|(reply, _)| reply)
    }

    async fn queue(&self, letter: Option<(Bytes, Vec<OwnedFd>, Share)>) -> Result<(), Refusal> {
        let (done, posted) = oneshot::channel();
        let place = self.outbox.reserve().await.map_err(|_| Refusal::Unreachable)?;
        self.put(place, Outgoing { letter, done });
        settled(posted.await)
    }
}

/// Waits for something, if there is a deadline until then.
pub(super) async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Result<F::Output, Error> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.map_err(|_| Error::TimedOut),
        None => Ok(future.await),
    }
}

/// The other end of a worker's outbox.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Receiver<Outgoing>,
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    /// Sends what waits for a worker, in order, as it has room for it. It never ends by itself.
    pub(super) async fn pump(mut self, sender: Sender<[u8], Raw>) {
        while let Some(Outgoing { letter, done }) = self.queue.recv().await {
            let posted = match letter {
                Some((sealed, descriptors, _share)) => sender.send_with(&sealed[..], descriptors).await,
                None => Ok(()),
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            // Whoever sent it may not wait for this.
            let _ = done.send(posted);
        }
        std::future::pending().await
    }
}

/// What became of a letter that was queued.
pub(super) fn settled(done: Result<Result<(), Error>, oneshot::error::RecvError>) -> Result<(), Refusal> {
    match done {
        Ok(Ok(())) => Ok(()),
        // The worker's connection ended first.
        Ok(Err(_)) | Err(_) => Err(Refusal::Gone),
    }
}

/// All workers that are connected, and who has which slot.
#[derive(Debug)]
pub(super) struct Routes<K> {
    nodes: BTreeMap<K, Node<K>>,
    slots: BTreeMap<u32, K>,
}

impl<K> Default for Routes<K> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), slots: BTreeMap::new() }
    }
}

impl<K: Key> Routes<K> {
    pub(super) fn insert(&mut self, key: K, node: Node<K>) {
        self.nodes.insert(key, node);
    }

    pub(super) fn remove(&mut self, key: K) {
        self.nodes.remove(&key);
        self.slots.retain(|_, holder| *holder != key);
    }

    pub(super) fn assign(&mut self, slot: u32, key: K) {
        // One that is gone already stays so.
        if self.nodes.contains_key(&key) {
            self.slots.insert(slot, key);
        }
    }

    pub(super) fn holder(&self, slot: u32) -> Option<K> {
        self.slots.get(&slot).copied()
    }

    /// The worker that this means now. The primary is none.
    pub(super) fn find(&self, to: &To<K>) -> Option<&Node<K>> {
        let key = match to {
            To::Primary => return None,
            To::Worker(key) => *key,
            To::Slot(slot) => self.holder(*slot)?,
        };
        self.nodes.get(&key)
    }

    pub(super) fn senders(&self) -> Vec<Sender<[u8], Raw>> {
        self.nodes.values().map(|node| node.sender.clone()).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (K, &Node<K>)> {
        self.nodes.iter().map(|(key, node)| (*key, node))
    }
}
