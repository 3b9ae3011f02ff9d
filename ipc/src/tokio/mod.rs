//! Senders, receivers and clients for tasks, on tokio (feature `tokio`).
//!
//! Each connection has a task that reads and writes for all its handles. What they queue while it is not running goes
//! out in one write, so batches form by themselves under load, and a single message is not delayed.
//!
//! ```
//! use cluster_ipc::session::Config;
//! use cluster_ipc::tokio::{Endpoint, Receiver, Sender};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cluster_ipc::Error> {
//! // Both ends in one process; see `spawn` for two.
//! let (here, there) = Endpoint::pair(Config::new())?;
//! let (answers, requests): (Sender<()>, Receiver<u32>) = there.split();
//! let server = tokio::spawn(requests.serve(async |number: u32| Ok::<u32, String>(number * 2)));
//!
//! let (sender, _receiver): (Sender<u32>, Receiver<()>) = here.split();
//! let doubled: u32 = sender.client().request(&21).await?;
//! assert_eq!(doubled, 42);
//! drop((sender, answers));
//! server.await.expect("the server doesn't panic")?;
//! # Ok(()) }
//! ```
//!
//! [`Channel`] is a layer below: frames as they are, without credit or requests.

mod broadcast;
mod channel;
#[cfg(feature = "postcard")]
mod emitter;
#[cfg(feature = "ring")]
mod hearing;
mod receiver;
mod sender;
mod shared;
mod task;
mod watch;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use self::broadcast::Broadcast;
pub use self::channel::{Channel, Readable};
#[cfg(feature = "postcard")]
pub use self::emitter::Emitter;
#[cfg(feature = "ring")]
pub use self::hearing::Hearing;
pub use self::receiver::{AsyncHandler, Receiver, Responder};
pub use self::sender::{Client, Sender};

use self::shared::Handle;
use crate::session::{Config, Opened};
use crate::{Connection, Error};

/// One end of a conversation, before it is split into a sender and a receiver.
#[derive(Debug)]
pub struct Endpoint {
    handle: Handle,
}

impl Endpoint {
    /// Takes a connection over, and starts its task on the current runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the socket can't be registered with the runtime.
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime, or in one without its I/O and time drivers, as all of tokio's own types do.
    pub fn new(connection: Connection) -> Result<Self, Error> {
        let (shared, task) = task::Task::new(connection)?;
        let handle = Handle::new(Arc::clone(&shared));
        tokio::spawn(task);
        Ok(Self { handle })
    }

    /// Two connected ends, in one process.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when there is no descriptor left.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn pair(config: Config) -> Result<(Self, Self), Error> {
        let (one, other) = Connection::pair(config)?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Waits until the handshake is done, and returns what the peer said in it. Sending and receiving wait by
    /// themselves; this is for who wants to know. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Error::HandshakeTimeout`], [`Error::Rejected`], [`Error::PeerGone`], or what else the peer did wrong.
    pub async fn opened(&self) -> Result<Opened<OwnedFd>, Error> {
        self.handle.until_writable(|routes| routes.take_opened()).await
    }

    /// Splits it. `Out` and `In` are the types of messages in each direction; requests and replies may be of any.
    ///
    /// The peer's receiver ends (`Ok(None)`) when the sender, its clones and clients are dropped; the connection closes,
    /// after all has been written, when the receiver is dropped too.
    pub fn split<Out: ?Sized, In, C>(self) -> (Sender<Out, C>, Receiver<In, C>) {
        (Sender::new(self.handle.clone()), Receiver::new(self.handle))
    }
}
