//! Sockets that this process was started with.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use crate::address::Address;

/// Listening sockets from the service manager (sd_listen_fds(3)): descriptors from 3 on, as many as `LISTEN_FDS` says, if
/// `LISTEN_PID` is this process.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    name: Option<String>,
    address: Address,
    socket: OwnedFd,
}

impl Inherited {
    /// Takes them, once: another call finds the same descriptors.
    pub(super) fn take() -> Self {
        let mut passed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty());
            match take_one(&mut passed, index) {
                Ok((address, socket)) => {
                    tracing::info!(index, name, %address, "inherited a listening socket");
                    sockets.push(Socket { name, address, socket });
                }
                Err(error) => tracing::warn!(index, name, %error, "cannot use an inherited descriptor"),
            }
        }
        Self { sockets }
    }

    /// The one with this name, or number.
    pub(super) fn find(&self, name: &str) -> Option<(&Address, &OwnedFd)> {
        let named = self.sockets.iter().find(|socket| socket.name.as_deref() == Some(name));
        let socket = named.or_else(|| self.sockets.get(name.parse::<usize>().ok()?))?;
        Some((&socket.address, &socket.socket))
    }

    /// The one on this address.
    pub(super) fn on(&self, address: &Address) -> Option<&OwnedFd> {
        self.sockets.iter().find(|socket| socket.address == *address).map(|socket| &socket.socket)
    }
}

fn take_one(passed: &mut ListenFd, index: usize) -> std::io::Result<(Address, OwnedFd)> {
    let gone = || std::io::Error::from(rustix::io::Errno::BADF);
    let socket: OwnedFd = match passed.take_tcp_listener(index) {
        Ok(tcp) => tcp.ok_or_else(gone)?.into(),
        Err(_) => match passed.take_unix_listener(index) {
            Ok(unix) => unix.ok_or_else(gone)?.into(),
            Err(_) => passed.take_udp_socket(index)?.ok_or_else(gone)?.into(),
        },
    };
    // Others accept on it, too: whoever comes second must not wait for a third.
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok((Address::of(&socket)?, socket))
}
