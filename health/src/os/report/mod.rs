//! What a sick process looks like, before it is replaced.

mod condition;
mod display;
mod stat;
mod system_call;
mod thread;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::test_kill_process;

pub use self::condition::Condition;
use self::stat::Stat;
pub use self::stat::State;
pub use self::system_call::SystemCall;
pub use self::thread::{Switches, ThreadReport};

use super::sampler::known;
use super::text::{behind, number};
use super::{Error, Roots, files};
use crate::Sample;

/// More threads than these are only counted.
const THREADS: usize = 64;

/// What a process looks like at a moment: what it waits for or does, thread by thread. For people, to be written down
/// when it is unhealthy and about to be replaced.
///
/// Its `Display` begins with a line that says what it looks like:
///
/// ```text
/// stopped by a signal
/// process 4711 "worker": 4 threads, 1.52 s of processor time, 12.3 MiB resident, 14 descriptors; context switches: 120 voluntary, 4 forced
/// 4711 "worker": stopped in epoll_wait (do_signal_stop), 1.50 s
/// 3 threads like 4712 "tokio-rt": stopped in futex (do_signal_stop), 0.02 s
/// ```
///
/// Names are escaped there: they are what the process calls itself, any bytes.
/// What may not be read is left out. (The system call and where in the kernel a thread waits take the right to trace
/// the process: the same user and no `PR_SET_DUMPABLE` or `yama` against it.)
///
/// It takes some 30 µs for each thread. While the process is in the midst of an `exec`, it may have to wait for
/// that. So take it beside an event loop, not in it.
///
/// ```
/// use cluster_health::os::Report;
///
/// let report = Report::of(std::process::id())?;
/// assert!(report.threads().iter().any(|thread| thread.tid() == std::process::id()));
/// println!("{report}");
/// # Ok::<(), cluster_health::os::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pid: u32,
    /// Of its first thread; and, of the process, the processor time and the number of threads.
    stat: Stat,
    tracer: Option<u32>,
    threads: Vec<ThreadReport>,
    sample: Option<Sample>,
}

impl Report {
    /// Looks at a process, which must be a child of this one that has not been reaped: otherwise, a stranger may have
    /// its pid. [`Sampler::report`](super::Sampler::report) knows whom it looks at.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if it was reaped, otherwise as [`Sampler::open`](super::Sampler::open).
    pub fn of(pid: u32) -> Result<Self, Error> {
        Self::of_in(&Roots::new(), pid)
    }

    /// The same with other roots.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_in(roots: &Roots, pid: u32) -> Result<Self, Error> {
        let path = roots.of_process(pid)?;
        match files::open_folder_at(CWD, &path) {
            Ok(folder) => Self::from_folder(pid, &path, &folder),
            Err(Errno::NOENT | Errno::SRCH) if !exists(pid) => Err(Error::Gone { pid }),
            Err(errno) => Err(Error::of_living("open", pid, &path, errno)),
        }
    }

    /// From its folder in `/proc`, which has this path.
    pub(super) fn from_folder(pid: u32, path: &Path, folder: impl AsFd) -> Result<Self, Error> {
        let folder = folder.as_fd();
        let path = path.join("stat");
        let mut buffer = [0; 4096];
        let line = files::open_at(folder, "stat").and_then(|file| files::read(&file, &mut buffer)).map_err(
            |errno| match errno {
                Errno::NOENT | Errno::SRCH if !exists(pid) => Error::Gone { pid },
                errno => Error::of_living("read", pid, &path, errno),
            },
        )?;
        let stat = Stat::parse(line).ok_or(Error::Malformed { path })?;
        let tracer = files::read_at(folder, "status")
            .and_then(|status| number(behind(&status, "TracerPid:")?))
            .and_then(|tracer| u32::try_from(tracer).ok())
            .filter(|tracer| *tracer != 0);
        let threads = files::open_folder_at(folder, "task").map(threads).unwrap_or_default();
        Ok(Self { pid, stat, tracer, threads, sample: None })
    }

    /// Adds the last figures that were taken of it.
    #[must_use]
    pub fn sample(mut self, last: Sample) -> Self {
        self.sample = Some(last);
        self
    }

    /// Leaves threads of this name out: those that say nothing about the work, such as one that only watches. The kernel keeps 15 bytes of a
    /// name.
    #[must_use]
    pub fn without_threads(mut self, name: &str) -> Self {
        self.threads.retain(|thread| thread.name() != name);
        self
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it calls itself: words of its choice, to be escaped where they are printed.
    pub fn name(&self) -> &str {
        &self.stat.name
    }

    /// The state of its first thread, which is what tools show as that of the process.
    pub fn state(&self) -> State {
        self.stat.state
    }

    /// What all of it looks like.
    pub fn condition(&self) -> Condition {
        Condition::of(self.stat.state, self.thread_count(), &self.threads)
    }

    /// Who traces it (a debugger), if that is anybody.
    pub fn tracer(&self) -> Option<u32> {
        self.tracer
    }

    /// Its threads, the first one first, at most 64 of them. Empty if they may not be looked at.
    pub fn threads(&self) -> &[ThreadReport] {
        &self.threads
    }

    /// How many threads it has, those beyond 64 too.
    pub fn thread_count(&self) -> u64 {
        self.stat.threads.max(u64::try_from(self.threads.len()).unwrap_or(u64::MAX))
    }

    /// Processor time of the process, in the coarse ticks of `/proc`.
    pub fn processor_time(&self) -> Duration {
        self.stat.processor
    }

    /// How often the threads that were looked at have left a processor so far.
    pub fn switches(&self) -> Option<Switches> {
        self.threads.iter().filter_map(ThreadReport::switches).reduce(Switches::plus)
    }

    /// The last figures that were taken of it.
    pub fn last_sample(&self) -> Option<Sample> {
        self.sample
    }
}

/// The first threads of a process, from its folder `task`. The kernel lists them in the order of their beginning.
fn threads(task: impl AsFd) -> Vec<ThreadReport> {
    let mut ids = Vec::with_capacity(THREADS);
    // Those that were listed before an error are worth telling of.
    let _ = files::names(&task, |name| {
        ids.extend(number(name).and_then(|id| u32::try_from(id).ok()));
        ids.len() < THREADS
    });
    let mut threads: Vec<_> = ids.iter().filter_map(|id| ThreadReport::of(&task, *id)).collect();
    // Whoever runs, or waits uninterruptibly, still when all others have been looked at doesn't just do so in passing.
    for thread in &mut threads {
        thread.look_again(&task);
    }
    threads
}

/// Whether there is such a process, perhaps one that has ended and was not reaped.
fn exists(pid: u32) -> bool {
    known(pid).is_ok_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}
