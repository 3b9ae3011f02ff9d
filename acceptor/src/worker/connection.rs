//! A connection as seen by those who don't read or write it.

use std::sync::Weak;

use super::drain::Pass;

/// A connection of this worker, beside whoever reads and writes it: for a handler that is to say that its connection is
/// a long-lived one. Made by [`Stream::connection`](super::Stream::connection). Cheap to clone; it keeps nothing open.
///
/// A long-lived connection (a WebSocket, an HTTP/2 connection, a stream of events) has a deadline of its own when the worker leaves, and idle
/// as it may be, the worker doesn't wait for a request on it.
#[derive(Clone, Debug)]
pub struct Connection {
    pass: Weak<Pass>,
}

impl Connection {
    pub(super) fn new(pass: Weak<Pass>) -> Self {
        Self { pass }
    }

    /// Says that it is a long-lived one, from now on. Without effect once it is closed.
    pub fn set_long_lived(&self) {
        if let Some(pass) = self.pass.upgrade() {
            pass.set_long_lived();
        }
    }
}
