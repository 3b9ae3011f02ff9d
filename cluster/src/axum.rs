//! Our [`Listener`] for `axum::serve` (feature `axum`).

use std::io;

use crate::{Address, Listener, Stream};

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
