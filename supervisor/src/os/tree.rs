//! A child with all that it started, and theirs.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::child::{group_of, is_unreaped, own_group, signal_group_of};
use super::family::{Family, Step};
use super::procfs::{Identity, Process, Procfs};
use super::{Child, Error};

/// A child and everybody who descends from it, for stopping all of them.
///
/// Found are: all that the child started and that these started; all of its process group and session, whoever their
/// parent is by now; and whoever was found before, wherever it went since. A process is known by pid and start time, and
/// signalled through a pidfd, so that a pid which was used again hits no stranger.
///
/// Not found is a daemon that was started, left group and session and lost its parent between two looks. Call
/// [`look`](Self::look) now and then to have seen it before; or make this process the subreaper
/// ([`become_subreaper`](super::become_subreaper)), to which such orphans come, and [`claim`](Self::claim) them.
///
/// It needs `/proc`; of processes that `hidepid` conceals it knows nothing. Dropping it signals nobody.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cluster_supervisor::os::{Ask, ChildSpec, Executable, Tree};
///
/// let script = "sleep 100 & wait";
/// let mut child = ChildSpec::new(Executable::open("/bin/sh")?).args(["-c", script]).spawn()?;
/// let mut tree = Tree::of(&child)?;
/// tree.ask(Ask::Child)?;
/// // … and when its time is over:
/// while !tree.kill_round()?.is_nobody() {
///     std::thread::yield_now(); // a real loop waits some milliseconds here, and gives up at last
/// }
/// assert!(child.try_reap()?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tree {
    root: Identity,
    pidfd: OwnedFd,
    family: Family,
    procfs: Procfs,
}

/// Whom [`Tree::ask`] asks to stop. Whoever is left at the deadline is killed in any case.
///
/// The default is what systemd calls `KillMode=mixed`: SIGTERM to the child alone, SIGKILL to all.
/// A program with workers of its own wants to stop them in its order, and one that is asked twice (by us, and by its
/// parent that passes the signal on) often takes the second time for "now".
/// A shell that runs a pipeline passes nothing on: ask its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ask {
    /// The child alone.
    #[default]
    Child,
    /// All of its process group; the child alone if it does not lead one.
    Group,
    /// Everybody in the tree, daemons too.
    Tree,
}

/// Who was left after [`Tree::kill_round`] had looked and before its signals took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Left {
    living: usize,
    refused: usize,
}

impl Left {
    /// Whether the tree has ended. Its dead may still have to be reaped: the child by its [`Child`], others by a
    /// [`Reaper`](super::Reaper) if they are ours.
    pub fn is_nobody(self) -> bool {
        self.living == 0
    }

    /// How many processes were there.
    pub fn living(self) -> usize {
        self.living
    }

    /// How many of these living this process may not signal, since they changed their user: waiting for them is in vain.
    pub fn refused(self) -> usize {
        self.refused
    }
}

impl Tree {
    /// The tree of a child that has not been reaped yet.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`] without `/proc`; [`Error::Hidden`] if that doesn't show the child; [`Error::Os`] at the limit of
    /// open files, or when the child was reaped.
    pub fn of(child: &Child) -> Result<Self, Error> {
        Self::seen_in(Procfs::new(), child)
    }

    fn seen_in(procfs: Procfs, child: &Child) -> Result<Self, Error> {
        let Some(process) = procfs.process(child.pid())? else { return Err(unseen(&procfs, child)) };
        let root = process.identity;
        let family = Family::new(root, std::process::id());
        Ok(Self { root, pidfd: child.try_clone_pidfd()?, family, procfs })
    }

    /// Looks who belongs to the tree now, remembers them, and returns how many live.
    ///
    /// It reads `/proc/PID/stat` of every process of the machine: some milliseconds with a thousand of them.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`].
    pub fn look(&mut self) -> Result<usize, Error> {
        Ok(self.look_among(&self.procfs.processes()?))
    }

    /// The same among processes that were listed before: for one who looks at several trees.
    pub(super) fn look_among(&mut self, listed: &[Process]) -> usize {
        self.family.handle_look(listed).len()
    }

    /// Takes a child of this process into the tree that it did not start: an orphan that came to us as the subreaper.
    /// Returns whether there is one of this pid.
    ///
    /// Whose orphan it is cannot be seen any more. A supervisor with one child knows, and one that stops everything
    /// needs not to. Other children of this process must not be claimed.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`].
    pub fn claim(&mut self, orphan: u32) -> Result<bool, Error> {
        let process = self.procfs.process(orphan)?;
        let Some(process) = process.filter(|process| process.parent == std::process::id()) else {
            return Ok(false);
        };
        self.family.claim(process.identity);
        Ok(true)
    }

    /// Asks to stop with SIGTERM, and wakes with SIGCONT who is stopped, so that it can act on it.
    ///
    /// It looks first, so that it is known who belongs to the tree before parents leave their children behind.
    /// Whoever has ended already is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`]; [`Error::Os`], for example when the child has changed its user.
    pub fn ask(&mut self, whom: Ask) -> Result<(), Error> {
        self.ask_by(super::Signal::Term, whom)
    }

