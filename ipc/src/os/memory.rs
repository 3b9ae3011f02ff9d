//! Large messages: sealed memory that travels as a descriptor.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use super::map::Mapping;
use crate::Error;

/// Without these the sender could cut the memory short under the reader (`SIGBUS`) or change it while it is read.
const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::WRITE);

/// Copies bytes into new memory that nobody can change any more.
pub(crate) fn seal(bytes: &[u8]) -> Result<OwnedFd, Error> {
    let memory = memfd_create(c"cluster-ipc message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(Error::os("make memory for a large message"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&memory, rest))
            .map_err(Error::os("fill memory with a large message"))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    fcntl_add_seals(&memory, NEEDED | SealFlags::GROW | SealFlags::SEAL)
        .map_err(Error::os("seal the memory of a large message"))?;
    Ok(memory)
}

/// Sealed memory as bytes. The only way to make one is [`open`].
struct Sealed(Mapping);

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `open` has seen the seals, which can't be taken off, and the size, which can't shrink.
        unsafe { self.0.sealed_bytes() }
    }
}

/// Maps what the peer sent as memory of `len` bytes, after checking that nobody can change it or cut it short.
pub(crate) fn open(memory: &OwnedFd, len: u64) -> Result<Bytes, Error> {
    let bad = |reason| Error::BadMemory { reason };
    let seals = fcntl_get_seals(memory).map_err(|_| bad("it cannot be sealed"))?;
    if !seals.contains(NEEDED) {
        return Err(bad("it is not sealed against shrinking and writing"));
    }
    let size = fstat(memory).map_err(Error::os("look at the memory of a large message"))?.st_size;
    if u64::try_from(size).ok() != Some(len) {
        return Err(bad("its size is not the one that was announced"));
    }
    let Ok(len) = usize::try_from(len) else { return Err(bad("it is larger than this process can map")) };
    if len == 0 {
        return Ok(Bytes::new());
    }
    use std::os::fd::AsFd;
    Ok(Bytes::from_owner(Sealed(Mapping::read_only(memory.as_fd(), len)?)))
}
