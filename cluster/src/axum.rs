//! Our [`Listener`] for `axum::serve` (feature `axum`).

use std::io;

use crate::{Address, Connection, Listener, Stream};

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = Address;

    /// axum's `accept` cannot say that there are no more: it waits, and `draining()` ends the server.
    async fn accept(&mut self) -> (Stream, Address) {
        match Self::accept(self).await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Self::local_addr(self))
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for PeerAddr {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        Self(stream.remote_addr().clone())
    }
}

/// The client's address, for axum's `ConnectInfo<PeerAddr>`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be taken apart in a handler's arguments")]
pub struct PeerAddr(pub Address);

/// The connection that a request came by, for axum's `ConnectInfo<Via>`.
///
/// With it the [layer](crate::Worker::layer) says of WebSockets and HTTP/2 by itself that they are long-lived; handlers say it of what else
/// has no end of its own. See [`Builder::long_lived_deadline`](crate::Builder::long_lived_deadline).
///
/// ```no_run
/// use axum::extract::ConnectInfo;
/// use cluster::Via;
///
/// async fn events(ConnectInfo(via): ConnectInfo<Via>) -> &'static str {
///     via.connection.set_long_lived();
///     "an endless stream"
/// }
///
/// # async fn serve(worker: cluster::Worker) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = worker.listen("127.0.0.1:3000").await?;
/// let app = axum::Router::new().route("/events", axum::routing::get(events)).layer(worker.layer());
/// let app = app.into_make_service_with_connect_info::<Via>();
/// axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await?;
/// // WebSockets outlive the server that they came from.
/// worker.drained().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "made to be taken apart in a handler's arguments")]
pub struct Via {
    /// The client's address.
    pub peer: Address,
    /// The connection, to say something of it.
    pub connection: Connection,
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Via {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        Self { peer: stream.remote_addr().clone(), connection: stream.io().connection() }
    }
}
