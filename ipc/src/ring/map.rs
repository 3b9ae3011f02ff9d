//! The words of a ring within its mapping.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use crate::Error;

/// A mapping of a ring's memory. It keeps the memory alive without a descriptor.
#[derive(Debug)]
pub(super) struct Mapping {
    map: crate::os::Mapping,
    words: usize,
}

impl Mapping {
    /// The writer's. The memory must be of that many words, sealed against shrinking: callers have made it so.
    pub(super) fn writable(memory: BorrowedFd<'_>, words: usize) -> Result<Self, Error> {
        let map = crate::os::Mapping::shared(memory, words * size_of::<AtomicU64>())?;
        Ok(Self { map, words })
    }

    /// A reader's: its words can only be loaded, with [`Relaxed`](std::sync::atomic::Ordering::Relaxed). The memory must be of that many
    /// words, sealed against shrinking: callers have seen that.
    pub(super) fn readable(memory: BorrowedFd<'_>, words: usize) -> Result<Self, Error> {
        let map = crate::os::Mapping::shared_read_only(memory, words * size_of::<AtomicU64>())?;
        Ok(Self { map, words })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pointer is the start of a live mapping of that many words, page-aligned, which cannot be cut short
        // (sealed). Any bits are a valid word, and other processes change them only through the same atomics. A mapping
        // that can only be read is only loaded from, `Relaxed`, which the standard library allows on read-only memory.
        unsafe { std::slice::from_raw_parts(self.map.start().cast::<AtomicU64>().as_ptr(), self.words) }
    }
}
