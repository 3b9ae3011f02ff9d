//! The trampoline's work: settings in their order, then exec.
//!
//! The order, and why:
//!
//! 1. Signals as a program expects them; session, descriptors (others are closed first), umask, nice, CPUs, OOM score: as the user that we are, who may.
//!    Descriptors come before the limit of open files, which may be below their numbers.
//! 2. Limits, once nothing of ours needs more: raising a hard one takes privileges that the user may not have.
//! 3. Supplementary groups, group, user: each takes privileges that the next one gives up. Then capabilities, which the
//!    kernel takes from one who was root, and from nobody else.
//! 4. Death signal: the kernel forgets it when the user changes. Then a look at the parent: if it ended before, the
//!    signal would never come.
//! 5. Directory, as the user who will be in it.
//! 6. Exec, which closes all that is not the program's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet, Gid, Uid};

use super::description::Description;
use super::handshake::Report;
use super::{inherited, packet};
use crate::StopSignal;
use crate::os::command_line::Exec;
use crate::os::executable::descriptor_path;
use crate::os::settings::{Limit, Settings, User};

/// What a trampoline does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Trust,
    Signals,
    Session,
    Descriptors,
    Umask,
    Nice,
    Cpus,
    OomScore,
    Limits,
    Groups,
    Group,
    User,
    Capabilities,
    DeathSignal,
    Parent,
    Directory,
    Exec,
}

impl Step {
    pub(super) const ALL: [Self; 17] = [
        Self::Trust,
        Self::Signals,
        Self::Session,
        Self::Descriptors,
        Self::Umask,
        Self::Nice,
        Self::Cpus,
        Self::OomScore,
        Self::Limits,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::DeathSignal,
        Self::Parent,
        Self::Directory,
        Self::Exec,
    ];

    /// What is being done, as a verb phrase, with the remedy where the system's word doesn't tell it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Trust => "obey (this program has privileges by its file: setuid, setgid or capabilities)",
            Self::Signals => "set signals to their defaults (is /proc mounted?)",
            Self::Session => "make a session",
            Self::Descriptors => {
                "put descriptors at their numbers (are these free, and below the limit of open files?)"
            }
            Self::Umask => "set the umask",
            Self::Nice => "set the nice value (a lower one takes CAP_SYS_NICE)",
            Self::Cpus => "set the CPUs (does this machine have one of them?)",
            Self::OomScore => "set the OOM score (a lower one takes CAP_SYS_RESOURCE)",
            Self::Limits => "set the limits (soft at most hard; a higher hard one takes CAP_SYS_RESOURCE)",
            Self::Groups => "set the supplementary groups (it takes root or CAP_SETGID)",
            Self::Group => "set the group (it takes root or CAP_SETGID)",
            Self::User => "set the user (it takes root or CAP_SETUID)",
            Self::Capabilities => "give up capabilities",
            Self::DeathSignal => "set the death signal",
            Self::Parent => "find the parent still alive",
            Self::Directory => "enter the directory (as the user that it shall have)",
            Self::Exec => "start the program",
        }
    }

    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    fn failed(self) -> impl FnOnce(Errno) -> Failure {
        move |errno| Failure { step: self, errno }
    }

    fn failed_io(self) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure { step: self, errno: Errno::from_io_error(&error).unwrap_or(Errno::INVAL) }
    }
}

/// Why the program could not be started.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: Errno,
}

impl Failure {
    pub(super) fn is_not_found(&self) -> bool {
        (self.step, self.errno) == (Step::Exec, Errno::NOENT)
    }
}

/// Applies everything and becomes the program; returns only if that failed.
pub(super) fn become_program(
    description: &Description,
    descriptors: Vec<OwnedFd>,
    socket: &OwnedFd,
) -> Failure {
    match prepare(description, descriptors, socket) {
        // The descriptors at their numbers are open until exec, and open after it.
        Ok((exec, _placed)) => Step::Exec.failed()(exec.exec()),
        Err(failure) => failure,
    }
}

fn prepare(
    description: &Description,
    descriptors: Vec<OwnedFd>,
    socket: &OwnedFd,
) -> Result<(Exec, Placed), Failure> {
    let settings = &description.settings;
    inherited::reset_signals().map_err(Step::Signals.failed())?;
    if settings.session {
        rustix::process::setsid().map_err(Step::Session.failed())?;
    }
    let ours: Vec<_> = descriptors.iter().chain([socket]).map(AsFd::as_fd).collect();
    inherited::close_others(&ours).map_err(Step::Descriptors.failed())?;
    let placed = Placed::place(description, descriptors).map_err(Step::Descriptors.failed())?;
    let exec = exec(description, &placed).map_err(Step::Exec.failed())?;
    set_priorities(settings)?;
    settings.limits.iter().try_for_each(set_limit).map_err(Step::Limits.failed())?;
    settings.user.as_ref().map_or(Ok(()), set_user)?;
    set_death_signal(settings, description.parent)?;
    if let Some(directory) = &description.command.directory {
        std::env::set_current_dir(directory).map_err(Step::Directory.failed_io())?;
    }
    packet::send(socket, &Report::Executing.encode()).map_err(Step::Parent.failed())?;
    Ok((exec, placed))
}

