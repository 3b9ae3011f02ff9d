//! What a process looks like, all in all.
//!
//! The first line that fits, from top to bottom:
//!
//! | what is seen | condition |
//! |---|---|
//! | the process is a zombie, and has no other thread | Ended |
//! | a thread that a debugger has stopped | Traced |
//! | a thread that a signal has stopped (that stops all) | Stopped |
//! | a thread in an uninterruptible wait in both looks | Uninterruptible |
//! | a thread that runs in both looks | Spinning |
//! | a thread that runs, or is in an uninterruptible wait, in the first look | Running |
//! | all threads wait for a lock | Locked |
//! | a thread in a system call of another kind | Blocked |
//! | a thread that waits for events | Events |
//! | a thread that lets time pass | Pausing |
//! | none of this can be told | Sleeping |

use super::stat::State;
use super::thread::ThreadReport;

/// What a process looks like, all in all. It is what can be seen from outside at a moment: a hint, not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// It has ended and waits to be reaped.
    Ended,
    /// A debugger has stopped it.
    Traced,
    /// A signal has stopped it.
    Stopped,
    /// So many threads wait in the kernel for something that no signal ends: a disk, a network file system.
    Uninterruptible {
        /// How many.
        threads: usize,
    },
    /// So many threads run, in two looks, without waiting for anything.
    Spinning {
        /// How many.
        threads: usize,
    },
    /// So many threads ran just now.
    Running {
        /// How many.
        threads: usize,
    },
    /// All threads wait for a lock (a futex): a deadlock, or nothing to do.
    Locked,
    /// So many threads wait in a system call that is none of the others here.
    Blocked {
        /// How many.
        threads: usize,
    },
    /// It waits for events: its loop has nothing to do, or has lost what should wake it.
    Events,
    /// It lets time pass (`nanosleep`).
    Pausing,
    /// It sleeps, and why can't be read.
    Sleeping,
}

/// What a sleeping thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Lock,
    Events,
    Time,
    Other,
    Unknown,
}

impl Condition {
    pub(super) fn of(process: State, count: u64, threads: &[ThreadReport]) -> Self {
        let any = |state| process == state || threads.iter().any(|thread| thread.state() == state);
        if matches!(process, State::Zombie | State::Dead) && count <= 1 {
            return Self::Ended;
        }
        if any(State::Traced) {
            return Self::Traced;
        }
        if any(State::Stopped) {
            return Self::Stopped;
        }
        match count_of(threads, |thread| thread.state() == State::Uninterruptible && thread.still) {
            0 => {}
            threads => return Self::Uninterruptible { threads },
        }
        match count_of(threads, |thread| thread.state() == State::Running && thread.still) {
            0 => {}
            threads => return Self::Spinning { threads },
        }
        match count_of(threads, |thread| matches!(thread.state(), State::Running | State::Uninterruptible)) {
            0 => {}
            threads => return Self::Running { threads },
        }
        Self::of_sleeping(threads)
    }

    fn of_sleeping(threads: &[ThreadReport]) -> Self {
        let waiting = |wait| count_of(threads, |thread| !has_ended(thread) && Wait::of(thread) == wait);
        let living = count_of(threads, |thread| !has_ended(thread));
        if living > 0 && waiting(Wait::Lock) == living {
            return Self::Locked;
        }
        match waiting(Wait::Other) {
            0 => {}
            threads => return Self::Blocked { threads },
        }
        if waiting(Wait::Events) > 0 {
            Self::Events
        } else if waiting(Wait::Time) > 0 {
            Self::Pausing
        } else {
            Self::Sleeping
        }
    }

    /// The first thread that makes it look so, where one or some do.
    pub(super) fn shown_by(self, threads: &[ThreadReport]) -> Option<&ThreadReport> {
        threads.iter().find(|thread| match self {
            Self::Uninterruptible { .. } => thread.state() == State::Uninterruptible && thread.still,
            Self::Blocked { .. } => !has_ended(thread) && Wait::of(thread) == Wait::Other,
            Self::Events => !has_ended(thread) && Wait::of(thread) == Wait::Events,
            Self::Pausing => !has_ended(thread) && Wait::of(thread) == Wait::Time,
            _ => false,
        })
    }
}

