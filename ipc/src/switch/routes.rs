//! Who there is, and what waits for each.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::envelope::Refusal;
use super::{Key, To};
use crate::Error;
use crate::codec::Raw;
use crate::tokio::Sender;

/// Letters that may wait until a worker has room for them.
const WAITING: usize = 64;

/// A letter to a worker.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// `None`: only to be told when all before it have gone.
    pub(super) letter: Option<(Bytes, Vec<OwnedFd>)>,
    /// Told when the worker has room for it, or why it never will.
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Node {
    outbox: mpsc::Sender<Outgoing>,
    /// How many were put into the outbox and have not gone.
    waiting: Arc<AtomicUsize>,
    pub(super) sender: Sender<[u8], Raw>,
}

impl Node {
    pub(super) fn new(sender: &Sender<[u8], Raw>) -> (Self, Outbox) {
        let (outbox, queue) = mpsc::channel(WAITING);
        let waiting = Arc::default();
        (Self { outbox, waiting: Arc::clone(&waiting), sender: sender.clone() }, Outbox { queue, waiting })
    }

    /// Queues a letter unless too many wait. What is returned tells when the worker has room for it.
    pub(super) fn try_post(
        &self,
        sealed: Bytes,
        descriptors: Vec<OwnedFd>,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Refusal> {
        let (done, posted) = oneshot::channel();
        let place = self.outbox.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Refusal::NotTaken,
            mpsc::error::TrySendError::Closed(()) => Refusal::Unreachable,
        })?;
        self.put(place, Outgoing { letter: Some((sealed, descriptors)), done });
        Ok(posted)
    }

    fn put(&self, place: mpsc::Permit<'_, Outgoing>, outgoing: Outgoing) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        place.send(outgoing);
    }

    /// The same, waiting until it may be queued and the worker has room.
    pub(super) async fn post(&self, sealed: Bytes, descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        self.queue(Some((sealed, descriptors))).await
    }

    /// Waits until all letters that were queued before have gone, so that a call comes after them.
    pub(super) async fn pass(&self) -> Result<(), Refusal> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        self.queue(None).await
    }

    async fn queue(&self, letter: Option<(Bytes, Vec<OwnedFd>)>) -> Result<(), Refusal> {
        let (done, posted) = oneshot::channel();
        let place = self.outbox.reserve().await.map_err(|_| Refusal::Unreachable)?;
        self.put(place, Outgoing { letter, done });
        settled(posted.await)
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
                Some((sealed, descriptors)) => sender.send_with(&sealed[..], descriptors).await,
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
    nodes: BTreeMap<K, Node>,
    slots: BTreeMap<u32, K>,
}

impl<K> Default for Routes<K> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), slots: BTreeMap::new() }
    }
}

impl<K: Key> Routes<K> {
    pub(super) fn insert(&mut self, key: K, node: Node) {
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
    pub(super) fn find(&self, to: &To<K>) -> Option<&Node> {
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

    pub(super) fn all(&self) -> impl Iterator<Item = (K, &Node)> {
        self.nodes.iter().map(|(key, node)| (*key, node))
    }
}
