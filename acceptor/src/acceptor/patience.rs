//! How long a connection may lie with a worker that does not come round to taking it.
//!
//! A worker that runs a handler for 50 ms without a pause has taken one connection, and looks as loaded as one that answers
//! in 50 µs. What tells them apart is what they leave lying: a worker whose loop turns takes what it is offered in
//! well under a millisecond. Where all accept from one socket nobody gets anything who is busy; with a handoff the primary
//! has to look.
//!
//! ```text
//!             lies for PATIENCE              another has room: what lies there is claimed back
//!   Prompt ─────────────────────▶ Late ─────────────────────────────────────────▶ PassedOver
//!     ▲  ▲                         │                                                   │
//!     │  └──── takes something ────┘                                                   │
//!     └───────────── finds its tickets gone, or finishes something, or after REST ─────┘
//! ```
//!
//! Who is not prompt gets nothing more. If nobody is, connections wait in the kernel's queue for whoever is first.

use std::time::{Duration, Instant};

use cluster_ipc::board::Figures;

/// Longer than a loop that turns mostly needs on a busy machine, too; and as short as an epoll can wait.
const PATIENCE: Duration = Duration::from_millis(1);

/// After that a worker that was passed over is tried again, whatever it shows.
const REST: Duration = Duration::from_secs(1);

/// What the acceptor remembers of how one worker takes what it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It takes what it is offered. Something has lain there since then, if anything does.
    Prompt { since: Option<Instant> },
    /// Something has lain there for too long.
    Late,
    /// What lay there was claimed back, at that time, when its board showed this.
    PassedOver { at: Instant, then: Signs },
}

/// What only a loop that turns can change on a worker's board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// Tickets it came to too late.
    missed: u64,
    finished: u64,
}

impl From<&Figures> for Signs {
    fn from(figures: &Figures) -> Self {
        Self { missed: figures.missed, finished: figures.finished }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::Prompt { since: None }
    }
}

impl Patience {
    pub(super) fn handle_offered(&mut self, now: Instant) {
        if let Self::Prompt { since: since @ None } = self {
            *since = Some(now);
        }
    }

    /// The worker took or refused something. More lies there, or not.
    pub(super) fn handle_settled(&mut self, more: bool, now: Instant) {
        *self = Self::Prompt { since: more.then_some(now) };
    }

    /// What lay there was claimed back, because the worker let it lie.
    pub(super) fn handle_claimed_back(&mut self, signs: Signs, now: Instant) {
        *self = Self::PassedOver { at: now, then: signs };
    }

    /// Looks at what the worker's board says, and whether anything lies there.
    pub(super) fn handle_signs(&mut self, signs: Signs, lies: bool, now: Instant) {
        match *self {
            // It was withdrawn, say.
            Self::Prompt { .. } | Self::Late if !lies => *self = Self::default(),
            Self::Prompt { since: Some(since) } if since + PATIENCE <= now => *self = Self::Late,
            Self::PassedOver { at, then } if at + REST <= now || then != signs => *self = Self::default(),
            _ => {}
        }
    }

    pub(super) fn is_prompt(&self) -> bool {
        matches!(self, Self::Prompt { .. })
    }

    pub(super) fn is_late(&self) -> bool {
        *self == Self::Late
    }

    /// When to look again, if nothing happens before. Who is late is seen whenever anything happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match *self {
            Self::Prompt { since } => since.map(|since| since + PATIENCE),
            Self::Late => None,
            Self::PassedOver { at, .. } => Some(at + REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_something_lie_is_late_until_it_takes_it() {
        let begin = Instant::now();
        let signs = Signs::default();
        let mut patience = Patience::default();
        assert_eq!(patience.poll_timeout(), None);
        patience.handle_offered(begin);
        // What comes later lies there for less long.
        patience.handle_offered(begin + PATIENCE / 2);
        patience.handle_signs(signs, true, begin + PATIENCE / 2);
        assert!(patience.is_prompt());
        let due = patience.poll_timeout().unwrap();
        patience.handle_signs(signs, true, due);
        assert!(patience.is_late() && !patience.is_prompt());
        assert_eq!(patience.poll_timeout(), None);
        patience.handle_settled(true, due);
        assert!(patience.is_prompt());
        assert_eq!(patience.poll_timeout(), Some(due + PATIENCE));
        patience.handle_settled(false, due);
        assert_eq!(patience.poll_timeout(), None);
        patience.handle_offered(due);
        patience.handle_signs(signs, true, due + PATIENCE);
        patience.handle_signs(signs, false, due + PATIENCE);
        assert_eq!(patience, Patience::default(), "whatever lay there is gone");
    }

    #[test]
    fn who_was_passed_over_is_back_with_any_sign_or_after_a_rest() {
        let begin = Instant::now();
        let before = Signs { missed: 3, finished: 5 };
        let mut patience = Patience::default();
        patience.handle_claimed_back(before, begin);
        patience.handle_signs(before, false, begin + REST / 2);
        assert!(!patience.is_prompt() && !patience.is_late());
        for (signs, at) in [
            (Signs { missed: 4, ..before }, begin),
            (Signs { finished: 6, ..before }, begin),
            (before, patience.poll_timeout().unwrap()),
        ] {
            let mut patience = patience;
            patience.handle_signs(signs, false, at);
            assert_eq!(patience, Patience::default());
        }
    }
}
