//! What a worker accepts connections from.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster_acceptor::worker;

use super::claimed::Claimed;
use crate::{Address, Mode, Stream};

/// A listening address that all workers share. Made by [`Worker::listen`](super::Worker::listen).
///
/// The first call of [`accept`](Self::accept) says that this worker is ready; connections come from then on. Dropping it says that no more are wanted:
/// those on their way go to other workers.
#[derive(Debug)]
pub struct Listener {
    // Dropped first: what has arrived goes back before the primary hears of it.
    inner: worker::Listener,
    /// Has said that it accepts.
    said: AtomicBool,
    claimed: Claimed,
}

impl Listener {
    pub(super) fn new(inner: worker::Listener, claimed: Claimed) -> Self {
        Self { inner, said: AtomicBool::new(false), claimed }
    }

    /// The address, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> Address {
        self.inner.local_addr().clone()
    }

    /// How connections come here.
    pub fn mode(&self) -> Mode {
        self.inner.mode()
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
        if !self.said.load(Ordering::SeqCst) {
            self.claimed.say_accepting().await;
            self.said.store(true, Ordering::SeqCst);
        }
        self.inner.accept().await
    }
}
