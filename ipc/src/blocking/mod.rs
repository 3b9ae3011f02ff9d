//! Senders, receivers and clients for plain threads (feature `blocking`, on by default).
//!
//! There is no background thread. Whoever waits (a receiver for a message, a client for an answer, a sender for
//! credit) reads and writes for all while it waits; of several, one does and wakes the others. So a round trip costs no
//! switch of threads, and both sides flooding each other cannot deadlock: who waits for room to write reads meanwhile.
//!
//! ```
//! use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
//! use cluster_ipc::{Arrival, session::Config};
//!
//! # fn main() -> Result<(), cluster_ipc::Error> {
//! // Both ends in one process; see `spawn` for two.
//! let (here, there) = Endpoint::pair(Config::new())?;
//! let server = std::thread::spawn(move || -> Result<(), cluster_ipc::Error> {
//!     let (_answers, mut requests): (Sender<()>, Receiver<u32>) = there.split();
//!     while let Some(arrival) = requests.next()? {
//!         if let Arrival::Request(number, responder) = arrival {
//!             responder.reply(&(number.value * 2))?;
//!         }
//!     }
//!     Ok(())
//! });
//! let (sender, _receiver): (Sender<u32>, Receiver<()>) = here.split();
//! let doubled: u32 = sender.client().request(&21)?;
//! assert_eq!(doubled, 42);
//! drop(sender);
//! server.join().expect("the server doesn't panic")?;
//! # Ok(()) }
//! ```

mod broadcast;
#[cfg(feature = "postcard")]
mod emitter;
mod receiver;
mod sender;
mod shared;

use std::sync::Arc;

pub use self::broadcast::Broadcast;
#[cfg(feature = "postcard")]
pub use self::emitter::Emitter;
pub use self::receiver::{Receiver, Responder};
pub use self::sender::{Client, Sender};

use self::shared::Shared;
use crate::session::{Config, Opened};
use crate::{Connection, Error};
use std::os::fd::OwnedFd;

/// One end of a conversation, before it is split into a sender and a receiver.
#[derive(Debug)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Takes a connection over.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when there is no descriptor left (it needs one, by which threads wake each other).
    pub fn new(connection: Connection) -> Result<Self, Error> {
        Ok(Self { shared: Arc::new(Shared::new(connection)?) })
    }

    /// Two connected ends, in one process.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when there is no descriptor left.
    pub fn pair(config: Config) -> Result<(Self, Self), Error> {
        let (one, other) = Connection::pair(config)?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Waits until the handshake is done, and returns what the peer said in it. Sending and receiving wait by
    /// themselves; this is for who wants to know.
    ///
    /// # Errors
    ///
    /// [`Error::HandshakeTimeout`], [`Error::Rejected`], [`Error::PeerGone`], or what else the peer did wrong.
    pub fn opened(&self) -> Result<Opened<OwnedFd>, Error> {
        let opened = self.shared.wait(None, |routes| routes.take_opened()).unwrap_or(Err(Error::Closed))?;
        // The answer may be longer than what a socket takes at once. An end meanwhile shows with the next call.
        self.shared.drain().ok();
        Ok(opened)
    }

    /// Splits it. `Out` and `In` are the types of messages in each direction; requests and replies may be of any.
    ///
    /// The peer's receiver ends (`Ok(None)`) when the sender, its clones and clients are dropped; the connection closes
    /// when the receiver is dropped too.
    pub fn split<Out: ?Sized, In, C>(self) -> (Sender<Out, C>, Receiver<In, C>) {
        (Sender::new(Arc::clone(&self.shared)), Receiver::new(self.shared))
    }
}
