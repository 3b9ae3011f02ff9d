//! The servers that are compared, and how each is started.

mod example;
mod nginx;
mod node;
mod scratch;
mod server;
pub(crate) mod shared;

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use self::scratch::Scratch;
pub(crate) use self::server::Server;
use crate::Result;
use crate::process::{find_program, version};

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Our example: the primary accepts and hands over, least-loaded.
    Handoff,
    /// The same, round-robin.
    HandoffRr,
    /// Our example in mode `shared`: its workers accept from one socket.
    ClusterShared,
    /// Our example in mode `reuseport`: each worker accepts from a socket of its own.
    #[value(name = "reuseport")]
    ReusePort,
    /// The same worker code without our library, on one shared listening socket.
    Shared,
    /// Our example in one process.
    Single,
    /// Node in one process.
    NodeSingle,
    /// Node's cluster: the primary accepts and hands over in turn.
    NodeRr,
    /// Node's cluster: the workers accept.
    NodeNone,
    /// nginx, which answers by itself.
    Nginx,
}

impl Peer {
    pub(crate) const ALL: [Self; 10] = [
        Self::Handoff,
        Self::HandoffRr,
        Self::ClusterShared,
        Self::ReusePort,
        Self::Shared,
        Self::Single,
        Self::NodeSingle,
        Self::NodeRr,
        Self::NodeNone,
        Self::Nginx,
    ];

    /// How to install what it needs.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Handoff
            | Self::HandoffRr
            | Self::ClusterShared
            | Self::ReusePort
            | Self::Shared
            | Self::Single => "part of this workspace",
            Self::NodeSingle | Self::NodeRr | Self::NodeNone => "apt-get install nodejs",
            Self::Nginx => "apt-get install nginx-light",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Handoff => "handoff",
            Self::HandoffRr => "handoff, round-robin",
            Self::ClusterShared => "mode shared",
            Self::ReusePort => "mode reuseport",
            Self::Shared => "shared accept",
            Self::Single => "single process",
            Self::NodeSingle => "Node, single process",
            Self::NodeRr => "Node SCHED_RR",
            Self::NodeNone => "Node SCHED_NONE",
            Self::Nginx => "nginx",
        })
    }
}

/// What the servers are started from.
#[derive(Debug)]
pub(crate) struct Peers {
    scratch: Scratch,
    example: PathBuf,
    node: Option<PathBuf>,
    nginx: Option<PathBuf>,
}

impl Peers {
    /// Builds ours and looks for the others.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self {
            scratch: Scratch::new()?,
            example: example::build()?,
            node: find_program("node").or_else(|| find_program("nodejs")),
            nginx: find_program("nginx"),
        })
    }

    pub(crate) fn is_installed(&self, peer: Peer) -> bool {
        match peer {
            Peer::NodeSingle | Peer::NodeRr | Peer::NodeNone => self.node.is_some(),
            Peer::Nginx => self.nginx.is_some(),
            _ => true,
        }
    }

    /// The versions of those that are installed.
    pub(crate) fn versions(&self) -> Vec<String> {
        let node = self.node.as_deref().map(|program| format!("Node {}", version(program, "--version")));
        let nginx = self.nginx.as_deref().map(|program| version(program, "-v"));
        node.into_iter().chain(nginx).collect()
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self, peer: Peer, workers: usize) -> Result<Server> {
        let program = |path: &Option<PathBuf>| path.clone().ok_or_else(|| format!("{peer} is not installed"));
        let launch = self.scratch.launch(peer)?;
        let mut server = match peer {
            Peer::Handoff => example::start(launch, &self.example, workers, &[]),
            Peer::HandoffRr => example::start(launch, &self.example, workers, &["--strategy", "round-robin"]),
            Peer::ClusterShared => example::start(launch, &self.example, workers, &["--mode", "shared"]),
            Peer::ReusePort => example::start(launch, &self.example, workers, &["--mode", "reuseport"]),
            Peer::Shared => shared::start(launch, workers),
            Peer::Single => example::single(launch, &self.example),
            Peer::NodeSingle => node::start(launch, &program(&self.node)?, "none", 0),
            Peer::NodeRr => node::start(launch, &program(&self.node)?, "rr", workers),
            Peer::NodeNone => node::start(launch, &program(&self.node)?, "none", workers),
            Peer::Nginx => nginx::start(launch, &program(&self.nginx)?, workers),
        }?;
        server.wait_until_it_answers()?;
        Ok(server)
    }
}

/// A port that nobody listens on, another one each time: connections of the last server still linger on theirs.
///
/// It lies below those that the kernel gives to clients: this machine opens tens of thousands of connections a second,
/// and one of them may get a port of that range before the server does.
fn free_port() -> Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let next = || {
        let nth = std::process::id().wrapping_mul(7919).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        10_000 + (nth % 20_000) as u16
    };
    Ok(std::iter::repeat_with(next).take(1000).find(is_free).ok_or("no port is free")?)
}
