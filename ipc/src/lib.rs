//! Messages, requests and file descriptors between two processes that share a Unix socket.
//!
//! ```text
//!        parent                                                        child
//!  Sender<T> ─▶ ┐                                                 ┌ ─▶ Receiver<T>
//!  Client<Q,R> ─┤ Session: lanes, credit, ─▶ sendmsg ═══ socket ═══ recvmsg ─▶ Session
//!  Receiver<T> ◀┘ requests, chunks          ◀─ recvmsg ═══ pair  ═══ sendmsg ◀─        └ ◀─ Sender<T>, Responder
//! ```
//!
//! | layer | what it is | take it when |
//! |-------|------------|--------------|
//! | [`blocking`], [`tokio`](crate::tokio) | senders, receivers, clients, broadcast; types of serde's or raw bytes | you have threads, or tasks |
//! | [`events`] | events and calls by name, a handler for each | you come from Node's cluster managers |
//! | [`Connection`] | the same without waiting, for an event loop (an `event::Source` with feature `mio`) | you have a loop of your own |
//! | [`session`] | the state machine behind them, without I/O | you have another transport, or want to test without one |
//! | [`Channel`], [`Frame`], [`Decoder`], [`Outbox`] | frames with descriptors, and nothing more | you have a protocol of your own |
//! | `switch` (feature `switch`) | messages by name among many processes, through the one they are all connected to | you have workers that talk to each other |
//! | [`hub`] | one message to many, a policy for those who are slow | |
//! | [`Spawn`], [`adopt`] | a child that has a channel to its parent | |
//! | `board` (feature `board`) | a page of memory shared with a child | |
//! | `ring` (feature `ring`) | messages to many processes at once, written once | all are to know the same, at once |
//!
//! # What is promised
//!
//! * **Bounded.** Either side says how much may be on its way to it ([`session::Config`]); what it has not *handled* counts. Nothing
//!   that the peer sends can panic this side or make it allocate beyond that.
//! * **Order** within a lane. The control lane ([`Sender::send_urgent`](blocking::Sender::send_urgent), credit, cancellation) never waits for
//!   more than 16 KiB of data on this side, however much is queued.
//! * **Exactly one end for each request**: reply, error, time-out, cancellation, or the peer is gone.
//! * **Honest about death.** A receiver ends with `Ok(None)` only if the peer said that this was all, and with
//!   [`Error::PeerGone`] otherwise; before either it gets everything that was sent. A death is noticed by
//!   the process's pidfd, the end of the stream, or a reset, whichever comes first.
//! * **Descriptors** stay with their message however the kernel cuts the stream, are closed on exec from the beginning, and
//!   closed when nobody takes them.
//! * **No waiting in a circle.** Whoever waits for room to write reads meanwhile: two sides that flood each other go on.
//! * **No allocation per message** in steady state on the raw path, and one write for whatever has piled up.
//!
//! # Two processes
//!
//! `cargo run -p cluster-ipc --example two_processes` is this program:
//!
//! ```no_run
#![doc = include_str!("../examples/two_processes.rs")]
//! ```
//!
//! The wire format is on a [page](wire_format) of its own, the rule for two versions that talk to each other
//! [with the codecs](codec#the-version-rule).
//!
//! # Features
//!
//! `blocking` and `postcard` are on by default; `tokio`, `mio`, `board`, `ring`, `fd-mapping` (a child's channel on another descriptor
//! than stdin), `switch` (many processes that talk to each other) and `test-util` (a transport in memory) are not.

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
pub mod wire_format;
#[cfg(any(feature = "board", feature = "ring"))]
mod word;

#[cfg(feature = "board")]
pub mod board;
#[cfg(feature = "test-util")]
pub mod memory;
#[cfg(feature = "mio")]
mod mio;
#[cfg(feature = "ring")]
pub mod ring;
#[cfg(feature = "switch")]
pub mod switch;
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
pub use self::os::{Adopted, CHANNEL_VARIABLE, Received, Sent, Socket, adopt, adopt_stdin, is_child};
pub use self::outbox::{DEFAULT_OUTBOX_LIMIT, Outbox, Transmit};
pub use self::spawn::Spawn;
pub use self::transport::Transport;

/// How long a client waits for an answer unless told otherwise: 5 s, as Node's cluster managers do.
pub const DEFAULT_REQUEST_TIMEOUT: Option<std::time::Duration> = Some(std::time::Duration::from_secs(5));
