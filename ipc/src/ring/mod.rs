//! Messages to many processes at once, in memory that they share (feature `ring`).
//!
//! ```text
//!   one writer                      ┌──────────── memory ────────────┐      any number of readers
//!   publish(7, …)  ── written once ─▶ … │ 4 │ 5 │ 6 │ 7 │            ◀── read(5), each where it is
//!   Bell::ring     ── one for each reader, a pipe ───────────────────▶  Hearing: wakes who sleeps
//! ```
//!
//! A message is written once, however many read it, without a system call; it is there for all of them from that moment on. The
//! writer waits for nobody: who is too slow finds that what he wants was overwritten ([`Read::Missed`]), and gets it
//! another way. Readers wait for nobody either, and read from several threads.
//!
//! The memory is sealed: it can't be resized, so nobody faults beyond its end, and nobody but the writer can write it or map it for
//! writing, so no reader can harm the others. (A process that the writer forks without exec has its mapping, too.) A [`Bell`] is
//! between the writer and one reader: who breaks his own sleeps on, alone.
//!
//! Whether a reader still finds a message depends on what was published after it, so numbers are the writer's: rising, and
//! without gaps as far as readers are to go from one to the next.
//!
//! Compare Aeron's IPC publications (<https://github.com/aeron-io/aeron>) and the LMAX Disruptor: theirs hold the writer up for
//! the slowest reader, or have him poll.
//!
//! ```
//! use cluster_ipc::ring::{Read, Reader, Writer};
//!
//! let mut writer = Writer::create(1024, 64 << 10)?;
//! // Hand the descriptor to another process, by a frame say.
//! let reader = Reader::open(writer.memory()?)?;
//!
//! writer.publish(1, b"hello");
//! let mut message = Vec::new();
//! assert_eq!(reader.read(1, &mut message), Read::Message);
//! assert_eq!(message, b"hello");
//! assert_eq!(reader.read(2, &mut message), Read::NotYet);
//! # Ok::<(), cluster_ipc::Error>(())
//! ```

mod bell;
#[cfg(test)]
mod loom_tests;
mod map;
mod words;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};

pub use self::bell::{Bell, Hearing};
use self::map::Mapping;
use self::words::{Copied, Shape, Words};
use crate::Error;

/// Against resizing: reading beyond the end of a shortened file would raise `SIGBUS`.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Against writing by anybody who has no mapping yet, and against other seals.
const WRITE_SEALS: SealFlags = SealFlags::FUTURE_WRITE.union(SealFlags::SEAL);

/// More than any ring needs, so that no size overflows.
const MOST: usize = 1 << 30;

/// What came of reading a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Read {
    /// It was appended to what was given.
    Message,
    /// It is not published yet.
    NotYet,
    /// It was overwritten, skipped, or too long for this ring: it can't be had here any more.
    Missed,
}

/// The side that publishes. There is one for each ring; readers keep what is in it when this is dropped.
#[derive(Debug)]
pub struct Writer {
    map: Mapping,
    memory: OwnedFd,
    shape: Shape,
    /// Where the messages that can be read begin, the oldest first.
    starts: VecDeque<u64>,
    /// Where the next one begins; counted on and on.
    next: u64,
    head: u64,
}

impl Writer {
    /// Makes a ring that holds the newest `messages`, as far as they have no more than `bytes` in all (both are rounded up to a power
    /// of two). Memory is used as it is written to.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]; [`Error::Ring`] if more than 2^30 of either are wanted.
    pub fn create(messages: usize, bytes: usize) -> Result<Self, Error> {
        if messages > MOST || bytes > MOST {
            return Err(Error::Ring { reason: "more than 2^30 messages or bytes are wanted" });
        }
        let words = bytes.div_ceil(size_of::<u64>()).max(4).next_power_of_two();
        let shape = Shape { slots: messages.max(1).next_power_of_two(), words };
        let total = shape.total().ok_or(Error::Ring { reason: "its size can't be counted" })?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("cluster-ring", flags).map_err(Error::os("create a ring"))?;
        let bytes = total * size_of::<u64>();
        rustix::fs::ftruncate(&memory, bytes as u64).map_err(Error::os("size a ring"))?;
        rustix::fs::fcntl_add_seals(&memory, SIZE_SEALS).map_err(Error::os("seal the size of a ring"))?;
        let map = Mapping::writable(memory.as_fd(), total)?;
        rustix::fs::fcntl_add_seals(&memory, WRITE_SEALS).map_err(Error::os("seal a ring"))?;
        let writer = Self { map, memory, shape, starts: VecDeque::new(), next: 0, head: 0 };
        if let Some(words) = writer.words() {
            words.begin();
        }
        Ok(writer)
    }

