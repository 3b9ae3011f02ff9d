//! Opening and reading the files of the kernel.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::{Errno, pread, retry_on_intr};

/// A file for reading.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    open_at(CWD, path)
}

/// A file for reading, below a folder.
pub(super) fn open_at(folder: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    // Never a terminal, and nothing that would make us wait: who knows what a root given by somebody holds.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    retry_on_intr(|| openat(folder.as_fd(), path.as_ref(), flags, Mode::empty()))
}

/// A folder.
pub(super) fn open_folder_at(folder: impl AsFd, path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    retry_on_intr(|| openat(folder.as_fd(), path.as_ref(), flags, Mode::empty()))
}

/// The beginning of a file as it is now. The kernel makes all of it up at the first read, so one read is enough.
pub(super) fn read(file: impl AsFd, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    let len = retry_on_intr(|| pread(file.as_fd(), &mut *buffer, 0))?;
    Ok(buffer.get(..len).unwrap_or_default())
}

/// Longer than any file that is read for people: `status` has some 1.5 KB.
const LONGEST: usize = 4096;

/// At most 4 KB of a file below a folder, or `None` if it may not be read, or is not there (any more).
pub(super) fn read_at(folder: impl AsFd, path: impl AsRef<Path>) -> Option<Vec<u8>> {
    let mut buffer = [0; LONGEST];
    let file = open_at(folder, path).ok()?;
    read(&file, &mut buffer).ok().map(<[u8]>::to_vec)
}

/// Calls `each` with the names in an open folder, until it returns `false`, in memory of fixed size.
pub(super) fn names(folder: impl AsFd, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Errno> {
    let mut buffer = [const { MaybeUninit::uninit() }; 2048];
    seek(folder.as_fd(), SeekFrom::Start(0))?;
    let mut entries = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !each(name) {
            break;
        }
    }
    Ok(())
}