    /// The same by another signal: by the one that the program wants, such as SIGQUIT for nginx.
    ///
    /// # Errors
    ///
    /// As those of [`ask`](Self::ask).
    pub fn ask_by(&mut self, signal: super::Signal, whom: Ask) -> Result<(), Error> {
        let listed = self.procfs.processes();
        let members = listed.as_deref().map(|listed| self.family.handle_look(listed)).unwrap_or_default();
        let others: Vec<Identity> = members.into_iter().filter(|member| *member != self.root).collect();
        // In this order: whoever is woken finds the signal waiting, and does nothing else before.
        for signal in [signal.to_number(), Signal::CONT] {
            match whom {
                Ask::Group if self.leads_a_group() => self.signal_group(signal)?,
                Ask::Child | Ask::Group => self.signal_root(signal)?,
                Ask::Tree => {
                    self.signal_root(signal)?;
                    self.signal_each(&others, signal)?;
                }
            }
        }
        // Without a listing the child is asked all the same, and the caller told.
        listed.map(|_| ())
    }

    /// Makes one round of killing the tree, and says who was left when it began.
    ///
    /// Rounds follow one another until it [is nobody](Left::is_nobody): again after some milliseconds, as often and for
    /// as long as the caller likes. A round never waits. The first ones stop everybody (SIGSTOP), so that nobody starts
    /// others behind our back; once two looks in a row have shown that all stand still, and after ten in any case,
    /// everybody is killed. A single child takes four rounds, the last of which finds nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Proc`]; [`Error::Os`], for example at the limit of open files. The child and its process group have got
    /// SIGKILL then, which takes no descriptor. The next round does what was left.
    pub fn kill_round(&mut self) -> Result<Left, Error> {
        self.kill_round_among(self.procfs.processes())
    }

    /// The same among processes that were listed just now.
    pub(super) fn kill_round_among(
        &mut self,
        listed: Result<impl AsRef<[Process]>, Error>,
    ) -> Result<Left, Error> {
        let left = listed.and_then(|listed| self.round(listed.as_ref()));
        if left.is_err() {
            // The first error is the one to tell.
            let _ = self.signal_group(Signal::KILL);
            let _ = self.signal_root(Signal::KILL);
        }
        left
    }

    fn round(&mut self, listed: &[Process]) -> Result<Left, Error> {
        match self.family.handle_round(listed) {
            Step::Gone => return Ok(Left::default()),
            Step::Freeze(running) => {
                // The whole group at a stroke first: the kernel lets no fork come in between.
                self.signal_group(Signal::STOP)?;
                self.signal_each(&running, Signal::STOP)?;
            }
            Step::Kill(members) => {
                // The group last, since its leader is everybody's parent. See `Family::living` for the order.
                self.signal_each(&members, Signal::KILL)?;
                self.signal_group(Signal::KILL)?;
            }
        }
        Ok(Left { living: self.family.living().len(), refused: self.family.refused() })
    }

    /// Kills all whom it can find, at once and as they are: for one who gives up, after rounds that did not end.
    ///
    /// Whoever starts others at this moment may leave one behind. But nobody is left standing who was stopped by a round:
    /// one who may not be killed any more, since it has changed its user, is woken (SIGCONT) where the kernel allows it,
    /// which it does within a session.
    ///
    /// # Errors
    ///
    /// As [`kill_round`](Self::kill_round), whose promise for the group holds here as well; and all members that are
    /// known from earlier looks have been tried.
    pub fn kill_all(&mut self) -> Result<Left, Error> {
        let listed = self.procfs.processes();
        if let Ok(listed) = &listed {
            self.family.handle_look(listed);
        }
        let members = self.family.living().to_vec();
        let each = self.signal_each(&members, Signal::KILL);
        let group = self.signal_group(Signal::KILL);
        // Tried with the others, but not where that took descriptors.
        let _ = self.signal_root(Signal::KILL);
        listed.map(|_| ()).and(each).and(group)?;
        Ok(Left { living: members.len(), refused: self.family.refused() })
    }

    fn signal_root(&self, signal: Signal) -> Result<(), Error> {
        gone_is_fine(pidfd_send_signal(&self.pidfd, signal)).map_err(Error::os("signal a child"))
    }

    /// Whether the child leads a process group.
    fn leads_a_group(&self) -> bool {
        group_of(self.root.pid) == Some(self.root.pid)
            && own_group(self.root.pid, self.pidfd.as_fd()).is_some()
    }

    /// Signals the process group of the child's number, whoever is in it.
    fn signal_group(&self, signal: Signal) -> Result<(), Error> {
        signal_group_of(self.root.pid, self.pidfd.as_fd(), signal)
            .map_err(Error::os("signal a process group"))
    }