fn count_of(threads: &[ThreadReport], is_so: impl Fn(&ThreadReport) -> bool) -> usize {
    threads.iter().filter(|thread| is_so(thread)).count()
}

/// Such as a first thread that has ended before the others.
fn has_ended(thread: &ThreadReport) -> bool {
    matches!(thread.state(), State::Zombie | State::Dead)
}

impl Wait {
    fn of(thread: &ThreadReport) -> Self {
        let by_call = thread.system_call().map_or(Self::Unknown, |call| match call.name() {
            Some(name) => Self::in_call(name),
            None => Self::Other,
        });
        match (by_call, thread.wait_channel()) {
            (Self::Unknown, Some(function)) => Self::in_function(function),
            (known, _) => known,
        }
    }

    fn in_call(name: &str) -> Self {
        match name {
            "futex" | "futex_waitv" => Self::Lock,
            "epoll_pwait" | "epoll_pwait2" | "epoll_wait" | "io_getevents" | "io_uring_enter" | "poll"
            | "ppoll" | "pselect6" | "select" => Self::Events,
            "clock_nanosleep" | "nanosleep" => Self::Time,
            // What it went on with after it was stopped: poll, futex or nanosleep.
            "restart_syscall" => Self::Unknown,
            _ => Self::Other,
        }
    }

    /// Where the system call may not be read, or is not told.
    fn in_function(name: &str) -> Self {
        if name.contains("futex") {
            Self::Lock
        } else if ["poll", "do_select", "io_cqring_wait", "read_events"]
            .iter()
            .any(|part| name.contains(part))
        {
            Self::Events
        } else if name.contains("nanosleep") {
            Self::Time
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stat::Stat;
    use super::*;
    use std::time::Duration;

    /// A thread in a state and a function of the kernel.
    fn thread(letter: u8, function: &str) -> ThreadReport {
        let stat = Stat {
            name: String::new(),
            state: State::from_letter(letter),
            processor: Duration::ZERO,
            threads: 2,
        };
        let wait_channel = (!function.is_empty()).then(|| function.to_owned());
        ThreadReport { tid: 1, stat, wait_channel, call: None, switches: None, still: true }
    }

    fn condition(threads: &[ThreadReport]) -> Condition {
        Condition::of(threads[0].state(), threads.len() as u64, threads)
    }

    #[test]
    fn each_line_of_the_table() {
        let lock = || thread(b'S', "futex_do_wait");
        let passing = |letter| ThreadReport { still: false, ..thread(letter, "") };
        let cases = [
            (vec![thread(b'Z', "")], Condition::Ended),
            (vec![lock(), thread(b't', "ptrace_stop")], Condition::Traced),
            (vec![thread(b'T', "do_signal_stop"), thread(b'T', "")], Condition::Stopped),
            (vec![thread(b'R', ""), thread(b'D', "nfs_wait")], Condition::Uninterruptible { threads: 1 }),
            (vec![lock(), thread(b'R', ""), thread(b'R', "")], Condition::Spinning { threads: 2 }),
            (vec![lock(), passing(b'R'), passing(b'D')], Condition::Running { threads: 2 }),
            (vec![lock(), lock()], Condition::Locked),
            (vec![lock(), thread(b'S', "pipe_read")], Condition::Blocked { threads: 1 }),
            (vec![lock(), thread(b'S', "ep_poll")], Condition::Events),
            (vec![lock(), thread(b'S', "hrtimer_nanosleep")], Condition::Pausing),
            (vec![lock(), thread(b'S', "")], Condition::Sleeping),
        ];
        for (threads, expected) in cases {
            assert_eq!(condition(&threads), expected, "{threads:?}");
        }
        assert_eq!(Condition::of(State::Sleeping, 1, &[]), Condition::Sleeping, "no thread may be looked at");
    }

    #[test]
    fn a_first_thread_that_has_ended_is_not_the_process() {
        assert_eq!(condition(&[thread(b'Z', ""), thread(b'S', "futex_do_wait")]), Condition::Locked);
    }

    #[test]
    fn letters_of_a_newer_kernel_say_nothing() {
        assert_eq!(condition(&[thread(b'P', ""), thread(b'K', "")]), Condition::Sleeping);
    }
}
