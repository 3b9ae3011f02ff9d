//! The limit of open files (`RLIMIT_NOFILE`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Error;

/// A limit of open files: the soft one counts, the hard one bounds it. `u64::MAX` means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    soft: u64,
    hard: u64,
}

impl OpenFiles {
    /// This process's limit.
    pub fn current() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// How many files may be open.
    pub fn soft(self) -> u64 {
        self.soft
    }

    /// How far the soft limit may be raised.
    pub fn hard(self) -> u64 {
        self.hard
    }
}

/// Raises this process's soft limit to its hard one and returns what it was before, for
/// [`set_open_files`] in children: programs that use `select` break with a high limit.
///
/// # Errors
///
/// [`Error::Os`].
pub fn raise_open_files() -> Result<OpenFiles, Error> {
    let before = OpenFiles::current();
    if before.soft < before.hard {
        set_open_files(before.hard)?;
    }
    Ok(before)
}

/// Sets this process's soft limit, at most to its hard one.
///
/// # Errors
///
/// [`Error::Os`].
pub fn set_open_files(soft: u64) -> Result<(), Error> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let soft = soft.min(maximum.unwrap_or(u64::MAX));
    let current = (soft != u64::MAX).then_some(soft);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).map_err(Error::os("set the limit of open files"))
}

/// How many descriptors this process has open.
///
/// # Errors
///
/// [`Error::Os`], for example without `/proc`.
pub fn open_descriptors() -> Result<u64, Error> {
    let listing = std::fs::read_dir("/proc/self/fd").map_err(Error::os("list the open descriptors"))?;
    // The listing itself has one open.
    Ok((listing.count() as u64).saturating_sub(1))
}
