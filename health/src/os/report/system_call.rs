//! Which system call a thread is in.

use nix::libc;

use crate::os::text::{number, words};

/// A system call, by its number on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemCall(u64);

impl SystemCall {
    /// Its number. (Of a process of another architecture, such as one of 32 bits, the numbers mean others.)
    pub fn number(self) -> u64 {
        self.0
    }

    /// Its name, if it is one of those in which processes are often found.
    pub fn name(self) -> Option<&'static str> {
        let number = libc::c_long::try_from(self.0).ok()?;
        let called = |calls: &'static [(libc::c_long, &str)]| {
            calls.iter().find(|(call, _)| *call == number).map(|(_, name)| *name)
        };
        called(EVERYWHERE).or_else(|| called(OLD))
    }
}

/// What `/proc/PID/task/TID/syscall` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It runs, in user space or in the kernel.
    Running,
    /// It waits, but not in a system call: for a page of its memory, say.
    Outside,
    Inside(SystemCall),
}

impl Call {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match words(text).next()? {
            b"running" => Some(Self::Running),
            b"-1" => Some(Self::Outside),
            first => number(first).map(|number| Self::Inside(SystemCall(number))),
        }
    }

    pub(super) fn inside(self) -> Option<SystemCall> {
        match self {
            Self::Inside(call) => Some(call),
            Self::Running | Self::Outside => None,
        }
    }
}

macro_rules! calls {
    ($($constant:ident $name:literal),* $(,)?) => { &[$((libc::$constant, $name)),*] };
}

/// Those that every architecture has.
const EVERYWHERE: &[(libc::c_long, &str)] = calls![
    SYS_accept "accept",
    SYS_accept4 "accept4",
    SYS_clock_nanosleep "clock_nanosleep",
    SYS_clone "clone",
    SYS_clone3 "clone3",
    SYS_close "close",
    SYS_connect "connect",
    SYS_copy_file_range "copy_file_range",
    SYS_epoll_pwait "epoll_pwait",
    SYS_epoll_pwait2 "epoll_pwait2",
    SYS_execve "execve",
    SYS_exit "exit",
    SYS_exit_group "exit_group",
    SYS_fallocate "fallocate",
    SYS_fcntl "fcntl",
    SYS_fdatasync "fdatasync",
    SYS_flock "flock",
    SYS_fsync "fsync",
    SYS_ftruncate "ftruncate",
    SYS_futex "futex",
    SYS_futex_waitv "futex_waitv",
    SYS_getdents64 "getdents64",
    SYS_getrandom "getrandom",
    SYS_io_getevents "io_getevents",
    SYS_io_uring_enter "io_uring_enter",
    SYS_ioctl "ioctl",
    SYS_linkat "linkat",
    SYS_madvise "madvise",
    SYS_mkdirat "mkdirat",
    SYS_mmap "mmap",
    SYS_mount "mount",
    SYS_mprotect "mprotect",
    SYS_mremap "mremap",
    SYS_msgrcv "msgrcv",
    SYS_msync "msync",
    SYS_munmap "munmap",
    SYS_nanosleep "nanosleep",
    SYS_openat "openat",
    SYS_ppoll "ppoll",
    SYS_pread64 "pread64",
    SYS_preadv "preadv",
    SYS_pselect6 "pselect6",
    SYS_pwrite64 "pwrite64",
    SYS_pwritev "pwritev",
    SYS_read "read",
    SYS_readv "readv",
    SYS_recvfrom "recvfrom",
    SYS_recvmmsg "recvmmsg",
    SYS_recvmsg "recvmsg",
    SYS_renameat2 "renameat2",
    SYS_restart_syscall "restart_syscall",
    SYS_rt_sigsuspend "rt_sigsuspend",
    SYS_rt_sigtimedwait "rt_sigtimedwait",
    SYS_sched_yield "sched_yield",
    SYS_semop "semop",
    SYS_semtimedop "semtimedop",
    SYS_sendfile "sendfile",
    SYS_sendmmsg "sendmmsg",
    SYS_sendmsg "sendmsg",
    SYS_sendto "sendto",
    SYS_splice "splice",
    SYS_statx "statx",
    SYS_sync "sync",
    SYS_unlinkat "unlinkat",
    SYS_wait4 "wait4",
    SYS_waitid "waitid",
    SYS_write "write",
    SYS_writev "writev",
];

/// Those that younger architectures leave out.
#[cfg(target_arch = "x86_64")]
const OLD: &[(libc::c_long, &str)] = calls![
    SYS_access "access",
    SYS_epoll_wait "epoll_wait",
    SYS_mkdir "mkdir",
    SYS_open "open",
    SYS_pause "pause",
    SYS_poll "poll",
    SYS_rename "rename",
    SYS_rmdir "rmdir",
    SYS_select "select",
    SYS_stat "stat",
    SYS_unlink "unlink",
    SYS_vfork "vfork",
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[(libc::c_long, &str)] = &[];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(number: libc::c_long) -> Option<&'static str> {
        SystemCall(u64::try_from(number).unwrap()).name()
    }

    #[test]
    fn calls_have_names() {
        assert_eq!((named(libc::SYS_read), named(libc::SYS_futex)), (Some("read"), Some("futex")));
        assert_eq!((named(libc::SYS_getpid), SystemCall(u64::MAX).name()), (None, None));
    }

    #[test]
    fn no_number_has_two_names() {
        let mut numbers: Vec<_> = EVERYWHERE.iter().chain(OLD).map(|(number, _)| number).collect();
        numbers.sort();
        let before = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), before);
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let inside = Call::parse(b"0 0x3 0x7fc24c134000 0x20000 0x7fc 0xffffffff 0x0 0x7ffe 0x7fc2\n");
        assert_eq!(inside, Some(Call::Inside(SystemCall(0))));
        assert_eq!(Call::parse(b"running\n"), Some(Call::Running));
        assert_eq!(Call::parse(b"-1 0x7ffe37e01528 0x7fc24c2b02ad\n"), Some(Call::Outside));
        assert_eq!((Call::parse(b""), Call::parse(b"x")), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Call::parse(&bytes).and_then(Call::inside).map(SystemCall::name);
        }
    }
}
