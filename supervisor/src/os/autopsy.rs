//! What the kernel tells about a death, beyond code and signal.

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::process::WaitId;

use super::cgroup::Roots;
use super::reaper::{exit, peek};
use super::{Child, Error};
use crate::{Exit, StopSignal};

/// A death, and what is known of it besides.
///
/// Its `Display` reads on after the [`Exit`]'s, or after the [`ExitCause`](crate::ExitCause)'s; it is empty if there is
/// nothing to add:
///
/// ```
/// use cluster_supervisor::Exit;
/// use cluster_supervisor::os::{Death, Oom};
///
/// let death = Death::new(Exit::Signal(9)).with_oom(Oom::Probably);
/// assert_eq!(format!("{}{death}", death.exit()), "killed by signal 9 (SIGKILL), probably for want of memory");
/// assert_eq!(Death::new(Exit::Code(1)).to_string(), "");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Death {
    exit: Exit,
    core_dumped: bool,
    oom: Oom,
    sender: Option<Sender>,
}

/// Whether the kernel killed a process because memory ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Oom {
    /// Nothing speaks for it, or nothing could be read.
    #[default]
    Unlikely,
    /// The kernel has killed somebody for it meanwhile: this child, or another process where counting is shared.
    Probably,
    /// It died of a SIGKILL that nobody here sent, and the kernel has counted a kill in the cgroup that is its own since
    /// it was first looked at. (Another of its processes may have been hit, and the child by somebody's hand after that;
    /// but who would.)
    Certainly,
}

/// Who sent the signal that killed a process. The kernel does not tell, so it is seldom known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sender {
    /// This supervisor.
    Supervisor,
    /// The kernel, for want of memory.
    Kernel,
}

impl Death {
    /// A death of which no more is known.
    pub const fn new(exit: Exit) -> Self {
        Self { exit, core_dumped: false, oom: Oom::Unlikely, sender: None }
    }

    /// The same with another answer to whether memory ran out: for one who has other signs of it.
    #[must_use]
    pub const fn with_oom(mut self, oom: Oom) -> Self {
        self.oom = oom;
        self
    }

    /// The same with a sender of the signal: for one who has sent it.
    #[must_use]
    pub const fn with_sender(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// How it ended.
    pub const fn exit(self) -> Exit {
        self.exit
    }

    /// Whether the kernel dumped its memory: to a file or a program, as `core(5)` says.
    pub const fn core_dumped(self) -> bool {
        self.core_dumped
    }

    /// Whether memory ran out.
    pub const fn oom(self) -> Oom {
        self.oom
    }

    /// Who sent the signal, where that is known.
    pub const fn sender(self) -> Option<Sender> {
        self.sender
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sender == Some(Sender::Supervisor) {
            f.write_str(", sent by the supervisor")?;
        }
        match self.oom {
            Oom::Unlikely => {}
            Oom::Probably => f.write_str(", probably for want of memory")?,
            Oom::Certainly => f.write_str(", by the kernel for want of memory")?,
        }
        if self.core_dumped {
            f.write_str(", core dumped")?;
        }
        Ok(())
    }
}

/// What is noted of a living child, so that its death can be explained.
///
/// Begin one when the child has started and is in the cgroup that it stays in. When it has ended,
/// [`examine`](Self::examine) it before it is reaped.
///
/// Whether memory ran out is told by a counter: of the child's cgroup (version 2, with the memory controller on),
/// else of the whole machine. The cgroup counts as its own if this process is in another one; if other children are in it
/// too, say so by [`shared`](Self::shared).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cluster_supervisor::{Exit, StopSignal, os::{Autopsy, ChildSpec, Executable}};
///
/// let sleeper = ChildSpec::new(Executable::open("/bin/sh")?).args(["-c", "exec sleep 1000"]);
/// let mut child = sleeper.spawn()?;
/// let autopsy = Autopsy::begin(&child);
/// assert_eq!(autopsy.examine(&child, None)?, None); // it lives
/// child.signal(StopSignal::Term)?;
/// let death = loop {
///     // A real loop waits until the child's descriptor is readable.
///     if let Some(death) = autopsy.examine(&child, Some(StopSignal::Term))? {
///         break death;
///     }
/// };
/// assert_eq!(format!("{}{death}", death.exit()), "killed by signal 15 (SIGTERM), sent by the supervisor");
/// assert_eq!(child.try_reap()?, Some(Exit::Signal(15)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Autopsy {
    roots: Roots,
    counter: Counter,
    before: Option<u64>,
}

