//! The share of the memory that is a process's own.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::Error;
use super::files;
use super::text::{behind, number, words};

/// What a process's share of the memory is read from, once: `/proc/PID/smaps_rollup`, opened.
///
/// Made by [`Sampler::rollup`](super::Sampler::rollup), in the loop, to be read in another thread.
#[derive(Debug)]
pub struct Rollup {
    pid: u32,
    path: PathBuf,
    file: OwnedFd,
}

impl Rollup {
    pub(super) fn new(pid: u32, path: PathBuf, file: OwnedFd) -> Self {
        Self { pid, path, file }
    }

    /// Reads it. Expensive: see [`Sampler::proportional`](super::Sampler::proportional).
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the process has ended or has become another program meanwhile (its memory is gone, or its
    /// first thread has ended). [`Error::Malformed`] if the kernel writes something else these days.
    pub fn read(self) -> Result<Proportional, Error> {
        let mut buffer = [0; 4096];
        match files::read(&self.file, &mut buffer) {
            Ok([]) | Err(Errno::SRCH) => Err(Error::Gone { pid: self.pid }),
            Ok(text) => Proportional::parse(text).ok_or(Error::Malformed { path: self.path }),
            Err(errno) => Err(Error::of_living("read", self.pid, &self.path, errno)),
        }
    }
}

/// A process's share of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proportional {
    present: u64,
    swapped: u64,
}

impl Proportional {
    /// Its share of what is present, in bytes (`PSS`): a page of `n` processes counts `1/n`.
    pub fn bytes(self) -> u64 {
        self.present
    }

    /// What is swapped out of it, in bytes, pages of several in full.
    pub fn swapped_bytes(self) -> u64 {
        self.swapped
    }

    /// Reads `/proc/PID/smaps_rollup`, or returns `None` if that is something else.
    fn parse(text: &[u8]) -> Option<Self> {
        let present = kilobytes(behind(text, "Pss:")?)?;
        // Not there where the kernel is built without swapping.
        let swapped = behind(text, "Swap:").and_then(kilobytes).unwrap_or(0);
        Some(Self { present, swapped })
    }
}

/// `12 kB`, in bytes.
fn kilobytes(text: &[u8]) -> Option<u64> {
    let mut words = words(text);
    let bytes = number(words.next()?)?.checked_mul(1024)?;
    (words.next() == Some(b"kB")).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "5581eff5a000-7ffe5a5c9000 ---p 00000000 00:00 0    [rollup]\nRss:  1528 kB\n\
                        Pss:             139 kB\nPss_Dirty:       108 kB\nPss_Anon: 100 kB\nSwap: 8 kB\nSwapPss: 4 kB\n";

    #[test]
    fn the_share_is_told_from_its_parts() {
        let read = Proportional::parse(TEXT.as_bytes()).unwrap();
        assert_eq!((read.bytes(), read.swapped_bytes()), (139 << 10, 8 << 10));
        let without = TEXT.replace("Swap: 8 kB\n", "");
        assert_eq!(Proportional::parse(without.as_bytes()).unwrap().swapped_bytes(), 0);
        assert_eq!(Proportional::parse(b"Pss: many kB\n"), None);
        assert_eq!(Proportional::parse(b"Pss: 18446744073709551615 kB\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200_usize) {
            let _ = Proportional::parse(&bytes);
            let mut text = TEXT.as_bytes().to_vec();
            text.splice(at.min(text.len())..at.saturating_add(9).min(text.len()), bytes);
            let _ = Proportional::parse(&text);
        }
    }
}
