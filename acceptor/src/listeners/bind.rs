//! Making a listening socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::listen::{self, Listen};

/// Connections that may wait in the kernel by default; it cuts this to `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 4096;

pub(super) fn backlog(listen: &Listen) -> i32 {
    i32::try_from(listen.backlog.unwrap_or(BACKLOG)).unwrap_or(i32::MAX)
}

/// A TCP socket that listens.
pub(super) fn tcp(address: SocketAddr, listen: &Listen) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // As every server does: a restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    listen::choose_families(&socket, address, listen.only_v6)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(listen))?;
    Ok(socket.into())
}

/// A Unix socket that listens, and its file.
pub(super) fn unix(path: &Path, listen: &Listen) -> io::Result<(OwnedFd, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    // Nothing else can be wrong with it, and that error has no number, by which the worker would know it.
    let address = SockAddr::unix(shortest(path)).map_err(|_| Errno::NAMETOOLONG)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::new(path)?;
    // Before anybody can connect.
    if let Some(permissions) = listen.permissions {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions))?;
    }
    socket.listen(backlog(listen))?;
    Ok((socket.into(), file))
}

/// A socket's name has 107 bytes at most, so the path from here is taken where it is the shorter one.
fn shortest(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.filter(|relative| !relative.as_os_str().is_empty()).unwrap_or(path)
}

/// Whether there is a socket at `path` that nobody listens on: its owner was killed.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // Connecting to an ordinary file is refused, too.
    is_socket
        && UnixStream::connect(shortest(path))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a Unix socket. Dropping it removes the file, unless somebody has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a socket");
        }
    }
}

/// Device, inode, and when it was made: a new file may get the number of one that is gone.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let path = std::env::temp_dir().join(format!("cluster-stale-{}", std::process::id()));
        let listen = Listen::unix(&path).permissions(0o600);
        let (first, file) = unix(&path, &listen).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let error = unix(&path, &listen).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let (_second, newer) = unix(&path, &listen).unwrap();
        drop(file);
        assert!(path.exists(), "it is not the first one's any more");
        drop(newer);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let path = std::env::temp_dir().join(format!("cluster-no-socket-{}", std::process::id()));
        std::fs::write(&path, "precious").unwrap();
        let error = unix(&path, &Listen::unix(&path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}