/// What counts the kernel's kills.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counter {
    Own(PathBuf),
    Shared(PathBuf),
    Machine,
}

impl Autopsy {
    /// Notes what will be needed. What can't be read explains nothing, and is no error.
    pub fn begin(child: &Child) -> Self {
        Self::with_roots(Roots::system(), child.pid(), std::process::id())
    }

    fn with_roots(roots: Roots, child: u32, me: u32) -> Self {
        let cgroup = roots.cgroup_of(child).filter(|cgroup| roots.oom_kills_in(cgroup).is_some());
        let counter = match cgroup {
            Some(cgroup) if roots.cgroup_of(me).as_ref() == Some(&cgroup) => Counter::Shared(cgroup),
            Some(cgroup) => Counter::Own(cgroup),
            None => Counter::Machine,
        };
        let before = counter.read(&roots);
        Self { roots, counter, before }
    }

    /// Says that the child shares its cgroup with others that it didn't start.
    #[must_use]
    pub fn shared(mut self) -> Self {
        if let Counter::Own(cgroup) = self.counter {
            self.counter = Counter::Shared(cgroup);
        }
        self
    }

    /// Explains how the child ended, or returns `None` while it runs. `sent` is the last signal that this process sent it.
    ///
    /// It doesn't reap the child; once reaped it can't be examined any more, and the answer is `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn examine(&self, child: &Child, sent: Option<StopSignal>) -> Result<Option<Death>, Error> {
        let Some(status) = peek(WaitId::PidFd(child.as_fd()))? else { return Ok(None) };
        Ok(exit(&status).map(|exit| self.explain(exit, status.dumped(), sent)))
    }

    fn explain(&self, exit: Exit, core_dumped: bool, sent: Option<StopSignal>) -> Death {
        let sent_by_us = sent.is_some_and(|signal| exit == Exit::Signal(signal.number()));
        let oom = if self.has_counted() { judge(exit, sent_by_us, &self.counter) } else { Oom::Unlikely };
        let sender = match oom {
            Oom::Certainly => Some(Sender::Kernel),
            Oom::Unlikely | Oom::Probably => sent_by_us.then_some(Sender::Supervisor),
        };
        Death { exit, core_dumped, oom, sender }
    }

    /// Whether the kernel has killed since.
    fn has_counted(&self) -> bool {
        matches!((self.before, self.counter.read(&self.roots)), (Some(before), Some(after)) if after > before)
    }
}

impl Counter {
    fn read(&self, roots: &Roots) -> Option<u64> {
        match self {
            Self::Own(cgroup) | Self::Shared(cgroup) => roots.oom_kills_in(cgroup),
            Self::Machine => roots.oom_kills(),
        }
    }
}

