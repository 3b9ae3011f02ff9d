//! Connections that arrived from the primary and that the application has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster_ipc::board::{Ticket, WorkerBoard};
use cluster_ipc::tokio::Channel;
use cluster_ipc::{Frame, Kind};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::drain::{Gate, Phase};
use super::io::Io;
use super::stream::{Account, Stream};
use crate::address::Address;
use crate::wire::{self, Batch};
use crate::{Error, Result};

/// One of the connections that there may be at a time, while it is kept; nothing where there is no limit.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// One queue per listener of this worker, filled by [`receive`], emptied by `accept`.
#[derive(Debug)]
pub(crate) struct Intake {
    board: Arc<WorkerBoard>,
    gate: Arc<Gate>,
    /// Wakes the task that owns the data channel, to ring.
    bell: Arc<Notify>,
    /// Of the listeners that there are now.
    queues: Mutex<BTreeMap<u8, Arc<Queue>>>,
    /// A place for each connection that there may be, if there is a limit.
    places: Option<Arc<Semaphore>>,
    /// The primary claims back what was not taken: nothing may be taken any more.
    withdrawn: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Queue {
    /// Where its connections come in.
    address: Address,
    arrived: Mutex<VecDeque<Untaken>>,
    filled: Notify,
    /// Something was taken since the loop turned.
    took: AtomicBool,
}

/// Closing it without taking the ticket loses nothing: the primary still has its copy.
#[derive(Debug)]
struct Untaken {
    ticket: Ticket,
    peer: Address,
    stream: OwnedFd,
}

impl Intake {
    pub(crate) fn new(board: Arc<WorkerBoard>, gate: Arc<Gate>, most: Option<u32>) -> Self {
        Self {
            board,
            gate,
            bell: Arc::new(Notify::new()),
            queues: Mutex::default(),
            places: most.map(|most| Arc::new(Semaphore::new(most as usize))),
            withdrawn: AtomicBool::new(false),
        }
    }

    /// Waits until there may be one more connection.
    pub(super) async fn place(&self) -> Place {
        match &self.places {
            // It is never closed.
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Counts a connection that the primary has handed over: it sees to the limit.
    fn place_now(&self) -> Place {
        self.places.as_ref().and_then(|places| Arc::clone(places).try_acquire_owned().ok())
    }

    /// Opens the queue of a new listener.
    pub(crate) fn open(&self, listener: u8, address: Address) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            address,
            arrived: Mutex::default(),
            filled: Notify::new(),
            took: AtomicBool::new(false),
        });
        self.queues.lock().insert(listener, Arc::clone(&queue));
        queue
    }

    /// To ring the primary's bell with.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Waits for a connection of this listener that is still this worker's to take, and takes it. `None`
    /// once the worker drains.
    pub(crate) async fn accept(&self, queue: &Queue) -> Option<(Stream, Address)> {
        if queue.took.swap(false, Ordering::Relaxed) && !queue.arrived.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        loop {
            let filled = queue.filled.notified();
            while let Some(untaken) = queue.pop() {
                if let Some(taken) = self.take(untaken, &queue.address) {
                    queue.took.store(true, Ordering::Relaxed);
                    return Some(taken);
                }
            }
            tokio::select! {
                biased;
                () = filled => {}
                () = self.gate.reached(Phase::Draining) => return None,
            }
        }
    }

    /// Nothing is awaited between winning the ticket and giving the stream to the application: from then on this process
    /// alone answers for the connection.
    fn take(&self, untaken: Untaken, listener: &Address) -> Option<(Stream, Address)> {
        let Untaken { ticket, stream, peer } = untaken;
        if self.withdrawn.load(Ordering::SeqCst) {
            return None;
        }
        if !self.board.is_offered(ticket) {
            self.miss();
            return None;
        }
        let io = match Io::new(stream, listener) {
            Ok(io) => io,
            Err(error) => {
                tracing::warn!(%error, "could not take a connection: giving it back");
                self.refuse(ticket);
                return None;
            }
        };
        // Before the ticket: a drain that begins in between must wait for this connection.
        let pass = self.gate.enter();
        if !self.board.take(ticket) {
            self.miss();
            return None;
        }
        let account = Account::new(Arc::clone(&self.board), Arc::clone(&self.bell), self.place_now());
        let stream = Stream::new(io, pass, account);
        stream.account().ring_if_wanted();
        Some((stream, peer))
    }

    /// The primary has claimed the connection back. If it waited for this worker's loop to turn, it is told that it does.
    fn miss(&self) {
        self.board.count_missed();
        self.ring_if_wanted();
    }

    fn refuse(&self, ticket: Ticket) {
        self.board.refuse(ticket);
        self.ring_if_wanted();
    }

    /// Rings if the primary waits to hear of something taken or finished, or given back.
    fn ring_if_wanted(&self) {
        if self.board.doorbell_wanted() {
            self.bell.notify_one();
        }
    }

    /// The primary has withdrawn this worker, or is about to: what it has not taken is the primary's to give to others. Taking it
    /// still would be no loss, but the drain that follows might close it unanswered.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
        for queue in self.queues.lock().values() {
            queue.arrived.lock().clear();
        }
    }

    /// Closes the queue of a listener that is gone: what is in it, and what still comes, goes to other workers.
    pub(crate) fn close(&self, listener: u8) {
        let queue = self.queues.lock().remove(&listener);
        let untaken = queue.map(|queue| std::mem::take(&mut *queue.arrived.lock()));
        untaken.iter().flatten().for_each(|untaken| self.refuse(untaken.ticket));
    }

    fn handle_batch(&self, frame: &mut Frame<OwnedFd>) -> Result<()> {
        let batch: Batch = wire::decode(frame.payload())?;
        let streams = frame.take_descriptors();
        if batch.offers.len() != streams.len() {
            return Err(cluster_ipc::Error::DescriptorsMissing {
                claimed: batch.offers.len(),
                waiting: streams.len(),
            }
            .into());
        }
        if self.withdrawn.load(Ordering::SeqCst) {
            return Ok(());
        }
        let queues = self.queues.lock();
        for (offer, stream) in batch.offers.into_iter().zip(streams) {
            match queues.get(&offer.listener()) {
                Some(queue) => {
                    let untaken = Untaken { ticket: offer.ticket(), peer: offer.peer(), stream };
                    queue.arrived.lock().push_back(untaken);
                    queue.filled.notify_one();
                }
                None => self.refuse(offer.ticket()),
            }
        }
        Ok(())
    }

    /// Owns the data channel: receives batches, and rings when asked to. Returns when the channel ends.
    pub(crate) async fn receive(self: Arc<Self>, mut channel: Channel) -> Error {
        loop {
            tokio::select! {
                frame = channel.recv() => match frame {
                    Ok(mut frame) => if let Err(error) = self.handle_batch(&mut frame) { return error },
                    Err(error) => return error.into(),
                },
                () = self.bell.notified() => {
                    // A full outbox holds bells enough.
                    drop(channel.try_send(Frame::new(Kind::Message, 0, Vec::new())));
                }
            }
        }
    }
}

impl Queue {
    fn pop(&self) -> Option<Untaken> {
        let mut arrived = self.arrived.lock();
        let untaken = arrived.pop_front();
        if !arrived.is_empty() {
            // Of several wake-ups that nobody waited for only one is remembered: pass it on.
            self.filled.notify_one();
        }
        untaken
    }
}
