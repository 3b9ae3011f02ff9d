//! The figures of one process, taken again and again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::ClockId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, PROC_SUPER_MAGIC, fstat, fstatfs};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::files;
use super::text::{number, words};
use super::{Error, Proportional, Report, Rollup, Roots};
use crate::Sample;

/// Takes the figures of one process, again and again, at five system calls and no allocation each time.
///
/// It is opened once and keeps four descriptors: the process's `/proc/PID/statm`, `fd` and `task`, and its pidfd.
/// So it can't take another process that got the same pid for this one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::process::{Command, Stdio};
/// use cluster_health::os::Sampler;
///
/// let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
/// let mut sampler = Sampler::open(child.id())?;
/// let sample = sampler.sample()?;
/// assert!(sample.resident_bytes() > Some(0));
/// assert_eq!(sample.thread_count(), Some(1));
///
/// child.kill()?;
/// child.wait()?;
/// assert!(sampler.sample().is_err_and(|error| error.is_gone()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sampler {
    pid: u32,
    /// `/proc/PID`, to be named in errors.
    folder: PathBuf,
    pidfd: OwnedFd,
    statm: OwnedFd,
    task: OwnedFd,
    /// `None` if it may not be read: an undumpable process's, or another user's.
    descriptors: Option<Descriptors>,
    clock: ClockId,
    last: Option<Sample>,
}

impl Sampler {
    /// Begins with a process, which must be a child of this one that has not been reaped: otherwise, a stranger may
    /// have its pid.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if it has ended. [`Error::NoProc`], [`Error::ForeignProc`], [`Error::Hidden`] and
    /// [`Error::TooManyOpen`] say what to do. [`Error::NotAProcess`] of the id of a thread, [`Error::Os`] where there are no pidfds (before Linux 5.3).
    pub fn open(pid: u32) -> Result<Self, Error> {
        Self::open_in(&Roots::new(), pid)
    }

