//! Handshakes between the cluster's listener and axum, many at a time: a slow client delays nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use cluster::{Address, Stream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take for its handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gives axum connections whose handshake is done.
pub(crate) struct TlsListener {
    listener: cluster::Listener,
    acceptor: TlsAcceptor,
    /// `None` of one that failed.
    handshakes: JoinSet<Option<(TlsStream<Stream>, Address)>>,
}

impl TlsListener {
    pub(crate) fn new(listener: cluster::Listener, config: ServerConfig) -> Self {
        Self { listener, acceptor: Arc::new(config).into(), handshakes: JoinSet::new() }
    }

    pub(crate) fn local_addr(&self) -> Address {
        self.listener.local_addr()
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<Stream>;
    type Addr = Address;

    async fn accept(&mut self) -> (TlsStream<Stream>, Address) {
        loop {
            tokio::select! {
                Some((stream, peer)) = self.listener.accept() => {
                    let handshake = tokio::time::timeout(PATIENCE, self.acceptor.accept(stream));
                    self.handshakes.spawn(async move { Some((handshake.await.ok()?.ok()?, peer)) });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                // No more will come: the worker drains, and axum has been told otherwise.
                else => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Address> {
        Ok(Self::local_addr(self))
    }
}

/// Whether a connection goes on with a session that began on another one.
#[derive(Clone, Copy)]
pub(crate) struct Resumed(pub(crate) bool);

impl Connected<IncomingStream<'_, TlsListener>> for Resumed {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let (_, session) = stream.io().get_ref();
        Self(session.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}
