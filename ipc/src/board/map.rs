//! The mapping of a board into this process: the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::layout::{PAGE_LEN, Page};
use crate::Error;

/// A shared mapping of one board, unmapped on drop. It keeps the memory alive without a descriptor.
#[derive(Debug)]
pub(super) struct Mapping {
    page: NonNull<Page>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Page` consists of atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above: shared access is what atomics are for.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The memory behind `memory` must be of [`PAGE_LEN`] bytes, sealed against shrinking: callers check or have made it so.
    pub(super) fn new(memory: BorrowedFd<'_>) -> Result<Self, Error> {
        // SAFETY: a null address lets the kernel choose a free range, so no existing mapping is touched.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_LEN,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                memory,
                0,
            )
        }
        .map_err(Error::os("map a board"))?;
        match NonNull::new(address.cast::<Page>()) {
            Some(page) => Ok(Self { page }),
            None => Err(Error::Board { reason: "it was mapped at address zero" }),
        }
    }

    pub(super) fn page(&self) -> &Page {
        // SAFETY: the pointer comes from a successful mmap of PAGE_LEN ≥ size_of::<Page>() bytes (asserted in `layout`),
        // page-aligned, alive until drop, and cannot be cut short (sealed). Any bit pattern is a valid `Page`, and the
        // other process changes it only through the same atomics.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this range was mapped by `new` and nothing borrows from `self` any more.
        let unmapped = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), PAGE_LEN) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}
