//! Connections whose first bytes are looked at before they are handed out.
//!
//! ```text
//!   accepted ──look──▶ known ─────────────────────────▶ ready ──▶ dispatcher, as there is room
//!                └──▶ waiting ──more bytes, end, time──┘
//! ```
//!
//! Nothing is consumed (`MSG_PEEK`), nobody waits for another, and a client that sends nothing or little is handed out without
//! a key when its time is over, or when too many wait.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::time::Instant;

use cluster_balancer::key::{Found, Key};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::lane::Connection;
use super::peek::Peek;

/// What a look gave.
enum Looked {
    /// The key, or that there is none.
    Final(Option<u64>),
    More,
}

#[derive(Debug)]
pub(super) struct Peeking {
    key: Key,
    limits: Peek,
    waiting: HashMap<Token, Connection>,
    /// When the time of each is over, in order. Of those that are no longer there, too.
    deadlines: VecDeque<(Instant, Token)>,
    /// Looked at, with what was found.
    ready: VecDeque<(Connection, Option<u64>)>,
    buffer: Vec<u8>,
}

impl Peeking {
    pub(super) fn new(key: Key, limits: Peek) -> Self {
        let buffer = vec![0; limits.bytes];
        Self {
            key,
            limits,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            ready: VecDeque::new(),
            buffer,
        }
    }

    /// How many connections are held here.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    /// Takes a connection that was just accepted. `token` is its own.
    pub(super) fn insert(&mut self, connection: Connection, token: Token, registry: &Registry, now: Instant) {
        if let Looked::Final(key) = self.look(&connection, self.limits.connections == 0) {
            return self.ready.push_back((connection, key));
        }
        // The one that has waited longest has had its chance.
        while self.waiting.len() >= self.limits.connections
            && let Some((_, token)) = self.deadlines.pop_front()
        {
            self.settle(token, registry);
        }
        let fd = connection.stream.as_raw_fd();
        match registry.register(&mut SourceFd(&fd), token, Interest::READABLE) {
            Ok(()) => {
                self.waiting.insert(token, connection);
                self.deadlines.push_back((now + self.limits.within, token));
            }
            Err(error) => {
                tracing::warn!(%error, "could not watch a connection for its first bytes");
                let key = self.key.settle(connection.peer.host(), &[]);
                self.ready.push_back((connection, key));
            }
        }
    }

    /// There are more bytes, or (`ended`) there will be none. A token of nobody here is ignored.
    pub(super) fn handle_readable(&mut self, token: Token, ended: bool, registry: &Registry) {
        let Some(connection) = self.waiting.remove(&token) else { return };
        // Edge-triggered: what comes while this looks is told again.
        match self.look(&connection, ended) {
            Looked::Final(key) => self.finish(connection, key, registry),
            Looked::More => drop(self.waiting.insert(token, connection)),
        }
    }

    /// Gives up on those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        while self
            .deadlines
            .front()
            .is_some_and(|(deadline, token)| *deadline <= now || !self.waiting.contains_key(token))
        {
            if let Some((_, token)) = self.deadlines.pop_front() {
                self.settle(token, registry);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Whether some have been looked at and not been handed out.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The oldest that was looked at, with its key, of the listeners for which there `is_room`.
    pub(super) fn pop_ready(&mut self, is_room: impl Fn(u8) -> bool) -> Option<(Connection, Option<u64>)> {
        let index = self.ready.iter().position(|(connection, _)| is_room(connection.listener))?;
        self.ready.remove(index)
    }

    /// Makes do with what has arrived.
    fn settle(&mut self, token: Token, registry: &Registry) {
        let Some(connection) = self.waiting.remove(&token) else { return };
        let key = match self.look(&connection, true) {
            Looked::Final(key) => key,
            Looked::More => None,
        };
        self.finish(connection, key, registry);
    }

    fn finish(&mut self, connection: Connection, key: Option<u64>, registry: &Registry) {
        let fd = connection.stream.as_raw_fd();
        // Before it is sent: a description that another process holds, too, would go on to wake this one.
        if let Err(error) = registry.deregister(&mut SourceFd(&fd)) {
            tracing::error!(%error, "could not stop watching a connection");
        }
        self.ready.push_back((connection, key));
    }

    /// Looks for the key in what has arrived, as far as the buffer goes. If it is the `last` look, there is an answer.
    fn look(&mut self, connection: &Connection, last: bool) -> Looked {
        let peer = connection.peer.host();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (length, ended) = match rustix::net::recv(&connection.stream, &mut *self.buffer, flags) {
            Ok((_, length)) => (length, length == 0),
            Err(Errno::AGAIN | Errno::INTR) => (0, false),
            // It is broken, as its worker will find out.
            Err(_) => (0, true),
        };
        // Never beyond the buffer.
        let bytes = self.buffer.get(..length).unwrap_or(&[]);
        match self.key.look(peer, bytes) {
            Found::Key(key) => Looked::Final(Some(key)),
            Found::Nothing => Looked::Final(None),
            Found::More if last || ended || length >= self.buffer.len() => {
                Looked::Final(self.key.settle(peer, bytes))
            }
            Found::More => Looked::More,
        }
    }
}
