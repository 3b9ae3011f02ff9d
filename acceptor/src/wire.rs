//! What goes over a data channel.
//!
//! To the worker: messages with connections, each with its descriptor. Back: empty messages, "the bell".

use std::net::SocketAddr;

use cluster_ipc::board::Ticket;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Connections on their way to a worker, each with its descriptor, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) offers: Vec<Offer>,
}

impl Batch {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_stdvec(self).map_err(|source| Error::Encode { source })
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        postcard::from_bytes(bytes).map_err(|source| Error::Decode { source })
    }
}

/// One connection of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    listener: u8,
    index: u16,
    sequence: u64,
    /// None at a Unix socket's client, who has no name.
    peer: Option<SocketAddr>,
}

impl Offer {
    pub(crate) fn new(listener: u8, ticket: Ticket, peer: Option<SocketAddr>) -> Self {
        Self { listener, index: ticket.index(), sequence: ticket.sequence(), peer }
    }
}

/// What the worker reads of it.
#[cfg(feature = "tokio")]
impl Offer {
    pub(crate) fn listener(&self) -> u8 {
        self.listener
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket::new(self.index, self.sequence)
    }

    pub(crate) fn peer(&self) -> crate::Address {
        self.peer.map_or(crate::Address::Unix(None), crate::Address::Ip)
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use super::*;

    #[test]
    fn garbage_from_the_other_side_does_no_harm() {
        for length in 0..64 {
            let garbage = vec![0xff; length];
            drop(Batch::decode(&garbage));
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        // A batch of 2³⁵ offers, in six bytes.
        assert!(Batch::decode(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).is_err());
    }
}
