//! All workers leave, and the primary goes on.
//!
//! | phase \ what | disconnect     | no worker is wanted | the acceptor has closed   | the last worker is gone   |
//! |--------------|----------------|---------------------|---------------------------|---------------------------|
//! | (none)       | Closing        | Closing             | -                         | -                         |
//! | Closing      | one waits more | -                   | Leaving: all are asked to | -                         |
//! | Leaving      | one waits more | -                   | -                         | (none): all who wait hear |
//!
//! *Closing* is the first step of a shutdown too: from then on nobody new is let in, and what has connected is handed out before anybody is
//! asked to leave. Otherwise clients would go on to be let in whom nobody answers. Workers that are to be started meanwhile are started
//! afterwards, when the ports are free.
//!
//! Not so when one worker is asked to leave, be it the last: its port stays for who is forked while it leaves.

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
    pub(super) fn handle_disconnect(&mut self, reply: oneshot::Sender<()>) {
        self.parting.waiting.push(reply);
        self.begin_parting();
    }

    /// All are to leave, unless they do already.
    pub(super) fn begin_parting(&mut self) {
        if !self.stopping && !self.parting.is_under_way() {
            self.parting.phase = Some(Phase::Closing);
            self.close();
        }
    }

    /// Lets nobody new in, and hands out what has connected; `closing` tells when that is done.
    pub(super) fn close(&mut self) {
        let (done, closed) = oneshot::channel();
        for orphan in self.listeners.leftovers() {
            self.acceptor.command(Command::Orphan(orphan));
        }
        let (linger, within) = (self.config.linger, self.config.deadlines().ordinary);
        self.acceptor.command(Command::Close { linger, within, done });
        self.closing = Some(closed);
    }

    /// The acceptor has closed.
    pub(super) fn handle_closed(&mut self, now: Instant) {
        self.closing = None;
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
