//! The system calls: a Unix stream socket that carries descriptors, and the child's end of it.
//!
//! A port to another system provides these two: [`Socket`] (pair, send, receive; close-on-exec at
//! birth, never a signal for a closed peer) and [`adopt_stdin`].

mod inherit;
mod map;
pub(crate) mod memory;
mod socket;

pub use self::inherit::{Adopted, CHANNEL_VARIABLE, adopt, adopt_stdin, is_child};
#[cfg(any(feature = "board", feature = "ring"))]
pub(crate) use self::map::Mapping;
pub(crate) use self::socket::took_all;
pub use self::socket::{Received, Sent, Socket};
