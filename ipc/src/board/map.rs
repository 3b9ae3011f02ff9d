//! The board's page within its mapping.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use super::layout::{PAGE_LEN, Page};
use crate::Error;

/// A shared mapping of one board. It keeps the memory alive without a descriptor.
#[derive(Debug)]
pub(super) struct Mapping(crate::os::Mapping);

impl Mapping {
    /// The memory behind `memory` must be of [`PAGE_LEN`] bytes, sealed against shrinking: callers check or have made it so.
    pub(super) fn new(memory: BorrowedFd<'_>) -> Result<Self, Error> {
        crate::os::Mapping::shared(memory, PAGE_LEN).map(Self)
    }

    pub(super) fn page(&self) -> &Page {
        // SAFETY: the pointer is the start of a live mapping of PAGE_LEN ≥ size_of::<Page>() bytes (asserted in `layout`),
        // page-aligned, and cannot be cut short (sealed). Any bit pattern is a valid `Page`, and the
        // other process changes it only through the same atomics.
        unsafe { self.0.start().cast::<Page>().as_ref() }
    }
}
