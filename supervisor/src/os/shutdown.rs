//! What the signals that stop a program ask for: first in order, then now. No I/O.
//!
//! | state \ signal | TERM, INT, QUIT | others |
//! |----------------|-----------------|--------|
//! | Running        | Graceful        | -      |
//! | Graceful       | Now             | -      |
//! | Now            | -               | -      |

use super::Signal;

/// Turns signals into the two demands of a shutdown.
///
/// `SIGQUIT` counts like `SIGTERM` and `SIGINT`: it is the graceful one to nginx and unicorn, and the fast one to gunicorn.
/// Who meant the fast one sends it again.
///
/// ```
/// use cluster_supervisor::os::{Shutdown, Signal, Stop};
///
/// let mut shutdown = Shutdown::default();
/// assert_eq!(shutdown.handle_signal(Signal::Hup), None);
/// assert_eq!(shutdown.handle_signal(Signal::Int), Some(Stop::Graceful)); // supervisor.shutdown(now)
/// assert_eq!(shutdown.handle_signal(Signal::Int), Some(Stop::Now)); // supervisor.shutdown_now(now)
/// assert_eq!(shutdown.handle_signal(Signal::Int), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    asked: Option<Stop>,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// Finish what was begun, within the deadlines.
    Graceful,
    /// Don't wait any longer.
    Now,
}

impl Shutdown {
    /// Takes a signal and returns what it asks for, if that is new.
    pub fn handle_signal(&mut self, signal: Signal) -> Option<Stop> {
        let asked = match (self.asked, signal) {
            (None, Signal::Term | Signal::Int | Signal::Quit) => Stop::Graceful,
            (Some(Stop::Graceful), Signal::Term | Signal::Int | Signal::Quit) => Stop::Now,
            (Some(Stop::Now), _)
            | (
                None | Some(Stop::Graceful),
                Signal::Hup | Signal::Child | Signal::Usr1 | Signal::Usr2 | Signal::Ttin | Signal::Ttou,
            ) => return None,
        };
        self.asked = Some(asked);
        self.asked
    }

    /// What has been asked for so far.
    pub fn asked(self) -> Option<Stop> {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_means_now_whichever_they_are() {
        let stops = |signal| matches!(signal, Signal::Term | Signal::Int | Signal::Quit);
        for first in Signal::ALL {
            for second in Signal::ALL {
                let mut shutdown = Shutdown::default();
                let asked = [first, second].map(|signal| shutdown.handle_signal(signal));
                let expected = match (stops(first), stops(second)) {
                    (true, true) => [Some(Stop::Graceful), Some(Stop::Now)],
                    (true, false) => [Some(Stop::Graceful), None],
                    (false, true) => [None, Some(Stop::Graceful)],
                    (false, false) => [None, None],
                };
                assert_eq!(asked, expected, "{first}, {second}");
                assert_eq!(shutdown.asked(), asked[1].or(asked[0]));
            }
        }
    }

    #[test]
    fn a_third_signal_asks_for_nothing_more() {
        let mut shutdown = Shutdown::default();
        let asked = [Signal::Term; 3].map(|signal| shutdown.handle_signal(signal));
        assert_eq!(asked, [Some(Stop::Graceful), Some(Stop::Now), None]);
    }
}
