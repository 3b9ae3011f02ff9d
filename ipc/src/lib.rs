//! Framed messages with file descriptors between two processes that share a Unix socket.
//!
//! ```text
//!        parent                                                    child
//!   Frame ──▶ Outbox ──▶ sendmsg ═══ socket pair, SCM_RIGHTS ═══ recvmsg ──▶ Decoder ──▶ Frame
//!              bounded                                                        bounded
//! ```
//!
//! * [`Frame`]s carry a kind, an id, bytes, and up to 253 descriptors, which stay with their frame however the
//!   kernel cuts the stream.
//! * [`Outbox`] and [`Decoder`] are pure: bytes and descriptors in and out, no I/O; generic over
//!   the descriptor type, so tests use integers.
//! * [`Channel`] joins them to a non-blocking [`Socket`]; the drivers (`tokio`, `mio`) stand on it.
//! * [`Welcome`] and [`Online`] are the handshake; [`adopt_stdin`] is the child's side of a start.
//! * `board` (feature `board`) is one page of shared memory per worker: who owns a connection on its way,
//!   heartbeat, counters.
//!
//! Nothing that the peer sends can panic this side or make it allocate beyond stated limits. Every
//! descriptor is owned, closed on exec, and closed when nobody claims it.
//!
//! # A parent and its child
//!
//! ```no_run
//! use cluster_ipc::{Channel, Frame, Kind, Online, Socket, Welcome, adopt_stdin};
//! use std::process::{Command, Stdio};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     if let Some(adopted) = adopt_stdin()? {
//!         // The child: everything it needs is in the Welcome.
//!         let (mut channel, welcome, _descriptors) = adopted.into_parts();
//!         channel.try_send(Online::frame(welcome.payload()))?;
//!         channel.flush()?;
//!         return Ok(());
//!     }
//!     // The parent: writes the Welcome before the child exists.
//!     let (ours, theirs) = Socket::pair()?;
//!     let mut channel = Channel::new(ours);
//!     channel.try_send(Welcome::frame(std::process::id(), b"hello", vec![]))?;
//!     channel.flush()?;
//!     let mut child = Command::new(std::env::current_exe()?).stdin(Stdio::from(theirs.into_fd())).spawn()?;
//!     child.wait()?;
//!     let answer = channel.poll_frame()?.expect("the child answered before it exited");
//!     assert_eq!(&Online::parse(&answer)?.payload()[..], b"hello");
//!     Ok(())
//! }
//! ```

#![deny(unsafe_code)]
// What the drivers share is used in parts by each; with all of them, dead code shows.
#![cfg_attr(not(all(feature = "blocking", feature = "tokio")), allow(dead_code))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "cluster-ipc needs Linux (5.10 or later); its system calls live in `os/`, where a port would go"
);

mod arrival;
#[cfg(feature = "blocking")]
pub mod blocking;
mod channel;
mod clock;
pub mod codec;
mod connection;
mod decoder;
mod error;
#[cfg(feature = "postcard")]
pub mod events;
mod frame;
mod growing;
mod handshake;
pub mod hub;
mod message;
mod os;
mod outbox;
#[cfg(any(feature = "blocking", feature = "tokio"))]
mod routing;
pub mod session;
mod settings;
mod spawn;
mod transport;

#[cfg(feature = "board")]
pub mod board;
#[cfg(feature = "test-util")]
pub mod memory;
#[cfg(feature = "mio")]
mod mio;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use self::arrival::{Arrival, Parcel};
pub use self::channel::{Channel, Handed};
pub use self::connection::{Connection, Read};
pub use self::decoder::Decoder;
pub use self::error::{Error, TrySendError};
pub use self::frame::{DEFAULT_MAX_FRAME, Frame, HEADER_LEN, Kind, Lane, MAX_DESCRIPTORS};
pub use self::handshake::{Online, PROTOCOL_VERSION, Welcome};
pub use self::message::Message;
pub use self::os::{Adopted, CHANNEL_VARIABLE, Received, Sent, Socket, adopt, adopt_stdin};
pub use self::outbox::{DEFAULT_OUTBOX_LIMIT, Outbox, Transmit};
pub use self::spawn::Spawn;
pub use self::transport::Transport;

/// How long a client waits for an answer unless told otherwise: 5 s, as Node's cluster managers do.
pub const DEFAULT_REQUEST_TIMEOUT: Option<std::time::Duration> = Some(std::time::Duration::from_secs(5));
