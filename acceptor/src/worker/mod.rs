//! The worker's side of the way: connections that were handed over, and those that it accepts itself (feature `tokio`).
//!
//! ```text
//!   data channel ──▶ Intake::receive (a task) ──queues──▶ Listener::accept ──▶ Stream
//!   socket       ───────────────────────────────────────▶        │               │
//!                                                              Gate: who is let in, and when all is over
//! ```
//!
//! A worker has one [`Intake`], with one [`Gate`], and a [`Listener`] for each address. Nothing of a connection is lost between two
//! processes: the application has it once its ticket on the worker's board says so, and until then the acceptor does.

mod connection;
mod deadlines;
mod direct;
mod drain;
mod intake;
mod io;
mod listener;
mod stream;
#[cfg(feature = "test-util")]
mod taken;

pub use self::connection::Connection;
pub use self::deadlines::Deadlines;
pub use self::drain::{Gate, Phase};
pub use self::intake::Intake;
pub use self::listener::Listener;
pub use self::stream::Stream;
