//! What a worker accepts connections from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Inner;
use super::drain::Phase;
use super::intake::Queue;
use super::stream::{Account, Stream};

/// A listening address that all workers share. Made by [`Worker::listen`](super::Worker::listen).
///
/// The first call of [`accept`](Self::accept) says that this worker is ready; connections come from then on. Dropping it says that no more are wanted:
/// those on their way go to other workers.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    /// What the application asked for: with port 0 where it didn't matter.
    asked: SocketAddr,
    address: SocketAddr,
    worker: Arc<Inner>,
}

#[derive(Debug)]
enum Source {
    /// The primary accepts, and hands connections over.
    Handed { number: u8, queue: Arc<Queue>, said: AtomicBool },
    /// Inline mode: this process accepts.
    Direct(tokio::net::TcpListener),
}

impl Listener {
    pub(super) fn handed(number: u8, asked: SocketAddr, address: SocketAddr, worker: Arc<Inner>) -> Self {
        let queue = worker.intake().open(number);
        let source = Source::Handed { number, queue, said: AtomicBool::new(false) };
        Self { source, asked, address, worker }
    }

    pub(super) fn direct(socket: tokio::net::TcpListener, address: SocketAddr, worker: Arc<Inner>) -> Self {
        Self { source: Source::Direct(socket), asked: address, address, worker }
    }

    /// The address, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
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
    pub async fn accept(&self) -> Option<(Stream, SocketAddr)> {
        match &self.source {
            Source::Handed { number, queue, said } => {
                if !said.load(Ordering::SeqCst) {
                    self.worker.say_accepting(*number).await;
                    said.store(true, Ordering::SeqCst);
                }
                self.worker.intake().accept(queue).await
            }
            Source::Direct(socket) => self.accept_directly(socket).await,
        }
    }

    async fn accept_directly(&self, socket: &tokio::net::TcpListener) -> Option<(Stream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.worker.gate().reached(Phase::Draining) => return None,
            };
            match accepted {
                Ok((io, peer)) => {
                    let account = Account::new(Arc::clone(self.worker.board()), Arc::default());
                    account.count_taken();
                    return Some((Stream::new(io, self.worker.gate().enter(), account), peer));
                }
                Err(error) => {
                    // No descriptors, or a connection that ended before it was accepted.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.worker.unclaim(self.asked);
        if let Source::Handed { number, .. } = &self.source {
            self.worker.intake().close(*number);
            self.worker.say_dropped(*number);
        }
    }
}
