//! Sets of exit codes.

use std::fmt;

use crate::Exit;

/// A set of exit codes, 0 to 255: by which a program says more than that it failed.
///
/// ```
/// use cluster_supervisor::{Exit, ExitCodes};
///
/// let finished = ExitCodes::of(&[0, 3]);
/// assert!(finished.contains(Exit::Code(3)));
/// assert!(!finished.contains(Exit::Signal(3)), "a signal has no code");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExitCodes([u64; 4]);

impl ExitCodes {
    /// No code.
    pub const fn none() -> Self {
        Self([0; 4])
    }

    /// These codes.
    pub const fn of(codes: &[u8]) -> Self {
        let mut set = Self::none();
        let mut at = 0;
        // A loop that works in constants.
        while at < codes.len() {
            let code = codes[at];
            set.0[(code / 64) as usize] |= 1 << (code % 64);
            at += 1;
        }
        set
    }

    /// Whether a process that ended so ended with one of these codes.
    pub fn contains(self, exit: Exit) -> bool {
        match exit {
            Exit::Code(code) => u8::try_from(code).is_ok_and(|code| self.has(code)),
            Exit::Signal(_) => false,
        }
    }

    const fn has(self, code: u8) -> bool {
        self.0[(code / 64) as usize] & (1 << (code % 64)) != 0
    }
}

impl fmt::Debug for ExitCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..=u8::MAX).filter(|code| self.has(*code))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of() {
        let members = [0, 1, 63, 64, 127, 128, 200, 255];
        let set = ExitCodes::of(&members);
        for code in 0..=u8::MAX {
            assert_eq!(set.contains(Exit::Code(code.into())), members.contains(&code), "{code}");
        }
        assert!(!set.contains(Exit::Code(-1)) && !set.contains(Exit::Code(256)), "there are no such codes");
        assert_eq!(format!("{set:?}"), "{0, 1, 63, 64, 127, 128, 200, 255}");
        assert_eq!(ExitCodes::none(), ExitCodes::default());
    }
}