    /// Signals as many as possible, and returns the first error of those that say nothing about a member.
    fn signal_each(&mut self, members: &[Identity], signal: Signal) -> Result<(), Error> {
        let mut failed = Ok(());
        for &member in members {
            match self.signal_member(member, signal) {
                Err(Error::Os { source, .. })
                    if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) =>
                {
                    self.family.handle_refused(member);
                }
                Ok(()) => self.family.handle_reached(member),
                error => failed = failed.and(error),
            }
        }
        failed
    }

    /// Signals the very process that was looked at, or nobody.
    fn signal_member(&self, member: Identity, signal: Signal) -> Result<(), Error> {
        let Some(pid) = pid(member.pid) else { return Ok(()) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(Error::os("open a pidfd; is the limit of open files reached?")(errno)),
        };
        // Only now, with the pidfd open: if this shows the process that was found, the pidfd is that one's or of one
        // that has ended since.
        let now = self.procfs.process(member.pid)?;
        if now.is_some_and(|process| process.identity == member) {
            let sent = gone_is_fine(pidfd_send_signal(&pidfd, signal));
            if sent.is_err() && signal == Signal::KILL {
                // It may stand still since before it became another user. If not, this does nothing.
                let _ = pidfd_send_signal(&pidfd, Signal::CONT);
            }
            sent.map_err(Error::os("signal a descendant"))?;
        }
        Ok(())
    }
}

/// Why a child is not in `/proc`.
fn unseen(procfs: &Procfs, child: &Child) -> Error {
    if !is_unreaped(child.as_fd()) {
        return Error::os("find a child that was reaped")(Errno::SRCH);
    }
    match procfs.process(std::process::id()) {
        Ok(Some(_)) => Error::Hidden { pid: child.pid() },
        // Nobody hides from himself: it isn't mounted, or that of another pid namespace.
        Ok(None) => procfs.is_missing(),
        Err(error) => error,
    }
}

fn gone_is_fine(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::SRCH) => Ok(()),
        result => result,
    }
}

fn pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;
    use crate::os::{Autopsy, ChildSpec, Executable, ProcessGroup, Stdio};

    /// A shell that runs until the pipe is closed.
    fn shell(change: impl FnOnce(ChildSpec) -> ChildSpec) -> (Child, std::io::PipeWriter) {
        let (stdin, ours) = std::io::pipe().unwrap();
        let sh = Executable::open("/bin/sh").unwrap();
        let spec = ChildSpec::new(sh).args(["-c", "read word"]).stdin(Stdio::from(OwnedFd::from(stdin)));
        (change(spec).spawn().unwrap(), ours)
    }

    #[test]
    fn a_child_that_is_hidden_is_told_from_one_that_was_reaped() {
        let (mut child, stdin) = shell(|spec| spec);
        let (me, root) = (std::process::id(), std::env::temp_dir());
        let root = root.join(format!("cluster-hidden-{me}"));
        std::fs::create_dir_all(root.join(me.to_string())).unwrap();
        let stat = std::fs::read("/proc/self/stat").unwrap();
        std::fs::write(root.join(me.to_string()).join("stat"), stat).unwrap();
        let hidden = Tree::seen_in(Procfs::at(&root), &child).unwrap_err();
        assert!(matches!(hidden, Error::Hidden { pid } if pid == child.pid()), "{hidden}");
        assert!(hidden.to_string().contains("hidepid"), "{hidden}");
        let missing = Tree::seen_in(Procfs::at(root.join("none")), &child).unwrap_err();
        assert!(matches!(missing, Error::Proc { .. }), "{missing}");
        drop(stdin);
        while child.try_reap().unwrap().is_none() {
            std::thread::yield_now();
        }
        let reaped = Tree::seen_in(Procfs::at(&root), &child).unwrap_err();
        assert!(reaped.to_string().contains("reaped"), "{reaped}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_group_is_led_by_the_child_itself_until_it_is_reaped() {
        let (mut child, stdin) = shell(|spec| spec);
        let tree = Tree::of(&child).unwrap();
        assert!(tree.leads_a_group());
        drop(stdin);
        while Autopsy::begin(&child).examine(&child, None).unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(tree.leads_a_group(), "its number is its own for as long as it is not reaped");
        child.try_reap().unwrap();
        assert!(!tree.leads_a_group());
        let (child, _stdin) = shell(|spec| spec.group(ProcessGroup::Inherit));
        assert!(!Tree::of(&child).unwrap().leads_a_group(), "it stayed in ours");
        child.kill_and_reap().unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_signalled() {
        let (child, _ours) = shell(|spec| spec);
        let tree = Tree::of(&child).unwrap();
        let stranger = Identity { started: tree.root.started + 1, ..tree.root };
        tree.signal_member(stranger, Signal::KILL).unwrap();
        tree.signal_member(tree.root, Signal::TERM).unwrap();
        let mut child = child;
        let exit = loop {
            if let Some(exit) = child.try_reap().unwrap() {
                break exit;
            }
            std::thread::yield_now();
        };
        assert_eq!(exit, Exit::Signal(15), "SIGKILL was for somebody who has gone");
        tree.signal_member(tree.root, Signal::KILL).unwrap();
    }
}
