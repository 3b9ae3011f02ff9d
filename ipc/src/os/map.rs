//! Memory of a descriptor, mapped into this process.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use crate::Error;

/// A mapping of the first `len` bytes behind a descriptor, unmapped on drop. It keeps the memory alive without the
/// descriptor.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; what is done with its bytes is up to its users below.
unsafe impl Send for Mapping {}
// SAFETY: as above: through a shared reference only addresses, or bytes that never change, can be had.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Readable and writable, shared with all who map it.
    #[cfg(any(feature = "board", feature = "ring"))]
    pub(crate) fn shared(memory: BorrowedFd<'_>, len: usize) -> Result<Self, Error> {
        Self::new(memory, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// Readable, shared with one who writes it.
    #[cfg(feature = "ring")]
    pub(crate) fn shared_read_only(memory: BorrowedFd<'_>, len: usize) -> Result<Self, Error> {
        Self::new(memory, len, ProtFlags::READ, MapFlags::SHARED)
    }

    /// Readable. Private, since kernels before 6.7 refuse a shared mapping of memory that is sealed against writing;
    /// without writes there is no difference.
    pub(super) fn read_only(memory: BorrowedFd<'_>, len: usize) -> Result<Self, Error> {
        Self::new(memory, len, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::POPULATE)
    }

    fn new(
        memory: BorrowedFd<'_>,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Error> {
        // SAFETY: a null address lets the kernel choose a free range, so no existing mapping is touched.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, memory, 0) };
        let start = start.map_err(Error::os("map memory"))?;
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, len }),
            None => Err(Error::BadMemory { reason: "it was mapped at address zero" }),
        }
    }

    #[cfg(any(feature = "board", feature = "ring"))]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The bytes of a mapping that nobody can change.
    ///
    /// # Safety
    ///
    /// The memory must be sealed against writing and shrinking, and at least `len` bytes long.
    pub(super) unsafe fn sealed_bytes(&self) -> &[u8] {
        // SAFETY: `start` is the beginning of a live mapping of `len` bytes; the caller promises that all of them
        // exist and never change.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this range was mapped by `new` and nothing borrows from `self` any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}
