//! What a child is besides its program: user, limits, priority and the like.

use rustix::process::{Resource as Rlimit, geteuid, getuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::StopSignal;

/// The user that a child runs as.
///
/// Numbers, not names: who has a name resolves it (`getpwnam`), since that may read files or ask a server.
///
/// ```
/// use cluster_supervisor::os::User;
///
/// let nobody = User::new(65534, 65534);
/// let with_groups = User::new(1000, 1000).groups([27, 100]);
/// # let _ = (nobody, with_groups);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl User {
    /// A user and its group, and no supplementary groups: those of this process are given up.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: Vec::new() }
    }

    /// Its supplementary groups.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = groups.into_iter().collect();
        self
    }

    /// Whether this process may signal a child that this is the user of, so that it can stop it.
    pub(super) fn may_be_signalled(&self) -> bool {
        let ours = [getuid().as_raw(), geteuid().as_raw()];
        // Whoever can't tell tries.
        ours.contains(&self.uid)
            || capabilities(None).map_or(true, |sets| sets.effective.contains(CapabilitySet::KILL))
    }

    /// To the kernel the highest number means "leave it as it is": a child would keep our user.
    pub(super) fn is_valid(&self) -> bool {
        self.uid != u32::MAX && self.gid != u32::MAX && !self.groups.contains(&u32::MAX)
    }
}

/// Which process group a child belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessGroup {
    /// This process's: a Ctrl-C at the terminal reaches the child, too.
    Inherit,
    /// One of its own, so that it can be signalled with all that it starts, and a Ctrl-C doesn't reach it.
    #[default]
    New,
    /// One of its own in a session of its own, without a terminal.
    Session,
}

/// What a limit of [`ChildSpec::limit`](super::ChildSpec::limit) is about (`man 2 setrlimit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: address space, in bytes.
    AddressSpace,
    /// `RLIMIT_CORE`: size of a core dump, in bytes.
    CoreSize,
    /// `RLIMIT_CPU`: processor time, in seconds.
    CpuTime,
    /// `RLIMIT_DATA`: data segment and private memory, in bytes.
    Data,
    /// `RLIMIT_FSIZE`: size of a file that it writes, in bytes.
    FileSize,
    /// `RLIMIT_MEMLOCK`: locked memory, in bytes.
    LockedMemory,
    /// `RLIMIT_MSGQUEUE`: POSIX message queues, in bytes.
    MessageQueues,
    /// `RLIMIT_NICE`: 20 − the lowest nice value that it may take.
    Nice,
    /// `RLIMIT_NOFILE`: the first descriptor number that it can't have.
    OpenFiles,
    /// `RLIMIT_NPROC`: processes and threads of its user.
    Processes,
    /// `RLIMIT_RTPRIO`: real-time priority.
    RealtimePriority,
    /// `RLIMIT_RTTIME`: processor time without a system call in real-time scheduling, in microseconds.
    RealtimeTime,
    /// `RLIMIT_SIGPENDING`: queued signals of its user.
    PendingSignals,
    /// `RLIMIT_STACK`: stack, in bytes.
    Stack,
}

impl Resource {
    /// All, in the order of their codes in a description.
    const ALL: [(Self, Rlimit); 14] = [
        (Self::AddressSpace, Rlimit::As),
        (Self::CoreSize, Rlimit::Core),
        (Self::CpuTime, Rlimit::Cpu),
        (Self::Data, Rlimit::Data),
        (Self::FileSize, Rlimit::Fsize),
        (Self::LockedMemory, Rlimit::Memlock),
        (Self::MessageQueues, Rlimit::Msgqueue),
        (Self::Nice, Rlimit::Nice),
        (Self::OpenFiles, Rlimit::Nofile),
        (Self::Processes, Rlimit::Nproc),
        (Self::RealtimePriority, Rlimit::Rtprio),
        (Self::RealtimeTime, Rlimit::Rttime),
        (Self::PendingSignals, Rlimit::Sigpending),
        (Self::Stack, Rlimit::Stack),
    ];

    pub(super) fn code(self) -> u8 {
        let position = Self::ALL.iter().position(|(resource, _)| *resource == self);
        position.and_then(|position| u8::try_from(position).ok()).unwrap_or(u8::MAX)
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).map(|(resource, _)| *resource)
    }

    pub(super) fn to_rlimit(self) -> Option<Rlimit> {
        Self::ALL.iter().find(|(resource, _)| *resource == self).map(|(_, rlimit)| *rlimit)
    }
}

/// A limit: `u64::MAX` means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) resource: Resource,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// What only a trampoline can apply; each left as it is in this process unless set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) session: bool,
    pub(super) umask: Option<u32>,
    pub(super) nice: Option<i32>,
    pub(super) cpus: Vec<u32>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) limits: Vec<Limit>,
    pub(super) user: Option<User>,
    pub(super) death_signal: Option<StopSignal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_has_a_code_of_its_own() {
        for (place, (resource, _)) in Resource::ALL.iter().enumerate() {
            assert_eq!(usize::from(resource.code()), place);
            assert_eq!(Resource::from_code(resource.code()), Some(*resource));
        }
        assert_eq!(Resource::from_code(14), None);
    }

    #[test]
    fn the_number_that_means_no_change_is_no_user() {
        assert!(User::new(0, 0).is_valid());
        assert!(!User::new(u32::MAX, 0).is_valid());
        assert!(!User::new(0, u32::MAX).is_valid());
        assert!(!User::new(0, 0).groups([1, u32::MAX]).is_valid());
    }
}
