//! Connections that arrived from the primary and that the application has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cluster_ipc::board::{Ticket, WorkerBoard};
use cluster_ipc::tokio::Channel;
use cluster_ipc::{Frame, Kind};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::drain::{Gate, Phase};
use super::stream::{Account, Stream};
use crate::wire::{self, Batch};
use crate::{Error, Result};

/// One queue per listener of this worker, filled by [`receive`], emptied by `accept`.
#[derive(Debug)]
pub(crate) struct Intake {
    board: Arc<WorkerBoard>,
    gate: Arc<Gate>,
    /// Wakes the task that owns the data channel, to ring.
    bell: Arc<Notify>,
    queues: Mutex<BTreeMap<u16, Arc<Queue>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    arrived: Mutex<Arrived>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Arrived {
    untaken: VecDeque<Untaken>,
    /// The application has dropped the listener.
    closed: bool,
}

/// Closing it without taking the ticket loses nothing: the primary still has its copy.
#[derive(Debug)]
struct Untaken {
    ticket: Ticket,
    peer: SocketAddr,
    stream: OwnedFd,
}

impl Intake {
    pub(crate) fn new(board: Arc<WorkerBoard>, gate: Arc<Gate>) -> Self {
        Self { board, gate, bell: Arc::new(Notify::new()), queues: Mutex::default() }
    }

    /// The queue of a listener, made on first use: connections may arrive before the application's answer does.
    pub(crate) fn queue(&self, listener: u16) -> Arc<Queue> {
        Arc::clone(self.queues.lock().entry(listener).or_default())
    }

    /// Waits for a connection of this listener that is still this worker's to take, and takes it. `None`
    /// once the worker drains.
    pub(crate) async fn accept(&self, queue: &Queue) -> Option<(Stream, SocketAddr)> {
        loop {
            let filled = queue.filled.notified();
            while let Some(untaken) = queue.pop() {
                let peer = untaken.peer;
                if let Some(stream) = self.take(untaken) {
                    return Some((stream, peer));
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
    fn take(&self, untaken: Untaken) -> Option<Stream> {
        let Untaken { ticket, stream, .. } = untaken;
        if !self.board.is_offered(ticket) {
            return None;
        }
        let io = match tokio::net::TcpStream::from_std(stream.into()) {
            Ok(io) => io,
            Err(error) => {
                tracing::warn!(%error, "could not take a connection: giving it back");
                self.board.refuse(ticket);
                return None;
            }
        };
        if !self.board.take(ticket) {
            return None;
        }
        let account = Account::new(Arc::clone(&self.board), Arc::clone(&self.bell));
        let stream = Stream::new(io, self.gate.enter(), account);
        stream.account().ring_if_wanted();
        Some(stream)
    }

    /// Closes what the primary has claimed back, so that no stale copy stays open.
    pub(crate) fn purge(&self) {
        for queue in self.queues.lock().values() {
            queue.arrived.lock().untaken.retain(|untaken| self.board.is_offered(untaken.ticket));
        }
    }

    /// Closes a queue whose listener is gone: what is in it, and what still comes, goes to other workers.
    pub(crate) fn close(&self, queue: &Queue) {
        let untaken = {
            let mut arrived = queue.arrived.lock();
            arrived.closed = true;
            std::mem::take(&mut arrived.untaken)
        };
        untaken.iter().for_each(|untaken| self.board.refuse(untaken.ticket));
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
        for (offer, stream) in batch.offers.into_iter().zip(streams) {
            let queue = self.queue(offer.listener());
            let mut arrived = queue.arrived.lock();
            if arrived.closed {
                self.board.refuse(offer.ticket());
            } else {
                arrived.untaken.push_back(Untaken { ticket: offer.ticket(), peer: offer.peer(), stream });
                queue.filled.notify_one();
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
        self.arrived.lock().untaken.pop_front()
    }
}
