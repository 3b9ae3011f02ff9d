//! Where one listens, and who connects.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::SocketAddrAny;
use serde::{Deserialize, Serialize};

/// An address of a network or of a Unix socket. Written, and serialised, as `127.0.0.1:80`, `[::1]:80`, `unix:/run/app.sock`, or
/// `unix:` for a client without a name, which is every usual one.
///
/// ```
/// use cluster_acceptor::Address;
///
/// let address: Address = "unix:/run/app.sock".parse()?;
/// assert_eq!(address, Address::Unix(Some("/run/app.sock".into())));
/// assert_eq!(address.to_string(), "unix:/run/app.sock");
/// assert_eq!("[::1]:80".parse::<Address>()?.ip().map(|address| address.port()), Some(80));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Address {
    /// Of a network.
    Ip(SocketAddr),
    /// A path, if it has one.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The address and port, if it is of a network.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(path) => path.as_deref(),
        }
    }

    /// A socket's own address.
    pub(crate) fn of(socket: impl std::os::fd::AsFd) -> std::io::Result<Self> {
        Ok(rustix::net::getsockname(socket)?.into())
    }

    /// Of clients, only the host counts where connections of one client belong together.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        self.ip().map(|address| address.ip())
    }
}

impl From<SocketAddrAny> for Address {
    fn from(address: SocketAddrAny) -> Self {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Self::Ip(address);
        }
        let unix = rustix::net::SocketAddrUnix::try_from(address).ok();
        #[cfg(feature = "test-util")]
        let named = unix.as_ref().and_then(|unix| unix.abstract_name());
        #[cfg(feature = "test-util")]
        if let Some(address) = named.and_then(crate::listeners::apart::address_in) {
            return address;
        }
        let path = unix.as_ref().and_then(|unix| unix.path_bytes());
        Self::Unix(path.map(|bytes| OsStr::from_bytes(bytes).into()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.ip() == Some(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Ok(Self::Unix(None)),
            Some(path) => Ok(Self::Unix(Some(path.into()))),
            None => text.parse().map(Self::Ip),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
