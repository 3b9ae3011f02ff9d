//! Processes as `/proc` shows them.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::Error;

/// Which process: a pid is used again after its process is gone, a pid with a start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// In clock ticks since boot.
    pub(super) started: u64,
}

/// What `/proc/PID/stat` says of a process, as far as it matters here (`proc_pid_stat(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) identity: Identity,
    /// What it calls itself: bytes of its choice, at most 64.
    pub(super) name: String,
    state: u8,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    threads: u32,
}

impl Process {
    /// Reads one line of `/proc/PID/stat`, or `None` if it is none.
    ///
    /// The name stands in parentheses and may hold spaces, parentheses and line feeds itself. Nothing after it can,
    /// so it ends at the last closing one.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
        let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // These were fields 3 to 6; the number of threads is the 20th, the start time the 22nd.
        let threads = fields.nth(13)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        let identity = Identity { pid, started };
        Some(Self { identity, name, state, parent, group, session, threads })
    }

    /// Whether it has ended and only waits to be reaped.
    ///
    /// A process whose first thread has ended is shown as a zombie, too, while its other threads run.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Whether it stands still: stopped, or in the kernel where no signal reaches it yet.
    ///
    /// The second is what the parent of a stopped `vfork` child is in. It acts on its signals before it runs again.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.state, b'T' | b't' | b'D')
    }
}

#[cfg(test)]
impl Process {
    /// A running process with one thread.
    pub(super) fn sample(pid: u32, parent: u32, group: u32, session: u32) -> Self {
        let identity = Identity { pid, started: u64::from(pid) };
        Self { identity, name: String::new(), state: b'S', parent, group, session, threads: 1 }
    }

    pub(super) fn in_state(mut self, state: u8) -> Self {
        self.state = state;
        self
    }

    pub(super) fn started(mut self, ticks: u64) -> Self {
        self.identity.started = ticks;
        self
    }
}

/// A mounted `/proc`, or what a test takes for one.
#[derive(Clone, Debug)]
pub(super) struct Procfs {
    root: PathBuf,
}

impl Procfs {
    pub(super) fn new() -> Self {
        Self { root: PathBuf::from("/proc") }
    }

    #[cfg(test)]
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All processes that this one may see. One that comes or goes meanwhile may be there or not.
    pub(super) fn processes(&self) -> Result<Vec<Process>, Error> {
        let failed = |source| Error::Proc { path: self.root.clone(), source };
        let mut processes = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            processes.extend(self.process(pid)?);
        }
        Ok(processes)
    }

    /// What to say when it shows not even this process.
    pub(super) fn is_missing(&self) -> Error {
        Error::Proc { path: self.root.clone(), source: ErrorKind::NotFound.into() }
    }

    /// One process, or `None` if there is none of this pid that this one may see.
    pub(super) fn process(&self, pid: u32) -> Result<Option<Process>, Error> {
        let path = self.root.join(pid.to_string()).join("stat");
        match read(&path) {
            Ok(line) => Ok(Process::parse(&line)),
            // Whatever else goes wrong (no descriptor left, say) must not look as if nobody were there.
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(Error::Proc { path, source }),
        }
    }
}

/// What to say when something could not be found through `/proc`, if that isn't there.
pub(super) fn without_proc() -> Option<Error> {
    let path = Path::new("/proc/self/fd");
    let source = path.symlink_metadata().err()?;
    Some(Error::Proc { path: path.to_owned(), source })
}

/// Several times what the kernel writes at most: 52 numbers and a name.
const LONGEST: u64 = 4096;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    File::open(path)?.take(LONGEST).read_to_end(&mut line)?;
    Ok(line)
}

/// Gone, or hidden from us (`hidepid`): a process of another user, whom we could not signal either.
fn is_gone(error: &io::Error) -> bool {
    let gone = error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    gone || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "2264 (python3) S 2223 2216 18555 0 -1 4227148 366 0 0 0 0 0 0 0 20 0 2 0 4903225 0 0 \
                        18446744073709551615 0 0 0 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    fn parsed(line: &str) -> Process {
        Process::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let process = parsed(LINE);
        assert_eq!(process.identity, Identity { pid: 2264, started: 4_903_225 });
        assert_eq!((process.parent, process.group, process.session), (2223, 2216, 18555));
        assert_eq!((&*process.name, process.threads), ("python3", 2));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_not_dead() {
        let zombie = LINE.replace(" S ", " Z ");
        assert!(!parsed(&zombie).is_dead(), "its other thread runs");
        assert!(parsed(&zombie.replace("20 0 2 0", "20 0 1 0")).is_dead());
        assert!(!parsed(LINE).is_dead());
    }

    #[test]
    fn nothing_a_process_calls_itself_deceives_us() {
        for name in [") R 1 1 1 0", "((", "a b\n) Z", "", "\u{fffd}"] {
            let line = LINE.replace("python3", name);
            let process = parsed(&line);
            assert_eq!((process.identity.pid, process.parent, &*process.name), (2264, 2223, name));
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Process::parse(&line);
        }

        #[test]
        fn any_name_leaves_the_numbers_alone(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut line = b"7 (".to_vec();
            line.extend(name);
            line.extend(&LINE.as_bytes()[LINE.find(')').unwrap()..]);
            let process = Process::parse(&line).unwrap();
            prop_assert_eq!((process.identity.pid, process.identity.started), (7, 4_903_225));
        }
    }

    #[test]
    fn this_process_is_among_those_listed() {
        let proc = Procfs::new();
        let me = proc.process(std::process::id()).unwrap().unwrap();
        assert!(!me.is_dead() && !me.is_frozen());
        assert!(proc.processes().unwrap().iter().any(|process| process.identity == me.identity));
    }

    #[test]
    fn without_proc_nobody_is_not_the_answer() {
        let error = Procfs::at("/nonexistent").processes().unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
