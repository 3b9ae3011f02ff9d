//! Where things stand on the page. Part of the protocol: a change here is a new [`LAYOUT_VERSION`].

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::doorbell::Doorbell;
use super::tally::Tally;
use super::ticket::TicketCell;

/// How many tickets a board has: the most connections that may be on their way to one worker.
pub const TICKETS: usize = 256;

/// How many counters of its application a board has.
pub const COUNTERS: usize = 64;

/// `CLbd`.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"CLbd");

/// Both sides must have the same.
pub(super) const LAYOUT_VERSION: u32 = 4;

/// The board's size in bytes: one page of memory.
pub(super) const PAGE_LEN: usize = 4096;

/// The page. Words that different sides write stand on different cache lines.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Page {
    // Written once, by the primary.
    pub(super) magic: AtomicU32,
    pub(super) version: AtomicU32,
    _line0: [u64; 7],
    // Written by the worker.
    pub(super) beats: AtomicU64,
    pub(super) tally: Tally,
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) lag_micros: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) missed: AtomicU64,
    // Written by the primary, cleared by the worker.
    pub(super) doorbell: Doorbell,
    _line2: [u32; 15],
    // Written by both.
    pub(super) tickets: [TicketCell; TICKETS],
    // Written by the worker.
    pub(super) counters: [AtomicU64; COUNTERS],
}

const _: () = assert!(size_of::<Page>() <= PAGE_LEN);
const _: () = assert!(std::mem::offset_of!(Page, beats) == 64);
const _: () = assert!(std::mem::offset_of!(Page, tally) == 72);
const _: () = assert!(std::mem::offset_of!(Page, requests) == 88);
const _: () = assert!(std::mem::offset_of!(Page, doorbell) == 128);
const _: () = assert!(std::mem::offset_of!(Page, tickets) == 192);
const _: () = assert!(std::mem::offset_of!(Page, counters) == 2240);
const _: () = assert!(size_of::<Doorbell>() == 4 && size_of::<TicketCell>() == 8);
