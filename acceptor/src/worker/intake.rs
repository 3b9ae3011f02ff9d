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

use super::drain::{Gate, Pass, Phase};
use super::io::Io;
use super::stream::{Account, Stream};
use crate::wire::Batch;
use crate::{Address, Error};

/// One of the connections that there may be at a time, while it is kept; nothing where there is no limit.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// What was handed over to this worker and is not taken: one queue per [`Listener`](super::Listener), filled by
/// [`receive`](Self::receive), emptied by [`accept`](super::Listener::accept).
#[derive(Debug)]
pub struct Intake {
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
    #[cfg(feature = "test-util")]
    taken: super::taken::Taken,
}

#[derive(Debug)]
pub(super) struct Queue {
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
    /// None yet. Connections are counted on the board, and pass the gate; there may be at most so `many` at a time, if that is limited.
    pub fn new(board: Arc<WorkerBoard>, gate: Arc<Gate>, many: Option<u32>) -> Self {
        Self {
            board,
            gate,
            bell: Arc::new(Notify::new()),
            queues: Mutex::default(),
            places: many.map(|many| Arc::new(Semaphore::new(many as usize))),
            withdrawn: AtomicBool::new(false),
            #[cfg(feature = "test-util")]
            taken: super::taken::Taken::default(),
        }
    }

    /// Keeps a copy of each connection that the application takes from now on, so that it can be [cut](Self::cut).
    #[cfg(feature = "test-util")]
    pub fn keep_copies(&self) {
        self.taken.begin();
    }

    /// Cuts all connections that the application has taken and copies were kept of, and has it take no more: as if the process had ended.
    #[cfg(feature = "test-util")]
    pub fn cut(&self) {
        self.withdraw();
        self.taken.cut();
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
    pub(super) fn open(&self, listener: u8, address: Address) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            address,
            arrived: Mutex::default(),
            filled: Notify::new(),
            took: AtomicBool::new(false),
        });
        self.queues.lock().insert(listener, Arc::clone(&queue));
        queue
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Counts a connection that this process has accepted by itself.
    pub(super) fn take_accepted(&self, io: Io, pass: Pass, place: Place) -> Stream {
        self.board.count_accepted();
        Stream::new(io, pass, self.account(place))
    }

    fn account(&self, place: Place) -> Account {
        Account::new(Arc::clone(&self.board), Arc::clone(&self.bell), place)
    }

    /// Waits for a connection of this listener that is still this worker's to take, and takes it. `None`
    /// once the worker drains.
    pub(super) async fn accept(&self, queue: &Queue) -> Option<(Stream, Address)> {
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
        let account = self.account(self.place_now());
        #[cfg(feature = "test-util")]
        let account = self.taken.count(&io, account);
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
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
        for queue in self.queues.lock().values() {
            queue.arrived.lock().clear();
        }
    }

    /// Closes the queue of a listener that is gone: what is in it, and what still comes, goes to other workers.
    pub(super) fn close(&self, listener: u8) {
        let queue = self.queues.lock().remove(&listener);
        let untaken = queue.map(|queue| std::mem::take(&mut *queue.arrived.lock()));
        untaken.iter().flatten().for_each(|untaken| self.refuse(untaken.ticket));
    }

    fn handle_batch(&self, frame: &mut Frame<OwnedFd>) -> Result<(), Error> {
        let batch = Batch::decode(frame.payload())?;
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

    /// Owns the data channel: receives connections, and rings when the acceptor asks to. Returns when the channel ends, or what comes
    /// over it makes no sense: then nothing more will come, and the worker had better end.
    pub async fn receive(self: Arc<Self>, mut channel: Channel) -> Error {
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
