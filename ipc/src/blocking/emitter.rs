//! Events and calls by name.

use std::time::Duration;

use bytes::Bytes;

use super::{Client, Endpoint, Sender};
use crate::Error;
use crate::codec::{Decode, Postcard, Raw};
use crate::events::{Call, Event, named};

/// Sends events and calls to the peer's [`Handlers`](crate::events::Handlers). Clones share the connection.
#[derive(Clone, Debug)]
pub struct Emitter {
    sender: Sender<[u8], Raw>,
    client: Client<[u8], Bytes, Raw>,
}

impl Emitter {
    /// The sending half of a connection alone; what the peer sends is thrown away.
    pub fn new(endpoint: Endpoint) -> Self {
        endpoint.split::<[u8], Bytes, Raw>().0.into()
    }

    /// How long calls wait for an answer; `None`: until it comes or the peer is gone. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.client = self.client.timeout(timeout);
        self
    }

    /// Sends an event.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn emit<E: Event>(&self, event: &E) -> Result<(), Error> {
        self.sender.send(&named(event)?)
    }

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::request`]: with [`Error::Failed`] when the handler returned an error, or when there is none.
    pub fn call<C: Call>(&self, call: &C) -> Result<C::Reply, Error> {
        Postcard::decode(self.client.request(&named(call)?)?)
    }
}

impl From<Sender<[u8], Raw>> for Emitter {
    fn from(sender: Sender<[u8], Raw>) -> Self {
        Self { client: sender.client(), sender }
    }
}