    /// The same with other roots.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_in(roots: &Roots, pid: u32) -> Result<Self, Error> {
        let pidfd = match pidfd_open(known(pid)?, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(Error::Gone { pid }),
            // The one before Linux 6.16, the other one since.
            Err(Errno::INVAL | Errno::NOENT) => return Err(Error::NotAProcess { pid }),
            Err(errno) => {
                return Err(Error::of_living("open a pidfd for", pid, &roots.of_process(pid)?, errno));
            }
        };
        Self::with_pidfd(roots, pid, pidfd)
    }

    /// Begins with a process of which the caller has a pidfd. It is looked at after the pid has been used, each time:
    /// nobody else can have had the pid before then, so it needs no guarantee.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_pidfd(roots: &Roots, pid: u32, pidfd: OwnedFd) -> Result<Self, Error> {
        let opened = Self::open_files(roots, pid, pidfd)?;
        // Whoever has not ended by now had this pid all the time.
        if has_ended(&opened.pidfd) { Err(Error::Gone { pid }) } else { Ok(opened) }
    }

    fn open_files(roots: &Roots, pid: u32, pidfd: OwnedFd) -> Result<Self, Error> {
        let folder = roots.of_process(pid)?;
        let failed = |operation, path: &Path, errno| match errno {
            _ if has_ended(&pidfd) => Error::Gone { pid },
            errno => Error::of_living(operation, pid, path, errno),
        };
        let statm = folder.join("statm");
        let statm = files::open(&statm).map_err(|errno| failed("open", &statm, errno))?;
        let task = folder.join("task");
        let task = files::open_folder_at(CWD, &task).map_err(|errno| failed("open", &task, errno))?;
        let descriptors = folder.join("fd");
        let descriptors = match files::open_folder_at(CWD, &descriptors) {
            Ok(folder) => Some(Descriptors::in_folder(folder)),
            Err(Errno::ACCESS | Errno::PERM) => None,
            Err(errno) => return Err(failed("open", &descriptors, errno)),
        };
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(known(pid)?.as_raw_pid()))
            .map_err(|errno| failed("find the processor clock of", &folder, from_nix(errno)))?;
        Ok(Self { pid, folder, pidfd, statm, task, descriptors, clock, last: None })
    }

    /// Before Linux 6.2 descriptors must be counted one by one, which takes its time with thousands of them. So this
    /// is done only every so many samples, ten by default; those in between don't have that figure.
    #[must_use]
    pub fn count_descriptors_every(mut self, samples: u32) -> Self {
        if let Some(descriptors) = &mut self.descriptors {
            descriptors.every = samples.max(1);
            descriptors.until_counted = 0;
        }
        self
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The last sample that was taken.
    pub fn last(&self) -> Option<Sample> {
        self.last
    }

    /// Takes the figures: resident memory, processor time, open descriptors, threads. Allocates nothing unless it
    /// fails, and doesn't wait.
    ///
    /// A figure that may not be read is left out; so is the memory of a process whose first thread has ended, and of
    /// one that is just ending.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] once it has ended. Others would be news: they don't happen to what is open.
    pub fn sample(&mut self) -> Result<Sample, Error> {
        let taken = self.take();
        // Last, so that it holds for all of the above: until a process has ended nobody gets its pid, and files of
        // a process that has ended read as zeros or errors.
        if has_ended(&self.pidfd) {
            return Err(Error::Gone { pid: self.pid });
        }
        let sample = taken?;
        self.last = Some(sample);
        Ok(sample)
    }

    fn take(&mut self) -> Result<Sample, Error> {
        let mut sample = Sample::new();
        if let Some(bytes) = self.resident()? {
            sample = sample.resident(bytes);
        }
        let used = self.clock.now().map_err(|errno| {
            Error::of_living("read the processor clock of", self.pid, &self.folder, from_nix(errno))
        })?;
        sample = sample.processor(Duration::from(used));
        let folder = fstat(&self.task).map_err(|errno| self.unreadable("task", errno))?;
        // Besides `.` and the entry in the folder above, there is a folder for each thread.
        #[allow(clippy::useless_conversion, reason = "it has 32 bits on some architectures")]
        if let Some(threads @ 1..) = u64::from(folder.st_nlink).checked_sub(2) {
            sample = sample.threads(threads);
        }
        if let Some(descriptors) = &mut self.descriptors {
            match descriptors.number() {
                Ok(Some(open)) => sample = sample.descriptors(open),
                Ok(None) => {}
                Err(errno) => return Err(self.unreadable("fd", errno)),
            }
        }
        Ok(sample)
    }

    fn resident(&self) -> Result<Option<u64>, Error> {
        let mut buffer = [0; STATM_LEN];
        let line = files::read(&self.statm, &mut buffer).map_err(|errno| self.unreadable("statm", errno))?;
        let memory = Memory::parse(line).and_then(|memory| memory.resident_bytes(page_size()));
        memory.ok_or_else(|| Error::Malformed { path: self.folder.join("statm") })
    }

    fn unreadable(&self, name: &str, errno: Errno) -> Error {
        Error::of_living("read", self.pid, &self.folder.join(name), errno)
    }

    /// Opens what its share of the memory is read from, without reading it yet: for another thread.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if it has ended, [`Error::Denied`] if it may not be traced, [`Error::TooManyOpen`].
    pub fn rollup(&self) -> Result<Rollup, Error> {
        let path = self.folder.join("smaps_rollup");
        // By the folder that is open, which is of this process for ever.
        match files::open_at(&self.task, "../smaps_rollup") {
            Ok(file) => Ok(Rollup::new(self.pid, path, file)),
            Err(_) if has_ended(&self.pidfd) => Err(Error::Gone { pid: self.pid }),
            Err(errno) => Err(Error::of_living("open", self.pid, &path, errno)),
        }
    }

    /// Reads its share of the memory (`PSS`), and how much of it is swapped out.
    ///
    /// Expensive: some 10 ms for each GiB, in which the process can't change its memory map. So don't call it in an
    /// event loop; [`rollup`](Self::rollup) is for another thread.
    ///
    /// # Errors
    ///
    /// As [`rollup`](Self::rollup) and [`Rollup::read`].
    pub fn proportional(&self) -> Result<Proportional, Error> {
        self.rollup()?.read()
    }

    /// What it looks like now, with the last sample: for people, before it is replaced. See [`Report::of`].
    ///
    /// # Errors
    ///
    /// As [`Report::of`].
    pub fn report(&self) -> Result<Report, Error> {
        let folder = files::open_folder_at(&self.task, "..");
        let report = folder
            .map_err(|errno| Error::of_living("open", self.pid, &self.folder, errno))
            .and_then(|folder| Report::from_folder(self.pid, &self.folder, &folder));
        match (report, self.last) {
            (Ok(report), Some(last)) => Ok(report.sample(last)),
            (Ok(report), None) => Ok(report),
            // As long as it has not been reaped there is something to say, if only that it has ended.
            (Err(_), _) if has_ended(&self.pidfd) => Err(Error::Gone { pid: self.pid }),
            (Err(error), _) => Err(error),
        }
    }
}

