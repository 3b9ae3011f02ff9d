//! The line `/proc/PID/stat`, also of a thread.

use std::fmt;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::os::text::{number, words};

/// What a process or a thread does, as the kernel tells it by a letter (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// `R`: it has a processor, or waits for one.
    Running,
    /// `S`: it waits for something; a signal wakes it.
    Sleeping,
    /// `D`: it waits in the kernel for something, and no signal wakes it, often not even SIGKILL.
    Uninterruptible,
    /// `T`: a signal has stopped it.
    Stopped,
    /// `t`: a debugger has stopped it.
    Traced,
    /// `Z`: it has ended; of a process, it waits to be reaped, unless other threads of it go on.
    Zombie,
    /// `X`: it has ended, and is just being removed.
    Dead,
    /// `I`: a thread of the kernel without work.
    Idle,
    /// Another letter: of a kernel that is newer than this.
    Other(u8),
}

impl State {
    pub(super) fn from_letter(letter: u8) -> Self {
        match letter {
            b'R' => Self::Running,
            b'S' => Self::Sleeping,
            b'D' => Self::Uninterruptible,
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' => Self::Zombie,
            b'X' | b'x' => Self::Dead,
            b'I' => Self::Idle,
            other => Self::Other(other),
        }
    }

    /// The letter.
    pub fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::Uninterruptible => 'D',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Zombie => 'Z',
            Self::Dead => 'X',
            Self::Idle => 'I',
            Self::Other(letter) if letter.is_ascii_graphic() => char::from(letter),
            Self::Other(_) => '?',
        }
    }
}

/// Its meaning, as one word or two: `uninterruptible`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "uninterruptible",
            Self::Stopped => "stopped",
            Self::Traced => "stopped by a debugger",
            Self::Zombie => "ended",
            Self::Dead => "being removed",
            Self::Idle => "idle",
            Self::Other(_) => return write!(f, "in state {}", self.letter()),
        })
    }
}

/// What `/proc/PID/stat` says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Bytes of its choice, at most 64 of them.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) processor: Duration,
    /// How many its process has.
    pub(super) threads: u64,
}

impl Stat {
    /// Reads one line, or returns `None` if it is none.
    ///
    /// The name stands in parentheses and may hold spaces, parentheses and line feeds itself. Nothing after it can,
    /// so it ends at the last closing one.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let name = line.get(open + 1..close)?;
        let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
        let mut fields = words(line.get(close + 1..)?);
        let state = State::from_letter(*fields.next()?.first()?);
        // That was field 3; the times are 14 (in user space) and 15 (in the kernel), the number of threads is 20.
        let user = number(fields.nth(10)?)?;
        let kernel = number(fields.next()?)?;
        let threads = number(fields.nth(4)?)?;
        Some(Self { name, state, processor: ticks(user.saturating_add(kernel)), threads })
    }
}

/// Clock ticks as a duration.
fn ticks(ticks: u64) -> Duration {
    let a_second = clock_ticks_per_second().max(1);
    let millis = (ticks % a_second).saturating_mul(1000) / a_second;
    Duration::from_secs(ticks / a_second) + Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "2264 (python3) S 2223 2216 18555 0 -1 4227148 366 0 0 0 150 50 0 0 20 0 2 0 4903225 0 0 \
                        18446744073709551615 0 0 0 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let stat = Stat::parse(LINE.as_bytes()).unwrap();
        assert_eq!((&*stat.name, stat.state, stat.threads), ("python3", State::Sleeping, 2));
        assert_eq!(stat.processor, ticks(200));
    }

    #[test]
    fn letters_are_kept() {
        for letter in *b"RSDTtZXIKP" {
            assert_eq!(State::from_letter(letter).letter(), char::from(letter));
        }
        assert_eq!(State::from_letter(0x1b).letter(), '?', "it is printed");
    }

    #[test]
    fn nothing_a_process_calls_itself_deceives_us() {
        for name in [") R 1 1 1 0", "((", "a b\n) Z", "", "\u{fffd}"] {
            let stat = Stat::parse(LINE.replace("python3", name).as_bytes()).unwrap();
            assert_eq!((stat.state, stat.threads, &*stat.name), (State::Sleeping, 2, name));
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(stat) = Stat::parse(&line) {
                prop_assert!(stat.name.len() <= 3 * 64);
            }
        }

        #[test]
        fn any_fields_are_read_or_refused(fields in proptest::collection::vec("[0-9]{0,22}|[A-Za-z]", 0..60)) {
            let _ = Stat::parse(format!("1 (x) {}", fields.join(" ")).as_bytes());
        }
    }
}
