//! Children that nobody started here: orphans that came to this process as PID 1 or subreaper.

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, getpid, set_child_subreaper, waitid};

use super::Error;
use super::procfs::{Process, Procfs};
use crate::Exit;

/// Makes orphans below this process its children, as PID 1 gets them otherwise (`PR_SET_CHILD_SUBREAPER`).
///
/// From then on somebody must reap them: a [`Reaper`]. The setting is the process's, kept over exec, and not inherited.
///
/// # Errors
///
/// [`Error::Os`].
pub fn become_subreaper() -> Result<(), Error> {
    // Any pid means "yes" to this call; none means "no".
    set_child_subreaper(Some(getpid())).map_err(Error::os("become a child subreaper"))
}

/// An orphan that has ended and was reaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphan {
    /// The pid that it had.
    pub pid: u32,
    /// What it called itself: words of its choice, to be escaped where they are printed.
    pub name: String,
    /// How it ended.
    pub exit: Exit,
}

/// Reaps orphans, and leaves alone the children that somebody here waits for.
///
/// Call it whenever `SIGCHLD` has come ([`Signals`](super::Signals)), and once at the start: before an exec, and before
/// the signal was watched, some may have ended already.
/// It never waits for "any child": that would take the exit of a [`Child`](super::Child) away from it.
///
/// Which children are whose, the caller says. A pid must count as owned from before its process starts until it has
/// been reaped. So start and reap in one thread, or hold one lock around starting a child and noting its pid,
/// and around [`reap`](Self::reap).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cluster_supervisor::os::{ChildSpec, Executable, Reaper};
///
/// let child = ChildSpec::new(Executable::open("/bin/true")?).spawn()?;
/// let owned = [child.pid()];
/// for orphan in Reaper::new().reap(|pid| owned.contains(&pid))? {
///     println!("orphan {} ({:?}) {}", orphan.pid, orphan.name, orphan.exit);
/// }
/// assert!(child.kill_and_reap().is_ok()); // nobody took its exit
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reaper {
    procfs: Procfs,
}

impl Reaper {
    /// A reaper of this process's orphans.
    pub fn new() -> Self {
        Self { procfs: Procfs::new() }
    }

    /// Reaps all that have ended when it is called, and returns them. It never waits.
    ///
    /// Others may end meanwhile, as many as they like: of these `SIGCHLD` tells anew, and the next call reaps them. So the
    /// work of one call is bounded by how many processes there can be.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`] without `/proc`; [`Error::Os`].
    pub fn reap(&self, owned: impl Fn(u32) -> bool) -> Result<Vec<Orphan>, Error> {
        // Most calls find nobody. This one call of the system says so.
        if peek(WaitId::All)?.is_none() {
            return Ok(Vec::new());
        }
        let mut reaped = Vec::new();
        for orphan in self.orphans(owned)?.into_iter().filter(Process::is_dead) {
            // By its number: it is our child and has ended, so until here nobody else can have got it.
            if let Some(exit) = reap(orphan.identity.pid)? {
                reaped.push(Orphan { pid: orphan.identity.pid, name: orphan.name, exit });
            }
        }
        Ok(reaped)
    }

    /// The pids of those that have ended and wait to be reaped: for one who leaves them to others for a while.
    ///
    /// # Errors
    ///
    /// As [`reap`](Self::reap).
    pub fn dead(&self, owned: impl Fn(u32) -> bool) -> Result<Vec<u32>, Error> {
        if peek(WaitId::All)?.is_none() {
            return Ok(Vec::new());
        }
        let orphans = self.orphans(owned)?;
        let dead = orphans.iter().filter(|orphan| orphan.is_dead());
        Ok(dead.map(|orphan| orphan.identity.pid).collect())
    }

    /// The pids of orphans that live: those to [claim](super::Tree::claim) when all is to end.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`].
    pub fn living(&self, owned: impl Fn(u32) -> bool) -> Result<Vec<u32>, Error> {
        let orphans = self.orphans(owned)?;
        let living = orphans.iter().filter(|orphan| !orphan.is_dead());
        Ok(living.map(|orphan| orphan.identity.pid).collect())
    }

    fn orphans(&self, owned: impl Fn(u32) -> bool) -> Result<Vec<Process>, Error> {
        let me = std::process::id();
        let mut processes = self.procfs.processes()?;
        processes.retain(|process| process.parent == me && !owned(process.identity.pid));
        Ok(processes)
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new()
    }
}

/// How a child ended that may be reaped, without reaping it. `None` if it runs, or if there is none.
pub(super) fn peek(id: WaitId<'_>) -> Result<Option<WaitIdStatus>, Error> {
    wait(id, WaitIdOptions::NOWAIT)
}

fn reap(pid: u32) -> Result<Option<Exit>, Error> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    Ok(wait(WaitId::Pid(pid), WaitIdOptions::empty())?.and_then(|status| exit(&status)))
}

fn wait(id: WaitId<'_>, more: WaitIdOptions) -> Result<Option<WaitIdStatus>, Error> {
    match waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | more) {
        Ok(status) => Ok(status),
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(Error::os("see whether a child has ended")(errno)),
    }
}

/// What [`peek`] returned, as an exit.
pub(super) fn exit(status: &WaitIdStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}
