//! What a worker wants to listen on, and how the connections come to it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use socket2::Socket;

/// How connections come from a shared port to the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Mode {
    /// The primary accepts, and hands each connection to the worker that the strategy picks (Node's `SCHED_RR`). Load is even,
    /// and what no worker has taken is never lost. The default.
    #[default]
    Handoff,
    /// Every worker accepts from one socket (Node's `SCHED_NONE`): who wakes first has it. The least machinery; strategies and
    /// limits of the cluster have no say.
    Shared,
    /// Every slot has a socket of its own on the port (`SO_REUSEPORT`), and the kernel spreads connections at random. The highest
    /// rate. The primary keeps a copy of each socket: while a slot has no worker that is well, new connections are
    /// steered to the others, and what waits on its socket is handed to them.
    ReusePort,
}

impl Mode {
    /// All names, as [`FromStr`] takes them.
    pub const NAMES: [&str; 3] = ["handoff", "shared", "reuseport"];

    /// Its name: `handoff`, `shared` or `reuseport`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::Shared => "shared",
            Self::ReusePort => "reuseport",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        [Self::Handoff, Self::Shared, Self::ReusePort]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| UnknownMode { name: name.to_owned() })
    }
}

/// No mode has this name. The message lists those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {name:?}: there are {}", Mode::NAMES.join(", "))]
pub struct UnknownMode {
    name: String,
}

/// What to listen on. All workers that ask for the same share it; the first of them decides how it is.
///
/// ```
/// use cluster_acceptor::{Listen, Mode};
///
/// let http = Listen::tcp(([127, 0, 0, 1], 8080)).mode(Mode::ReusePort).backlog(511);
/// let admin = Listen::unix("/run/app.sock").permissions(0o660);
/// let from_systemd = Listen::inherited("http");
/// # let _ = (http, admin, from_systemd);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Listen {
    pub(crate) at: At,
    pub(crate) mode: Option<Mode>,
    pub(crate) backlog: Option<u32>,
    pub(crate) only_v6: Option<bool>,
    pub(crate) permissions: Option<u32>,
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Inherited(String),
    Udp(SocketAddr),
    InheritedUdp(String),
}

impl Listen {
    /// On a TCP port. With port 0 all workers get the same free one.
    pub fn tcp(address: impl Into<SocketAddr>) -> Self {
        Self::new(At::Tcp(address.into()))
    }

    /// On a Unix socket. The primary makes the file, in place of a stale one that nobody listens on, and removes it at the end.
    /// A relative path is relative to the worker's directory.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(At::Unix(path.into()))
    }

    /// On a socket that the primary was started with, as by systemd (sd_listen_fds(3)): by its name in `LISTEN_FDNAMES`, or by its
    /// number there, from 0 on.
    pub fn inherited(name: impl Into<String>) -> Self {
        Self::new(At::Inherited(name.into()))
    }

    /// The same for UDP.
    pub fn inherited_udp(name: impl Into<String>) -> Self {
        Self::new(At::InheritedUdp(name.into()))
    }

    /// On a UDP port, for `Worker::bind_udp_on`: all workers receive from one socket, or with
    /// [`Mode::ReusePort`] each slot from its own.
    pub fn udp(address: impl Into<SocketAddr>) -> Self {
        Self::new(At::Udp(address.into()))
    }

    /// How connections come to the workers. Default: as the cluster's builder says, that is how its
    /// [`Listeners`](crate::Listeners::new) were made.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Connections that may wait in the kernel to be accepted. Default: 4096; the kernel cuts it to `net.core.somaxconn`.
    pub fn backlog(self, connections: u32) -> Self {
        Self { backlog: Some(connections), ..self }
    }

    /// Whether an IPv6 socket takes no IPv4 connections. Default: as the system says (`net.ipv6.bindv6only`, usually: it takes both).
    pub fn only_v6(self, only: bool) -> Self {
        Self { only_v6: Some(only), ..self }
    }

    /// Who may connect to a Unix socket, as permissions of a file. Default: as the umask says.
    pub fn permissions(self, mode: u32) -> Self {
        Self { permissions: Some(mode), ..self }
    }

    /// The same, independent of this process's directory: it makes the path of a Unix socket absolute.
    ///
    /// # Errors
    ///
    /// When the path is empty, or the directory is not to be had.
    pub fn absolute(mut self) -> io::Result<Self> {
        if let At::Unix(path) = &mut self.at {
            *path = std::path::absolute(&path)?;
        }
        Ok(self)
    }

    /// Whether it is for datagrams, and not for connections.
    pub fn is_udp(&self) -> bool {
        matches!(self.at, At::Udp(_) | At::InheritedUdp(_))
    }

    fn new(at: At) -> Self {
        Self { at, mode: None, backlog: None, only_v6: None, permissions: None }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Tcp(address) => address.fmt(f),
            At::Udp(address) => write!(f, "udp:{address}"),
            At::Unix(path) => write!(f, "unix:{}", path.display()),
            At::Inherited(name) | At::InheritedUdp(name) => write!(f, "the inherited socket {name:?}"),
        }
    }
}

/// Whether a socket takes the connections of the other family too, where somebody said so.
pub(crate) fn choose_families(socket: &Socket, address: SocketAddr, only_v6: Option<bool>) -> io::Result<()> {
    match only_v6 {
        Some(only) if address.is_ipv6() => socket.set_only_v6(only),
        _ => Ok(()),
    }
}
