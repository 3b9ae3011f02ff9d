//! What the primary's loop waits for: one input at a time.

use tokio::sync::{mpsc, oneshot};

use super::Core;
use super::handle::Order;
use super::link::Report;
use crate::clock::{now, until};
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
            Some(report) = self.inbox.recv() => core.handle_report(report, now()),
            Some(order) = self.orders.recv() => core.handle_order(order, now()),
            asked = if_any(self.signals.as_mut().map(Signals::recv)) => match asked {
                Asked::Stop => core.handle_shutdown(now()),
                Asked::Reload => core.handle_reload_signal(now()),
                Asked::More => core.handle_step(true, now()),
                Asked::Fewer => core.handle_step(false, now()),
            },
            _ = if_any(self.children.as_mut().map(|children| children.recv())) => core.look_after_orphans(now()),
            // An acceptor that ended has closed as well.
            _ = if_any(core.closing.as_mut()) => core.handle_closed(now()),
            () = until(deadline) => core.handle_timeout(now()),
            _ = &mut self.acceptor_ended => return Err(Error::AcceptorGone),
        }
        Ok(())
    }
}

/// What comes of it, or nothing ever.
async fn if_any<F: Future>(waited: Option<F>) -> F::Output {
    match waited {
        Some(waited) => waited.await,
        None => std::future::pending().await,
    }
}
