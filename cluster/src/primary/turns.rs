//! What the primary's loop waits for: one input at a time.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Core;
use super::handle::Order;
use super::link::Report;
use crate::signals::{Asked, Signals};
use crate::{Error, Result};

/// Everything the loop waits for.
pub(super) struct Turns {
    pub(super) inbox: mpsc::Receiver<Report>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) acceptor_ended: oneshot::Receiver<()>,
    pub(super) signals: Option<Signals>,
    /// That a child has ended, where others than workers may.
    pub(super) children: Option<tokio::signal::unix::Signal>,
}

impl Turns {
    /// Waits for one input and gives it to the core.
    pub(super) async fn wait(&mut self, core: &mut Core) -> Result<()> {
        let deadline = core.next_deadline();
        tokio::select! {
            Some(report) = self.inbox.recv() => core.handle_report(report, Instant::now()),
            Some(order) = self.orders.recv() => core.handle_order(order, Instant::now()),
            signal = signalled(&mut self.signals) => match signal {
                Asked::Stop => core.handle_shutdown(Instant::now()),
                Asked::Reload => core.handle_reload_signal(Instant::now()),
                Asked::More => core.handle_step(true, Instant::now()),
                Asked::Fewer => core.handle_step(false, Instant::now()),
            },
            () = child_ended(&mut self.children) => core.look_after_orphans(Instant::now()),
            () = closed(&mut core.closing) => core.handle_closed(Instant::now()),
            () = until(deadline) => core.handle_timeout(Instant::now()),
            _ = &mut self.acceptor_ended => return Err(Error::AcceptorGone),
        }
        Ok(())
    }
}

async fn signalled(signals: &mut Option<Signals>) -> Asked {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}

async fn child_ended(children: &mut Option<tokio::signal::unix::Signal>) {
    match children {
        Some(children) => drop(children.recv().await),
        None => std::future::pending().await,
    }
}

async fn closed(closing: &mut Option<oneshot::Receiver<()>>) {
    match closing {
        // An acceptor that ended has closed as well.
        Some(closed) => drop(closed.await),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