fn exec(description: &Description, placed: &Placed) -> Result<Exec, Errno> {
    let mut command = description.command.clone();
    if description.listens {
        // This process keeps its pid through exec.
        command.env.push(("LISTEN_PID".into(), Some(std::process::id().to_string().into())));
    }
    Exec::new(&placed.program, &command)
}

/// All descriptors where they shall be.
struct Placed {
    program: PathBuf,
    _program: Option<OwnedFd>,
    _at_numbers: Vec<OwnedFd>,
}

impl Placed {
    /// Moves everything above the highest number, then each to its own. A number is taken then only if another thread
    /// has opened something, for all else that was open is closed.
    fn place(description: &Description, received: Vec<OwnedFd>) -> Result<Self, Errno> {
        let count = usize::from(description.by_path.is_none()) + 2 + description.numbers.len();
        if received.len() != count {
            return Err(Errno::BADMSG);
        }
        let above = description.first_unused();
        let moved: Result<Vec<_>, _> = received.iter().map(|fd| fcntl_dupfd_cloexec(fd, above)).collect();
        let mut moved = moved?.into_iter();
        drop(received);
        let program = if description.by_path.is_none() { moved.next() } else { None };
        let (Some(stdin), Some(stdout)) = (moved.next(), moved.next()) else { return Err(Errno::BADMSG) };
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        let at_numbers = description.numbers.iter().zip(moved).map(|(number, fd)| put(&fd, *number));
        let at_numbers = at_numbers.collect::<Result<_, _>>()?;
        let path = description.by_path.clone().or_else(|| program.as_ref().map(descriptor_path));
        Ok(Self { program: path.ok_or(Errno::BADMSG)?, _program: program, _at_numbers: at_numbers })
    }
}

/// Duplicates a descriptor to exactly this number, open after exec.
fn put(fd: &OwnedFd, number: u32) -> Result<OwnedFd, Errno> {
    let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
    // The lowest free one from `number` on: `number` itself, if it is free.
    let placed = fcntl_dupfd_cloexec(fd, number)?;
    if placed.as_raw_fd() != number {
        return Err(Errno::BUSY);
    }
    fcntl_setfd(placed.as_fd(), FdFlags::empty())?;
    Ok(placed)
}

fn set_priorities(settings: &Settings) -> Result<(), Failure> {
    if let Some(mask) = settings.umask {
        rustix::process::umask(Mode::from_bits_truncate(mask));
    }
    if let Some(nice) = settings.nice {
        rustix::process::setpriority_process(None, nice).map_err(Step::Nice.failed())?;
    }
    if !settings.cpus.is_empty() {
        let mut set = CpuSet::new();
        // Each is below `CpuSet::MAX_CPU`: the description was checked.
        settings.cpus.iter().for_each(|cpu| set.set(*cpu as usize));
        rustix::thread::sched_setaffinity(None, &set).map_err(Step::Cpus.failed())?;
    }
    if let Some(score) = settings.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(Step::OomScore.failed_io())?;
    }
    Ok(())
}

fn set_limit(limit: &Limit) -> Result<(), Errno> {
    let some = |value: u64| (value != u64::MAX).then_some(value);
    let resource = limit.resource.to_rlimit().ok_or(Errno::INVAL)?;
    rustix::process::setrlimit(resource, Rlimit { current: some(limit.soft), maximum: some(limit.hard) })
}

/// Of this thread, in the kernel's way: exec makes it the whole process.
fn set_user(user: &User) -> Result<(), Failure> {
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    if !has_groups(&user.groups) {
        rustix::thread::set_thread_groups(&groups).map_err(Step::Groups.failed())?;
    }
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(Step::Group.failed())?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Step::User.failed())?;
    if uid.is_root() { Ok(()) } else { give_up_capabilities().map_err(Step::Capabilities.failed()) }
}

/// All: what made the change of the user possible would undo it.
fn give_up_capabilities() -> Result<(), Errno> {
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)
}

/// Whether these are the groups already: setting them would take a privilege for nothing.
fn has_groups(groups: &[u32]) -> bool {
    let sorted = |mut groups: Vec<u32>| {
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    rustix::process::getgroups().is_ok_and(|present| {
        sorted(present.into_iter().map(Gid::as_raw).collect()) == sorted(groups.to_vec())
    })
}

fn set_death_signal(settings: &Settings, parent: u32) -> Result<(), Failure> {
    if let Some(signal) = settings.death_signal {
        let signal = match signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Kill => Signal::KILL,
        };
        rustix::process::set_parent_process_death_signal(Some(signal)).map_err(Step::DeathSignal.failed())?;
    }
    match rustix::process::getppid() {
        Some(pid) if pid.as_raw_nonzero().get().cast_unsigned() != parent => {
            Err(Failure { step: Step::Parent, errno: Errno::SRCH })
        }
        // None: the parent is outside of our pid namespace, and can't be compared.
        _ => Ok(()),
    }
}
