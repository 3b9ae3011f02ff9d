//! A Unix stream socket as bad as a Unix stream socket may be, and what goes through it.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use cluster_ipc::HEADER_LEN;

use crate::wire::{CHUNK, FAILURE, MESSAGE, MORE};

/// A descriptor whose copies are counted.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub(crate) number: u64,
    ledger: Ledger,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.ledger.0.borrow_mut().open -= 1;
    }
}

pub(crate) fn numbers(descriptors: &[Descriptor]) -> Vec<u64> {
    descriptors.iter().map(|descriptor| descriptor.number).collect()
}

/// Where every descriptor is accounted for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Rc<RefCell<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    next: u64,
    open: usize,
    written: HashSet<u64>,
    arrived: HashSet<u64>,
}

impl Ledger {
    pub(crate) fn open(&self) -> Descriptor {
        let number = self.0.borrow().next;
        self.0.borrow_mut().next += 1;
        self.copy(number)
    }

    fn copy(&self, number: u64) -> Descriptor {
        self.0.borrow_mut().open += 1;
        Descriptor { number, ledger: self.clone() }
    }

    pub(crate) fn write(&self, descriptors: &[Descriptor]) -> Vec<u64> {
        for number in numbers(descriptors) {
            assert!(self.0.borrow_mut().written.insert(number), "a descriptor is sent once");
        }
        numbers(descriptors)
    }

    /// The receiver's copy of what was sent.
    pub(crate) fn arrive(&self, number: u64) -> Descriptor {
        assert!(self.0.borrow_mut().arrived.insert(number), "a stream delivers a descriptor once");
        self.copy(number)
    }

    pub(crate) fn still_open(&self) -> usize {
        self.0.borrow().open
    }
}

/// One direction. As in the kernel's `unix_stream_read_generic`: a write becomes buffers of which the first has the
/// descriptors; a read takes bytes from several buffers, but none after one that had descriptors.
#[derive(Debug)]
pub(crate) struct Pipe {
    buffers: VecDeque<Buffer>,
    held: usize,
    capacity: usize,
    buffer_len: usize,
    /// Nobody writes any more.
    pub(crate) ended: bool,
    /// Nobody reads any more.
    pub(crate) deaf: bool,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    read: usize,
    descriptors: Vec<u64>,
}

impl Pipe {
    pub(crate) fn new(capacity: usize, buffer_len: usize) -> Self {
        Self { buffers: VecDeque::new(), held: 0, capacity, buffer_len, ended: false, deaf: false }
    }

    /// How many of `bytes` a write would take.
    pub(crate) fn room(&self, bytes: usize) -> usize {
        bytes.min(self.capacity - self.held)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], mut descriptors: Vec<u64>) {
        assert!(!bytes.is_empty() && self.room(bytes.len()) == bytes.len());
        self.held += bytes.len();
        for piece in bytes.chunks(self.buffer_len) {
            let descriptors = std::mem::take(&mut descriptors);
            self.buffers.push_back(Buffer { bytes: piece.to_vec(), read: 0, descriptors });
        }
    }

    /// Reads at most `most` bytes. `early`: descriptors come with the bytes before theirs, as they may.
    pub(crate) fn read(&mut self, most: usize, early: bool) -> Option<(Vec<u8>, Vec<u64>)> {
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        while let Some(buffer) = self.buffers.front_mut() {
            if bytes.len() == most {
                if early && descriptors.is_empty() {
                    descriptors.append(&mut buffer.descriptors);
                }
                break;
            }
            let rest = buffer.bytes.get(buffer.read..).unwrap();
            let taken = rest.len().min(most - bytes.len());
            bytes.extend(&rest[..taken]);
            buffer.read += taken;
            descriptors.append(&mut buffer.descriptors);
            if buffer.read < buffer.bytes.len() {
                break;
            }
            self.buffers.pop_front();
            if !descriptors.is_empty() {
                break;
            }
        }
        self.held -= bytes.len();
        (!bytes.is_empty()).then_some((bytes, descriptors))
    }

    /// Loses all but the first `kept` bytes.
    pub(crate) fn cut(&mut self, kept: usize) {
        let mut rest = kept;
        for buffer in &mut self.buffers {
            let len = (buffer.bytes.len() - buffer.read).min(rest);
            buffer.bytes.truncate(buffer.read + len);
            rest -= len;
        }
        self.buffers.retain(|buffer| buffer.read < buffer.bytes.len());
        self.held = self.buffers.iter().map(|buffer| buffer.bytes.len() - buffer.read).sum();
    }
}

/// The part of a header that matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) lane: u8,
    pub(crate) id: u64,
    pub(crate) len: usize,
}

fn head(bytes: &[u8]) -> Head {
    let len = u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let id = u64::from_le_bytes(*bytes[8..].first_chunk().unwrap());
    Head { kind: bytes[4], flags: bytes[5], lane: bytes[7], id, len }
}

/// Follows what is written, from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Written {
    rest: usize,
}

impl Written {
    /// The frames that begin in the first `taken` of `bytes`. Frames are queued whole, so their headers are there.
    pub(crate) fn follow(&mut self, bytes: &[u8], taken: usize) -> Vec<Head> {
        let (mut begun, mut at) = (Vec::new(), 0);
        while at < taken {
            if self.rest == 0 {
                let head = head(&bytes[at..at + HEADER_LEN]);
                self.rest = HEADER_LEN + head.len;
                begun.push(head);
            }
            let step = self.rest.min(taken - at);
            (self.rest, at) = (self.rest - step, at + step);
        }
        begun
    }
}

/// Follows what is read: what of it is whole.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    header: Vec<u8>,
    rest: usize,
    /// Messages, requests, replies, gaps and the end of messages, in the data lane.
    pub(crate) data: u64,
    pub(crate) urgent: u64,
    pub(crate) failures: HashSet<u64>,
}

impl Whole {
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            let missing = HEADER_LEN - self.header.len();
            let (taken, after) = bytes.split_at(missing.min(bytes.len()));
            self.header.extend(taken);
            bytes = after;
            if self.header.len() < HEADER_LEN {
                return;
            }
            let head = head(&self.header);
            if missing > 0 {
                self.rest = head.len;
            }
            let taken = self.rest.min(bytes.len());
            bytes = &bytes[taken..];
            self.rest -= taken;
            if self.rest > 0 {
                return;
            }
            self.header.clear();
            self.count(head);
        }
    }

    fn count(&mut self, head: Head) {
        match (head.kind, head.lane) {
            (MESSAGE, 0) => self.urgent += 1,
            (FAILURE, _) => drop(self.failures.insert(head.id)),
            (MESSAGE..CHUNK, _) => self.data += u64::from(head.flags & MORE == 0),
            (CHUNK, _) => self.data += u64::from(head.flags & MORE == 0),
            (crate::wire::GAP | crate::wire::FINISH, _) => self.data += 1,
            _ => {}
        }
    }
}
