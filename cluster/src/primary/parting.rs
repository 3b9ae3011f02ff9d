//! All workers leave, and the primary goes on.
//!
//! | phase \ what | disconnect     | the acceptor has closed   | the last worker is gone   |
//! |--------------|----------------|---------------------------|---------------------------|
//! | (none)       | Closing        | -                         | -                         |
//! | Closing      | one waits more | Leaving: all are asked to | -                         |
//! | Leaving      | one waits more | -                         | (none): all who wait hear |
//!
//! *Closing* is the first step of a shutdown too: what has connected is handed out before anybody is asked to leave. Workers that are to be
//! started meanwhile are started afterwards, when the ports are free.

use std::time::{Duration, Instant};

use cluster_acceptor::Command;
use tokio::sync::oneshot;

use super::Core;
use super::handle::Order;

/// That all workers leave.
#[derive(Debug, Default)]
pub(super) struct Parting {
    phase: Option<Phase>,
    waiting: Vec<oneshot::Sender<()>>,
    /// What is to be done afterwards.
    later: Vec<Order>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closing,
    Leaving,
}

impl Parting {
    pub(super) fn is_under_way(&self) -> bool {
        self.phase.is_some()
    }

    /// Takes an order that has to wait.
    pub(super) fn put_off(&mut self, order: Order) {
        self.later.push(order);
    }
}

impl Core {
    /// Returns what tells that the acceptor has closed, unless it was told to already.
    pub(super) fn handle_disconnect(&mut self, reply: oneshot::Sender<()>) -> Option<oneshot::Receiver<()>> {
        self.parting.waiting.push(reply);
        if self.stopping || self.parting.is_under_way() {
            return None;
        }
        self.parting.phase = Some(Phase::Closing);
        Some(self.close())
    }

    /// Closes the listening sockets and hands out what has connected; the receiver tells when that is done.
    pub(super) fn close(&mut self) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        for orphan in self.listeners.leftovers() {
            self.acceptor.command(Command::Orphan(orphan));
        }
        self.acceptor.command(Command::Close { within: self.config.linger, done });
        closed
    }

    /// The acceptor has closed.
    pub(super) fn handle_closed(&mut self, now: Instant) {
        if self.parting.is_under_way() {
            self.parting.phase = Some(Phase::Leaving);
        }
        self.supervisor.shutdown(now);
    }

    /// Tells those who wait once all are gone. Returns whether there is something to do that had to wait for this.
    pub(super) fn finish_parting(&mut self, now: Instant) -> bool {
        if !self.is_empty() || (self.parting.phase == Some(Phase::Closing) && !self.stopping) {
            return false;
        }
        if self.parting.phase.take().is_some() {
            (self.serving, self.resting) = (false, true);
            self.close_listeners(Duration::ZERO, now);
        }
        for waiting in self.parting.waiting.drain(..) {
            // He may have stopped waiting.
            let _ = waiting.send(());
        }
        let later = std::mem::take(&mut self.parting.later);
        let is_more = !later.is_empty();
        later.into_iter().for_each(|order| self.handle_order(order, now));
        is_more
    }
}
