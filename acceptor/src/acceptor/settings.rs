//! What the acceptor needs to know from the start.

use cluster_balancer::Strategy;
use cluster_balancer::key::Key;
use cluster_ipc::board::TICKETS;

use super::Peek;

/// What becomes of a connection that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the kernel's queue until another has ended. The default.
    #[default]
    Wait,
    /// It is closed at once: the client may try elsewhere.
    Reject,
}

/// How an [`Acceptor`](super::Acceptor) should be.
///
/// ```
/// use cluster_acceptor::{Settings, WhenFull};
/// use cluster_balancer::LeastLoaded;
///
/// let settings = Settings::new(LeastLoaded::new()).max_connections(10_000).when_full(WhenFull::Reject);
/// # drop(settings);
/// ```
#[derive(Debug)]
#[must_use]
pub struct Settings {
    pub(super) strategy: Box<dyn Strategy>,
    /// Which connections belong together, and how far to look for that.
    pub(super) key: Key,
    pub(super) peek: Peek,
    pub(super) max_connections: Option<usize>,
    pub(super) when_full: WhenFull,
    /// Untaken connections per worker.
    pub(super) window: u16,
    /// Connections accepted in one go.
    pub(super) batch: usize,
    /// Copies of connections held at once, so that descriptors are left for starting workers.
    pub(super) held: usize,
}

impl Settings {
    /// The defaults, with this strategy to say who gets the next connection.
    pub fn new(strategy: impl Strategy + 'static) -> Self {
        Self::boxed(Box::new(strategy))
    }

    /// The same with a strategy that was [chosen by its name](cluster_balancer::strategy::by_name), say.
    pub fn boxed(strategy: Box<dyn Strategy>) -> Self {
        Self {
            strategy,
            key: Key::address(),
            peek: Peek::new(),
            max_connections: None,
            when_full: WhenFull::default(),
            window: 32,
            batch: 64,
            held: 1024,
        }
    }

    /// Which connections belong together, for strategies that go by a key. Default: those of one client's address.
    pub fn key(self, key: Key) -> Self {
        Self { key, ..self }
    }

    /// How far to look at the first bytes of connections for a key that needs them.
    pub fn peek(self, peek: Peek) -> Self {
        Self { peek, ..self }
    }

    /// Connections of all workers together at a time, at most. Default: no limit.
    pub fn max_connections(self, connections: impl Into<Option<usize>>) -> Self {
        Self { max_connections: connections.into(), ..self }
    }

    /// What becomes of connections beyond the limits, this one and the capacities of workers. Default: they wait.
    pub fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// How many connections may be on their way to one worker that it has not taken. Default: 32; at least one, and at most 256, the
    /// tickets of a board.
    pub fn window(self, connections: u16) -> Self {
        Self { window: connections.clamp(1, TICKETS as u16), ..self }
    }

    /// How many connections are accepted in one go, and handed over in one message. Default: 64; at least one.
    pub fn batch(self, connections: usize) -> Self {
        Self { batch: connections.max(1), ..self }
    }

    /// How many connections may be held here at once, taken by no worker. Default: 1,024; at least one. The rest stays in the kernel's
    /// queue: set it so that this process has descriptors left for what else it does.
    pub fn held(self, connections: usize) -> Self {
        Self { held: connections.max(1), ..self }
    }
}
