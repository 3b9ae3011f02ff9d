//! A program to start, pinned by descriptor.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags};

use super::Error;

/// An executable that is held open, so that a file replaced or deleted on disk doesn't change what is
/// started.
///
/// It is started through `/proc/self/fd`, which needs a mounted `/proc`. Only a program in the kernel's own format
/// (ELF) can be: the interpreter of a script (`#!`) gets the script's path, and would not find a descriptor that is
/// closed on exec. Anything else is therefore started by its path, and [`is_pinned`](Self::is_pinned) says so.
///
/// The kernel names a process after the path that it was started from. So a pinned one is called by the number of a
/// descriptor (`/proc/PID/comm`, `ps -o comm`, `pgrep` and `killall` without `-f`), unless it gives itself a name
/// (`PR_SET_NAME`); its arguments (`ps -o args`) are what they should be.
///
/// Dropping it closes the file; what was started runs on.
///
/// ```
/// use cluster_supervisor::os::Executable;
///
/// let program = Executable::find("sh")?;
/// assert!(program.is_pinned());
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct Executable {
    file: OwnedFd,
    path: PathBuf,
    /// Where it is started from, if it can't be from the descriptor; absolute.
    by_path: Option<PathBuf>,
}

impl Executable {
    /// Pins the program that is running now, even if its file has been replaced since it began. Its path is the one that
    /// it was started from, where its replacement may be.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], for example without `/proc`.
    pub fn current() -> Result<Self, Error> {
        let link = Path::new("/proc/self/exe");
        let path = std::fs::read_link(link).unwrap_or_else(|_| link.to_owned());
        let file = open(link)?;
        let path = before_deletion(&file, path);
        Ok(Self { file, path, by_path: None })
    }

    /// Pins the program at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], also for an empty file: one that is being written, say.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let file = open(&path)?;
        let failed = |source| Error::Open { path: path.clone(), source };
        let by_path = match format(&file) {
            Format::Kernels => None,
            Format::Other => Some(std::path::absolute(&path).map_err(failed)?),
            Format::Empty => {
                let source = std::io::Error::new(ErrorKind::InvalidData, "the file is empty");
                return Err(failed(source));
            }
        };
        Ok(Self { file, path, by_path })
    }

    /// Pins the program of this name, looked up in this process's `PATH` as a shell would; a name with a slash
    /// is a path.
    ///
    /// Without `PATH` it looks in `/usr/local/bin`, `/usr/bin` and `/bin`. Empty and relative entries are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] when no directory has an executable file of that name, or it can't be opened.
    pub fn find(name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let name = Path::new(name.as_ref());
        if name.as_os_str().as_encoded_bytes().contains(&b'/') {
            return Self::open(name);
        }
        let directories = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        std::env::split_paths(&directories)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
            .map_or_else(
                || Err(Error::Open { path: name.to_owned(), source: ErrorKind::NotFound.into() }),
                Self::open,
            )
    }

    /// The path it had when it was pinned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether exactly the file that was opened is started, whatever becomes of its path.
    ///
    /// If not (a script), each start takes what the path leads to at that time: then a roll back to this executable
    /// may find a newer file, and whoever offers one should say so.
    pub fn is_pinned(&self) -> bool {
        self.by_path.is_none()
    }

    /// What to start in a process that has this executable open.
    pub(super) fn start_path(&self) -> PathBuf {
        self.by_path.clone().unwrap_or_else(|| descriptor_path(&self.file))
    }
}

impl AsFd for Executable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The path that a file had, out of what the kernel calls it: after it was deleted, a suffix says so.
fn before_deletion(file: &OwnedFd, path: PathBuf) -> PathBuf {
    let Some(before) = path.as_os_str().as_bytes().strip_suffix(b" (deleted)") else { return path };
    // A file may be called so. Then it has a name still, and is where its path says.
    let has_no_name = rustix::fs::fstat(file).is_ok_and(|status| status.st_nlink == 0);
    let before = Path::new(OsStr::from_bytes(before)).to_owned();
    if has_no_name || path.symlink_metadata().is_err() { before } else { path }
}

/// The path of a descriptor of this process.
pub(super) fn descriptor_path(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .and_then(above_standard_streams)
        .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })
}

/// A program that has closed its stdin gets files there; in a child the child's stdin would take the executable's place.
fn above_standard_streams(file: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if file.as_raw_fd() > 2 { Ok(file) } else { rustix::io::fcntl_dupfd_cloexec(&file, 3) }
}

/// What a file has to be started as.
enum Format {
    /// The kernel runs the file itself.
    Kernels,
    /// A script, or nothing that can be started.
    Other,
    Empty,
}

/// A file that can't be read is no script: its interpreter could not read it, either.
fn format(file: &OwnedFd) -> Format {
    // Non-blocking, or opening a pipe with a name would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(descriptor_path(file), flags, Mode::empty()) else {
        return Format::Kernels;
    };
    let mut magic = Vec::new();
    match File::from(file).take(4).read_to_end(&mut magic) {
        Ok(0) => Format::Empty,
        Ok(_) if magic != b"\x7fELF" => Format::Other,
        Ok(_) | Err(_) => Format::Kernels,
    }
}
