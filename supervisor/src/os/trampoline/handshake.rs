//! The parent's side of the conversation with a trampoline, as a state machine without I/O.
//!
//! | state \ input | hello     | failed        | executing | end of file | silence  |
//! |---------------|-----------|---------------|-----------|-------------|----------|
//! | Greeting      | Describe  | Failed        | nonsense  | ended       | silent   |
//! | Applying      | nonsense  | Failed        | Wait      | ended       | silent   |
//! | Executing     | nonsense  | Failed        | nonsense  | Started     | silent   |
//!
//! Hello moves on to Applying, executing to Executing. End of file alone would not do: a trampoline that is killed
//! before its exec closes the socket, too.

use rustix::io::Errno;

use super::apply::Step;

/// The first thing that a trampoline says; the last byte is the version.
pub(super) const HELLO: &[u8] = b"trampoline\x01";

/// The most bytes that a trampoline says at once.
pub(super) const MAX_PACKET: usize = 32;

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The child has yet to prove that it is a trampoline.
    Greeting,
    /// It has the description.
    Applying,
    /// All settings are applied; exec is next.
    Executing,
}

/// What the parent sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    Packet(&'a [u8]),
    EndOfFile,
    /// Its time is over.
    Silence,
}

/// What the parent does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send the description and wait on.
    Describe,
    Wait,
    /// The program runs.
    Started,
    /// The program can't be run.
    Failed(Step, Errno),
    /// This is no trampoline, or it is out of order: kill it. The reason completes "the trampoline …".
    GiveUp(&'static str),
}

/// What a trampoline says after the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Executing,
    Failed(Step, Errno),
}

impl Report {
    /// As bytes.
    pub(super) fn encode(self) -> Vec<u8> {
        let (code, errno) = match self {
            Self::Executing => (u8::MAX, 0),
            Self::Failed(step, errno) => (step.code(), errno.raw_os_error()),
        };
        let mut bytes = vec![code];
        bytes.extend(errno.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&code, errno) = bytes.split_first()?;
        let errno = i32::from_le_bytes(errno.try_into().ok()?);
        match (code, errno) {
            (u8::MAX, 0) => Some(Self::Executing),
            // An `Errno` takes the numbers that the kernel has, and no others.
            (code, 1..4096) => Some(Self::Failed(Step::from_code(code)?, Errno::from_raw_os_error(errno))),
            _ => None,
        }
    }
}

impl Handshake {
    pub(super) fn new() -> Self {
        Self::Greeting
    }

    /// Takes what the child said or did.
    pub(super) fn handle(&mut self, input: Input<'_>) -> Next {
        let nonsense = Next::GiveUp("answered with nonsense");
        match (*self, input) {
            (Self::Greeting, Input::Packet(packet)) if packet == HELLO => {
                *self = Self::Applying;
                Next::Describe
            }
            (_, Input::Packet(packet)) => match (*self, Report::decode(packet)) {
                (_, Some(Report::Failed(step, errno))) => Next::Failed(step, errno),
                (Self::Applying, Some(Report::Executing)) => {
                    *self = Self::Executing;
                    Next::Wait
                }
                (_, _) => nonsense,
            },
            (Self::Executing, Input::EndOfFile) => Next::Started,
            (Self::Greeting | Self::Applying, Input::EndOfFile) => {
                Next::GiveUp("ended before the program began")
            }
            (_, Input::Silence) => Next::GiveUp("did not answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [Handshake; 3] = [Handshake::Greeting, Handshake::Applying, Handshake::Executing];

    #[test]
    fn the_table_holds() {
        let failed = Report::Failed(Step::User, Errno::PERM).encode();
        let executing = Report::Executing.encode();
        let inputs = [
            Input::Packet(HELLO),
            Input::Packet(&failed),
            Input::Packet(&executing),
            Input::EndOfFile,
            Input::Silence,
        ];
        let (failed, nonsense) =
            (Next::Failed(Step::User, Errno::PERM), Next::GiveUp("answered with nonsense"));
        let (ended, silent) =
            (Next::GiveUp("ended before the program began"), Next::GiveUp("did not answer in time"));
        let table = [
            [Next::Describe, failed, nonsense, ended, silent],
            [nonsense, failed, Next::Wait, ended, silent],
            [nonsense, failed, nonsense, Next::Started, silent],
        ];
        for (state, row) in STATES.into_iter().zip(table) {
            for (input, next) in inputs.into_iter().zip(row) {
                let mut handshake = state;
                assert_eq!(handshake.handle(input), next, "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn a_start_goes_through_all_states() {
        let mut handshake = Handshake::new();
        assert_eq!(handshake.handle(Input::Packet(HELLO)), Next::Describe);
        assert_eq!(handshake.handle(Input::Packet(&Report::Executing.encode())), Next::Wait);
        assert_eq!(handshake.handle(Input::EndOfFile), Next::Started);
    }

    #[test]
    fn every_step_comes_back_as_itself() {
        for step in Step::ALL {
            let report = Report::Failed(step, Errno::NOENT);
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..40), state in 0..3usize) {
            let next = STATES[state].clone().handle(Input::Packet(&bytes));
            prop_assert_ne!(next, Next::Started, "no packet proves that a program runs");
        }
    }
}
