//! How a worker ended, and why.

use std::fmt;

/// How a process ended, as the kernel tells it.
///
/// ```
/// use cluster_supervisor::{Exit, ExitCause};
///
/// let line = format!("{} {}", Exit::Signal(6), ExitCause::BootFailure);
/// assert_eq!(line, "killed by signal 6 (SIGABRT) before it was ready");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a process ends in one of these two ways and in no other")]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it ended with code 0.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "killed by signal {signal} ({name})"),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

#[cfg(unix)]
impl From<std::process::ExitStatus> for Exit {
    /// Reads what [`Child::wait`](std::process::Child::wait) returned.
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // Stopped or continued: `wait` does not report these. The raw status is the most honest answer.
            (None, None) => Self::Code(status.into_raw()),
        }
    }
}

/// Why a worker ended, as far as the supervisor took part in it.
///
/// It reads on after an [`Exit`]: "killed by signal 9 (SIGKILL) because it was not ready in time".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitCause {
    /// A stop or a shutdown asked for it, and no deadline had to be enforced by SIGKILL.
    Asked,
    /// It ended by itself before it was ready.
    BootFailure,
    /// It ended by itself after it was ready, whatever its code.
    Crash,
    /// It said that it would end, and did: [`handle_leaving`](crate::Supervisor::handle_leaving). No fault.
    Left,
    /// It was killed because it was not ready within the start timeout.
    StartTimeout,
    /// It was killed because it had been reported unhealthy.
    Unhealthy,
    /// It was terminated because its channel closed while the process went on.
    ChannelLost,
    /// It was asked to stop and had to be killed when the deadlines had passed.
    StopTimeout,
}

impl ExitCause {
    /// Whether a stop or a shutdown of the user led to this exit.
    pub const fn is_asked(self) -> bool {
        match self {
            Self::Asked | Self::StopTimeout => true,
            Self::BootFailure
            | Self::Crash
            | Self::Left
            | Self::StartTimeout
            | Self::Unhealthy
            | Self::ChannelLost => false,
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "as asked",
            Self::BootFailure => "before it was ready",
            Self::Crash => "after it was ready",
            Self::Left => "of its own accord",
            Self::StartTimeout => "because it was not ready in time",
            Self::Unhealthy => "because it was unhealthy",
            Self::ChannelLost => "after its channel was lost",
            Self::StopTimeout => "because it did not stop in time",
        })
    }
}

/// SIGKILL and SIGTERM have these numbers on every Unix.
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;

/// The name of a signal as Linux numbers them on x86, ARM, RISC-V and most others.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        SIGKILL => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        SIGTERM => "SIGTERM",
        16 => "SIGSTKFLT",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        26 => "SIGVTALRM",
        27 => "SIGPROF",
        29 => "SIGIO",
        30 => "SIGPWR",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_and_its_cause_read_as_one_sentence() {
        let line = |exit: Exit, cause: ExitCause| format!("{exit} {cause}");
        assert_eq!(line(Exit::Code(1), ExitCause::BootFailure), "exited with code 1 before it was ready");
        assert_eq!(
            line(Exit::Signal(11), ExitCause::Crash),
            "killed by signal 11 (SIGSEGV) after it was ready"
        );
        assert_eq!(line(Exit::Code(0), ExitCause::Asked), "exited with code 0 as asked");
        assert_eq!(
            line(Exit::Signal(9), ExitCause::StopTimeout),
            "killed by signal 9 (SIGKILL) because it did not stop in time"
        );
        assert_eq!(Exit::Signal(40).to_string(), "killed by signal 40", "real-time signals have no name");
    }

    #[cfg(unix)]
    #[test]
    fn a_wait_status_is_read_as_code_or_signal() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::ExitStatus;
        assert_eq!(Exit::from(ExitStatus::from_raw(3 << 8)), Exit::Code(3));
        assert_eq!(Exit::from(ExitStatus::from_raw(6)), Exit::Signal(6));
        assert_eq!(Exit::from(ExitStatus::from_raw(6 | 0x80)), Exit::Signal(6), "with a core dump as well");
    }
}
