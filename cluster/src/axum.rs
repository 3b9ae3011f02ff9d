//! Our [`Listener`] for `axum::serve` (feature `axum`).

use std::io;
use std::net::SocketAddr;

use crate::{Listener, Stream};

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    /// axum's `accept` cannot say that there are no more: it waits, and `draining()` ends the server.
    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match Self::accept(self).await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(Self::local_addr(self))
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for PeerAddr {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The client's address, for axum's `ConnectInfo<PeerAddr>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be taken apart in a handler's arguments")]
pub struct PeerAddr(pub SocketAddr);