/// A pid as the system calls want it. None is 0 or beyond the range of the system.
pub(super) fn known(pid: u32) -> Result<Pid, Error> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Error::Gone { pid })
}

fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

/// Whether all threads of the process have ended. A pidfd becomes readable then.
fn has_ended(pidfd: &OwnedFd) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = retry_on_intr(|| {
        let mut pidfds = [PollFd::new(pidfd, PollFlags::IN)];
        poll(&mut pidfds, Some(&NOW))
    });
    // It fails only for want of memory.
    ready.is_ok_and(|ready| ready > 0)
}

/// Seven numbers of at most twenty digits, and what is between them.
const STATM_LEN: usize = 160;

/// What `/proc/PID/statm` says, in pages (`proc_pid_statm(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    size: u64,
    resident: u64,
}

impl Memory {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut numbers = words(line).map(number);
        Some(Self { size: numbers.next()??, resident: numbers.next()?? })
    }

    /// In bytes: `Some(None)` of one without memory, which is a process whose first thread has ended; `None` if
    /// there can't be so much.
    fn resident_bytes(self, page_size: usize) -> Option<Option<u64>> {
        if self.size == 0 {
            return Some(None);
        }
        self.resident.checked_mul(u64::try_from(page_size).ok()?).map(Some)
    }
}

/// The open folder `/proc/PID/fd`.
#[derive(Debug)]
struct Descriptors {
    folder: OwnedFd,
    /// Whether its size can be their number: on others than the kernel's own file system it is something else.
    has_size: bool,
    every: u32,
    until_counted: u32,
}

impl Descriptors {
    fn in_folder(folder: OwnedFd) -> Self {
        let has_size = fstatfs(&folder).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC);
        Self { folder, has_size, every: 10, until_counted: 0 }
    }

    /// How many are open, or `None` if they have to be counted and it isn't time for that.
    fn number(&mut self) -> Result<Option<u64>, Errno> {
        // Since Linux 6.2 the size is their number; before that it is 0, as it is of none.
        if self.has_size
            && let Ok(open @ 1..) = u64::try_from(fstat(&self.folder)?.st_size)
        {
            return Ok(Some(open));
        }
        if self.until_counted > 0 {
            self.until_counted -= 1;
            return Ok(None);
        }
        self.until_counted = self.every - 1;
        count(self.folder.as_fd()).map(Some)
    }
}

fn count(folder: impl AsFd) -> Result<u64, Errno> {
    let mut entries = 0;
    files::names(folder, |_| {
        entries += 1;
        true
    })?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_statm_is_read() {
        let memory = Memory::parse(b"1530 403 357 9 0 142 0\n");
        assert_eq!(memory, Some(Memory { size: 1530, resident: 403 }));
        assert_eq!(memory.unwrap().resident_bytes(4096), Some(Some(403 * 4096)));
        assert_eq!(Memory::parse(b"0 0 0 0 0 0 0\n").unwrap().resident_bytes(4096), Some(None));
        assert_eq!((Memory::parse(b""), Memory::parse(b"12\n"), Memory::parse(b"a b")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_statm_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..STATM_LEN)) {
            let _ = Memory::parse(&line).map(|memory| memory.resident_bytes(4096));
        }

        #[test]
        fn no_number_of_pages_overflows(size: u64, resident: u64) {
            let memory = Memory::parse(format!("{size} {resident} 0").as_bytes()).unwrap();
            prop_assert_eq!(memory, Memory { size, resident });
            let _ = memory.resident_bytes(1 << 16);
        }
    }

    #[test]
    fn counting_gives_what_the_size_tells() {
        let mut own = Descriptors::in_folder(files::open_folder_at(CWD, "/proc/self/task").unwrap());
        assert!(own.has_size);
        // The threads of a test come and go; here it is only about where the number comes from.
        let counted = count(own.folder.as_fd()).unwrap();
        assert!(counted >= 1 && own.number().unwrap().is_some());
    }

    #[test]
    fn where_they_must_be_counted_that_is_done_seldom() {
        let folder = files::open_folder_at(CWD, "/proc/self/fd").unwrap();
        let mut descriptors = Descriptors { folder, has_size: false, every: 3, until_counted: 0 };
        let taken: Vec<_> = (0..7).map(|_| descriptors.number().unwrap().is_some()).collect();
        assert_eq!(taken, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_pid_that_cannot_be_is_nobodys() {
        assert!(Sampler::open(0).unwrap_err().is_gone());
        assert!(Sampler::open(u32::MAX).unwrap_err().is_gone());
    }
}