    /// A descriptor for a reader; all may have copies of one.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: too many files are open.
    pub fn memory(&self) -> Result<OwnedFd, Error> {
        self.memory.try_clone().map_err(Error::os("duplicate the memory of a ring"))
    }

    /// Publishes a message: readers that look for its number find it from now on. Numbers rise; one that does not is ignored. If it
    /// is not the next one, all that were before can't be read any more.
    ///
    /// A message of more than [`longest`](Self::longest) bytes is not kept: readers are told that they [missed](Read::Missed) it.
    pub fn publish(&mut self, number: u64, message: &[u8]) {
        if number <= self.head {
            return;
        }
        let is_short = message.len() <= self.shape.longest();
        let kept = if is_short { message } else { &[] };
        let needed = kept.len().div_ceil(size_of::<u64>()) as u64;
        let before = self.starts.len();
        if number != self.head + 1 {
            self.starts.clear();
        }
        while self.starts.len() >= self.shape.slots {
            self.starts.pop_front();
        }
        while self.starts.front().is_some_and(|first| self.next + needed - first > self.shape.words as u64) {
            self.starts.pop_front();
        }
        let Some(words) = Words::new(self.map.words(), self.shape) else { return };
        if self.starts.len() < before || number != self.head + 1 {
            words.raise_floor(number - self.starts.len() as u64);
        }
        words.write(number, self.next, kept, if is_short { message.len() as u64 } else { u64::MAX });
        words.raise_head(number);
        self.starts.push_back(self.next);
        self.next += needed;
        self.head = number;
    }

    /// Bytes of the longest message that is kept: a quarter of the ring, so that there is time to read it.
    pub const fn longest(&self) -> usize {
        self.shape.longest()
    }

    fn words(&self) -> Option<Words<'_, AtomicU64>> {
        Words::new(self.map.words(), self.shape)
    }
}

/// A side that reads, from any thread.
#[derive(Debug)]
pub struct Reader {
    map: Mapping,
    shape: Shape,
}

impl Reader {
    /// Maps a ring that a [`Writer`] made, after checking its size, seals and layout. The descriptor is not needed any longer.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`] or [`Error::Os`].
    pub fn open(memory: OwnedFd) -> Result<Self, Error> {
        let bad = |reason| Error::Ring { reason };
        let seals = rustix::fs::fcntl_get_seals(&memory).map_err(|_| bad("it cannot be sealed"))?;
        if !seals.contains(SIZE_SEALS) {
            return Err(bad("it is not sealed against resizing"));
        }
        let size = rustix::fs::fstat(&memory).map_err(Error::os("look at a ring"))?.st_size;
        let size = usize::try_from(size).map_err(|_| bad("its size is wrong"))?;
        if size == 0 || size % size_of::<u64>() != 0 {
            return Err(bad("its size is wrong"));
        }
        let map = Mapping::readable(memory.as_fd(), size / size_of::<u64>())?;
        let shape =
            Words::shape_of(map.words()).ok_or_else(|| bad("it does not begin as one of this version"))?;
        Ok(Self { map, shape })
    }

    /// The number of the newest message, 0 before the first.
    #[inline]
    pub fn head(&self) -> u64 {
        words::head_of(self.map.words())
    }

    /// Appends the message of that number to `into`, whole, or leaves that as it is.
    pub fn read(&self, number: u64, into: &mut Vec<u8>) -> Read {
        match self.words().map(|words| words.copy(number, into)) {
            Some(Copied::Whole) => Read::Message,
            Some(Copied::NotYet) => Read::NotYet,
            Some(Copied::Missed) | None => Read::Missed,
        }
    }

