//! How a probe ended, in words that people can act on.

use std::fmt::{self, Write};
use std::time::Duration;

use rustix::io::Errno;

/// Why a probe did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its time was up.
    TimedOut,
    /// Nobody wants to know any more.
    Interrupted,
    /// What is wrong with who was asked.
    Bad(String),
    /// It could not even be asked, for want of something on this side.
    Unasked(String),
}

impl End {
    /// What failed, and what the system said. Whether that is the fault of who was asked can be told from it.
    pub(super) fn of(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let reason = format!("{what}: {error}");
        match Errno::from_io_error(&error) {
            // No descriptor, memory, process or port left for us.
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::AGAIN
                | Errno::ADDRNOTAVAIL,
            ) => Self::Unasked(reason),
            _ => Self::Bad(reason),
        }
    }

    /// Says what did not come in time, if it was that.
    pub(super) fn or_late(self, reason: impl FnOnce() -> String) -> Self {
        if self == Self::TimedOut { Self::Bad(reason()) } else { self }
    }
}

/// What somebody else wrote: escaped, but for quotation marks, and cut.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut shown = String::new();
    // A character has four bytes at most: the rest of a long one need not be looked at.
    let bytes = bytes.get(..4 * LONGEST).unwrap_or(bytes);
    let mut written = 0;
    for char in String::from_utf8_lossy(bytes).trim().chars() {
        if written >= LONGEST {
            shown.push('…');
            break;
        }
        if matches!(char, '"' | '\'') {
            shown.push(char);
            written += 1;
        } else {
            let escaped = char.escape_debug();
            written += escaped.len();
            shown.extend(escaped);
        }
    }
    shown
}

/// So many characters of what somebody else wrote are shown. The monitor keeps 200 of a reason, and there are words of ours before.
const LONGEST: usize = 120;

/// A duration that somebody set: `1 s`, `1.5 s`, `200 ms`.
pub(super) struct Shown(pub(super) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds < 1000 {
            return write!(f, "{milliseconds} ms");
        }
        let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
        write!(f, "{seconds}")?;
        if rest != 0 {
            let mut decimals = String::new();
            write!(decimals, ".{rest:03}")?;
            f.write_str(decimals.trim_end_matches('0'))?;
        }
        f.write_str(" s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_they_were_set() {
        let shown = |milliseconds| Shown(Duration::from_millis(milliseconds)).to_string();
        assert_eq!([shown(1), shown(999), shown(1000)], ["1 ms", "999 ms", "1 s"]);
        assert_eq!([shown(1500), shown(2050), shown(60_000)], ["1.5 s", "2.05 s", "60 s"]);
    }

    #[test]
    fn what_others_write_can_do_nothing() {
        assert_eq!(shown(b" it's \"down\"\r\n"), "it's \"down\"");
        assert_eq!(shown(b"\x1b[31mred\x07 \xff \\"), "\\u{1b}[31mred\\u{7} \u{fffd} \\\\");
        assert_eq!(shown("\u{202e}evil".as_bytes()), "\\u{202e}evil", "no writing backwards");
    }

    #[test]
    fn our_own_want_is_not_held_against_who_is_asked() {
        assert!(matches!(End::of("a", Errno::MFILE), End::Unasked(_)));
        assert!(matches!(End::of("a", Errno::CONNREFUSED), End::Bad(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_in_one_short_line(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let shown = shown(&bytes);
            prop_assert!(shown.chars().count() <= LONGEST + 12);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