/// What a death means after `counter` has counted a kill for want of memory.
fn judge(exit: Exit, sent_by_us: bool, counter: &Counter) -> Oom {
    match (exit, sent_by_us, counter) {
        (Exit::Signal(crate::exit::SIGKILL), false, Counter::Own(_)) => Oom::Certainly,
        (Exit::Signal(crate::exit::SIGKILL), false, Counter::Shared(_) | Counter::Machine) => Oom::Probably,
        // What a shell exits with when it lost the process that it ran.
        (Exit::Code(137), false, _) => Oom::Probably,
        (Exit::Code(_) | Exit::Signal(_), _, _) => Oom::Unlikely,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const CHILD: u32 = 7;
    const ME: u32 = 5;
    const KILLED: Exit = Exit::Signal(9);

    /// A machine of files: the cgroups of child and supervisor, and what has been counted.
    struct Machine {
        root: PathBuf,
    }

    impl Machine {
        fn new(name: &str, child: &str, me: &str) -> Self {
            let root = std::env::temp_dir().join(format!("cluster-autopsy-{}-{name}", std::process::id()));
            let machine = Self { root };
            machine.write("proc/7/cgroup", &format!("4:memory:/old\n0::{child}\n"));
            machine.write("proc/5/cgroup", &format!("0::{me}\n"));
            machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 0\n");
            machine
        }

        fn write(&self, path: impl AsRef<Path>, text: &str) {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn count(&self, cgroup: &str, kills: u32) {
            let events = format!("low 0\nhigh 0\nmax 9\noom 2\noom_kill {kills}\noom_group_kill 0\n");
            self.write(format!("cgroup{cgroup}/memory.events"), &events);
        }

        fn begin(&self) -> Autopsy {
            let roots = Roots { proc: self.root.join("proc"), cgroup: self.root.join("cgroup") };
            Autopsy::with_roots(roots, CHILD, ME)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn a_kill_counted_in_the_childs_own_cgroup_is_certainly_for_memory() {
        let machine = Machine::new("own", "/a/child", "/a");
        machine.count("/a/child", 3);
        machine.count("/a", 3);
        let autopsy = machine.begin();
        assert_eq!(autopsy.explain(KILLED, false, None).oom(), Oom::Unlikely, "those 3 were before");
        machine.count("/a", 4);
        assert_eq!(autopsy.explain(KILLED, false, None).oom(), Oom::Unlikely, "somebody else's");
        machine.count("/a/child", 4);
        let death = autopsy.explain(KILLED, false, None);
        assert_eq!((death.oom(), death.sender()), (Oom::Certainly, Some(Sender::Kernel)));
        assert_eq!(autopsy.shared().explain(KILLED, false, None).oom(), Oom::Probably);
    }

    #[test]
    fn a_kill_counted_in_a_shared_cgroup_is_probably_for_memory() {
        let machine = Machine::new("shared", "/a", "/a");
        machine.count("/a", 0);
        let autopsy = machine.begin();
        machine.count("/a", 1);
        let death = autopsy.explain(KILLED, false, None);
        assert_eq!((death.oom(), death.sender()), (Oom::Probably, None));
    }

    #[test]
    fn without_a_counting_cgroup_the_whole_machines_counter_speaks() {
        for (name, cgroup) in [("no-controller", "/"), ("outside", "/../x")] {
            let machine = Machine::new(name, cgroup, "/a");
            let autopsy = machine.begin();
            assert_eq!(autopsy.explain(KILLED, false, None).oom(), Oom::Unlikely);
            machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 1\n");
            assert_eq!(autopsy.explain(KILLED, false, None).oom(), Oom::Probably);
        }
    }

    #[test]
    fn what_can_not_be_read_explains_nothing() {
        let machine = Machine::new("gone", "/child", "/a");
        machine.count("/child", 0);
        let autopsy = machine.begin();
        fs::remove_dir_all(machine.root.join("cgroup")).unwrap();
        assert_eq!(autopsy.explain(KILLED, false, None), Death::new(KILLED));
    }

    #[test]
    fn only_what_looks_like_the_kernels_kill_is_blamed_on_memory() {
        let machine = Machine::new("others", "/child", "/a");
        machine.count("/child", 0);
        let autopsy = machine.begin();
        machine.count("/child", 1);
        let oom = |exit, sent| autopsy.explain(exit, false, sent).oom();
        assert_eq!(oom(KILLED, Some(StopSignal::Kill)), Oom::Unlikely, "we killed it");
        assert_eq!(oom(KILLED, Some(StopSignal::Term)), Oom::Certainly, "we only asked");
        assert_eq!(oom(Exit::Code(137), None), Oom::Probably, "a shell whose command was killed");
        assert_eq!(oom(Exit::Code(1), None), Oom::Unlikely);
        assert_eq!(oom(Exit::Signal(11), None), Oom::Unlikely);
    }

    #[test]
    fn it_reads_on_after_exit_and_cause() {
        let death = Death { core_dumped: true, ..Death::new(Exit::Signal(6)) };
        let line = format!("{} {}{death}", death.exit(), crate::ExitCause::Crash);
        assert_eq!(line, "killed by signal 6 (SIGABRT) after it was ready, core dumped");
        let death = Death::new(KILLED).with_oom(Oom::Certainly);
        assert_eq!(death.to_string(), ", by the kernel for want of memory");
        let death = Death::new(KILLED).with_sender(Sender::Supervisor);
        assert_eq!(death.to_string(), ", sent by the supervisor");
    }
}
