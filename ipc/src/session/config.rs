//! The limits of one side, and their defaults.

use std::time::Duration;

use crate::settings::{Settings, Window};

/// The most bytes of a message that travel as one frame: larger ones are cut, so that the control lane never waits
/// for more than this. A frame of this size is cut out of the receiver's buffer without a copy of its own.
pub(super) const CHUNK: usize = 16 << 10;

/// The window, and what is too large for it.
const WINDOW: u64 = 4 << 20;

/// The control lane's window. It is for small, rare messages, and not for data in a hurry.
const CONTROL: Window = Window { bytes: 256 << 10, messages: 256, descriptors: 16 };

/// Limits and defaults of one side of a connection. Each side has its own; the peer learns those that concern it
/// in the handshake.
///
/// ```
/// # use cluster_ipc::session::Config;
/// # use std::time::Duration;
/// let config = Config::new().max_message(1 << 20).max_requests(64).handshake_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub(super) settings: Settings,
    pub(super) outbox: usize,
    pub(super) handshake_timeout: Duration,
    pub(crate) memory_above: usize,
}

impl Default for Config {
    fn default() -> Self {
        let data = Window { bytes: WINDOW, messages: 16_384, descriptors: 256 };
        Self {
            settings: Settings {
                max_message: 64 << 20,
                data,
                control: CONTROL,
                max_requests: 1024,
                schema: 0,
            },
            outbox: 256 << 10,
            handshake_timeout: Duration::from_secs(10),
            memory_above: WINDOW as usize,
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The largest message this side takes. Default: 64 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes as u64;
        self
    }

    /// How much the peer may have on its way to this side. Default: 4 MiB, 16,384 messages, 256 descriptors.
    ///
    /// Together with one message this bounds the memory that a peer can occupy here: what it sends is counted
    /// until it has been *handled*. A larger message than the window goes alone.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.settings.data = window;
        self
    }

    /// How many requests of either side may be unanswered at the same time; the lower of the two sides' numbers
    /// counts. Default: 1024.
    #[must_use]
    pub fn max_requests(mut self, requests: u32) -> Self {
        self.settings.max_requests = u64::from(requests);
        self
    }

    /// How many bytes may wait on this side for the socket to take them; one message always may. Default: 256 KiB,
    /// about what the socket itself holds: more would only fall out of the processor's cache before it is written.
    #[must_use]
    pub fn outbox(mut self, bytes: usize) -> Self {
        self.outbox = bytes;
        self
    }

    /// How long the peer may take for its part of the handshake. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Messages larger than this travel as a sealed memfd rather than through the socket. Default: 4 MiB, the window,
    /// so that what goes through the socket never exceeds it. `usize::MAX` turns it off.
    ///
    /// Memory of its own is not faster: the kernel's work for each page costs more than copying it twice through a
    /// socket (1 MiB: 1.2 against 3.9 GB/s, measured). It keeps large messages from delaying the ones behind them and
    /// from occupying either side's buffers.
    #[must_use]
    pub fn memory_above(mut self, bytes: usize) -> Self {
        self.memory_above = bytes;
        self
    }

    /// The number of the application's set of messages, told to the peer: what it may be sent. Default: 0.
    /// See [the version rule](crate::codec#the-version-rule).
    #[must_use]
    pub fn schema(mut self, schema: u32) -> Self {
        self.settings.schema = u64::from(schema);
        self
    }
}