    #[inline]
    fn words(&self) -> Option<Words<'_, AtomicU64>> {
        Words::new(self.map.words(), self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(messages: usize, bytes: usize) -> (Writer, Reader) {
        let writer = Writer::create(messages, bytes).unwrap();
        let reader = Reader::open(writer.memory().unwrap()).unwrap();
        (writer, reader)
    }

    fn read(reader: &Reader, number: u64) -> Result<Vec<u8>, Read> {
        let mut into = b"before".to_vec();
        match reader.read(number, &mut into) {
            Read::Message => Ok(into.split_off(6)),
            other => {
                assert_eq!(into, b"before", "what can't be read leaves nothing behind");
                Err(other)
            }
        }
    }

    #[test]
    fn messages_come_as_they_were_published_whatever_their_length() {
        let (mut writer, reader) = pair(64, 4096);
        assert_eq!((reader.head(), read(&reader, 1)), (0, Err(Read::NotYet)));
        for len in 0..40_u8 {
            writer.publish(u64::from(len) + 1, &vec![len; usize::from(len)]);
        }
        for len in 0..40_u8 {
            assert_eq!(read(&reader, u64::from(len) + 1), Ok(vec![len; usize::from(len)]));
        }
        assert_eq!((reader.head(), read(&reader, 41)), (40, Err(Read::NotYet)));
    }

    #[test]
    fn the_oldest_go_for_their_number_or_their_bytes() {
        let (mut writer, reader) = pair(4, 1 << 10);
        (1..=6).for_each(|number| writer.publish(number, b"short"));
        let found: Vec<_> = (1..=7).map(|number| read(&reader, number).is_ok()).collect();
        assert_eq!(found, [false, false, true, true, true, true, false]);

        let (mut writer, reader) = pair(1024, 64);
        (1..=9).for_each(|number| writer.publish(number, &[9; 16]));
        let found: Vec<_> = (1..=9).map(|number| read(&reader, number).is_ok()).collect();
        assert_eq!(found, [false, false, false, false, false, true, true, true, true]);
        assert_eq!(read(&reader, 1), Err(Read::Missed));
    }

    #[test]
    fn what_is_too_long_is_missed_and_the_next_one_is_not() {
        let (mut writer, reader) = pair(8, 256);
        assert_eq!(writer.longest(), 64);
        writer.publish(1, &[1; 64]);
        writer.publish(2, &[2; 65]);
        writer.publish(3, b"three");
        assert_eq!(read(&reader, 1), Ok(vec![1; 64]));
        assert_eq!((read(&reader, 2), read(&reader, 3)), (Err(Read::Missed), Ok(b"three".to_vec())));
    }

    #[test]
    fn numbers_that_are_left_out_end_what_was_before_and_old_ones_are_ignored() {
        let (mut writer, reader) = pair(8, 256);
        writer.publish(1, b"one");
        writer.publish(10, b"ten");
        let found = [1, 5, 10].map(|number| read(&reader, number));
        assert_eq!(found, [Err(Read::Missed), Err(Read::Missed), Ok(b"ten".to_vec())]);
        writer.publish(10, b"again");
        writer.publish(3, b"old");
        assert_eq!((read(&reader, 10), reader.head()), (Ok(b"ten".to_vec()), 10));
    }

    #[test]
    fn readers_of_other_threads_get_whole_messages_or_none() {
        let (mut writer, reader) = pair(8, 512);
        let last = 20_000;
        std::thread::scope(|scope| {
            let reader = &reader;
            for _ in 0..2 {
                scope.spawn(move || {
                    let mut number = 1;
                    while number <= last {
                        match read(reader, number) {
                            Ok(message) => {
                                let expected = number.to_le_bytes().repeat(1 + number as usize % 12);
                                assert_eq!(message, expected);
                                number += 1;
                            }
                            Err(Read::NotYet) => std::thread::yield_now(),
                            Err(_) => number = reader.head().max(number + 1),
                        }
                    }
                });
            }
            (1..=last).for_each(|number| {
                writer.publish(number, &number.to_le_bytes().repeat(1 + number as usize % 12))
            });
        });
    }

    #[test]
    fn nobody_but_the_writer_can_change_the_memory() {
        let (writer, _reader) = pair(8, 256);
        let memory = writer.memory().unwrap();
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err(), "it can't be written");
        assert!(rustix::fs::ftruncate(&memory, 8).is_err(), "it can't be cut short");
        assert!(crate::os::Mapping::shared(memory.as_fd(), 64).is_err(), "it can't be mapped for writing");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
        let again = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        assert!(rustix::io::pwrite(&again, b"x", 0).is_err(), "not even opened anew");
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let reason = |memory: OwnedFd| match Reader::open(memory) {
            Err(Error::Ring { reason }) => reason,
            other => panic!("{other:?} for no ring"),
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = |bytes: &[u8], seals| {
            let memory = rustix::fs::memfd_create("x", flags).unwrap();
            rustix::io::pwrite(&memory, bytes, 0).unwrap();
            rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
            memory
        };
        assert_eq!(reason(memory(&[0; 512], SealFlags::empty())), "it is not sealed against resizing");
        assert_eq!(reason(memory(&[], SIZE_SEALS)), "its size is wrong");
        assert_eq!(reason(memory(&[0; 511], SIZE_SEALS)), "its size is wrong");
        assert_eq!(reason(memory(&[0; 512], SIZE_SEALS)), "it does not begin as one of this version");
        // A shape that has other words than there are.
        let words = [words::MAGIC, 1 << 40, 1 << 40].map(u64::to_le_bytes).concat();
        assert_eq!(reason(memory(&words, SIZE_SEALS)), "it does not begin as one of this version");
        assert!(matches!(Writer::create(1, MOST + 1), Err(Error::Ring { .. })));
        let (pipe, _) = std::io::pipe().unwrap();
        assert_eq!(reason(pipe.into()), "it cannot be sealed");
    }
}
