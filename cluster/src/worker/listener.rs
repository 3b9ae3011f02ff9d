//! What a worker accepts connections from.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Inner;
use super::direct::Direct;
use super::drain::{Pass, Phase};
use super::intake::{Place, Queue};
use super::stream::{Account, Stream};
use crate::address::Address;
use crate::listen::{Listen, Mode};
use crate::wire::Granted;

/// How long accepting pauses when the system has nothing left to accept with.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening address that all workers share. Made by [`Worker::listen`](super::Worker::listen).
///
/// The first call of [`accept`](Self::accept) says that this worker is ready; connections come from then on. Dropping it says that no more are wanted:
/// those on their way go to other workers.
#[derive(Debug)]
pub struct Listener {
    /// Connections that the primary hands over; absent in inline mode, where there is none.
    handed: Option<Handed>,
    /// A socket on which this process accepts by itself.
    direct: Option<Direct>,
    mode: Mode,
    /// What the application asked for.
    asked: Listen,
    address: Address,
    worker: Arc<Inner>,
}

#[derive(Debug)]
struct Handed {
    number: u8,
    queue: Arc<Queue>,
    /// Has said that it accepts.
    said: AtomicBool,
}

impl Listener {
    /// One that the primary has granted, perhaps with a socket to accept on.
    pub(super) fn granted(
        granted: Granted,
        direct: Option<Direct>,
        asked: Listen,
        worker: Arc<Inner>,
    ) -> Self {
        let Granted { listener: number, address, mode } = granted;
        let queue = worker.intake().open(number, address.clone());
        let handed = Some(Handed { number, queue, said: AtomicBool::new(false) });
        Self { handed, direct, mode, asked, address, worker }
    }

    /// One of inline mode.
    pub(super) fn inline(direct: Direct, address: Address, asked: Listen, worker: Arc<Inner>) -> Self {
        Self { handed: None, direct: Some(direct), mode: Mode::Shared, asked, address, worker }
    }

    /// The address, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> Address {
        self.address.clone()
    }

    /// How connections come here.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Waits for the next connection and takes it. `None` once the worker drains: then finish the connections
    /// there are, and end. Cancel-safe: a connection is taken only when it is returned.
    ///
    /// ```no_run
    /// # async fn example(worker: cluster::Worker) -> cluster::Result<()> {
    /// let listener = worker.listen("127.0.0.1:3000").await?;
    /// while let Some((mut stream, _peer)) = listener.accept().await {
    ///     tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\n").await });
    /// }
    /// worker.drained().await;
    /// # Ok(()) }
    /// ```
    pub async fn accept(&self) -> Option<(Stream, Address)> {
        let Some(handed) = &self.handed else {
            return tokio::select! {
                accepted = self.accept_directly(Phase::Draining) => Some(accepted),
                () = self.worker.gate().reached(Phase::Draining) => None,
            };
        };
        if !handed.said.load(Ordering::SeqCst) {
            self.worker.say_accepting(handed.number).await;
            handed.said.store(true, Ordering::SeqCst);
        }
        if self.direct.is_none() {
            return self.worker.intake().accept(&handed.queue).await;
        }
        let accept_directly = async {
            tokio::select! {
                accepted = self.accept_directly(Phase::Leaving) => accepted,
                // From then on others accept, on the same socket.
                () = self.worker.gate().reached(Phase::Leaving) => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept_directly => Some(accepted),
            handed = self.worker.intake().accept(&handed.queue) => handed,
        }
    }

    /// Accepts until the worker has come so far on its way out.
    async fn accept_directly(&self, until: Phase) -> (Stream, Address) {
        let Some(direct) = &self.direct else { return std::future::pending().await };
        let mut place = self.worker.intake().place().await;
        loop {
            // Counted before it is accepted: a drain that begins in between would end a connection that nobody has read from.
            let accept = |cx: &mut Context<'_>| {
                let Some(pass) = self.worker.gate().enter_before(until) else { return Poll::Pending };
                direct.poll_accept(cx).map_ok(|(io, peer)| (io, peer, pass))
            };
            match poll_fn(accept).await {
                Ok((io, peer, pass)) => {
                    return (self.worker.take_accepted(io, pass, place.take()), peer);
                }
                Err(error) => {
                    // No descriptors, or a connection that ended before it was accepted.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Inner {
    /// Counts a connection that this process has accepted by itself.
    fn take_accepted(&self, io: super::io::Io, pass: Pass, place: Place) -> Stream {
        self.board().count_accepted();
        Stream::new(io, pass, Account::new(Arc::clone(self.board()), self.intake().bell(), place))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.worker.unclaim(&self.asked);
        if let Some(Handed { number, .. }) = &self.handed {
            self.worker.intake().close(*number);
            self.worker.say_dropped(*number);
        }
    }
}
