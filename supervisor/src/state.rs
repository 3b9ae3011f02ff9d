//! What state a worker is in, and what each input makes of it.
//!
//! | state \ input | spawned    | spawn failed | online | ready   | exit   | timeout       | stop        | kill      | unhealthy | channel lost   | leave       |
//! |---------------|------------|--------------|--------|---------|--------|---------------|-------------|-----------|-----------|----------------|-------------|
//! | Spawning      | Starting   | Gone         | -      | -       | Gone   | -             | Recalled    | Condemned | -         | -              | -           |
//! | Recalled      | Draining Q | Gone         | -      | -       | Gone   | -             | -           | Condemned | -         | -              | -           |
//! | Condemned     | Killed K   | Gone         | -      | -       | Gone   | -             | -           | -         | -         | -              | -           |
//! | Starting      | -          | -            | -      | Ready A | Gone   | Killed K      | Draining Q  | Killed K  | Killed K  | Terminating T  | Draining Q  |
//! | Ready         | -          | -            | -      | -       | Gone W | -             | Draining WQ | Killed WK | Killed WK | Terminating WT | Draining WQ |
//! | Draining      | -          | -            | -      | -       | Gone   | Terminating T | -           | Killed K  | Killed K  | -              | -           |
//! | Terminating   | -          | -            | -      | -       | Gone   | Killed K      | -           | Killed K  | Killed K  | -              | -           |
//! | Killed        | -          | -            | -      | -       | Gone   | -             | -           | -         | -         | -              | -           |
//! | Gone          | -          | -            | -      | -       | -      | -             | -           | -         | -         | -              | -           |
//!
//! A admit, W withdraw, Q ask to stop, T SIGTERM, K SIGKILL, - ignored.
//!
//! Actions hang on the states, not on the arrows: entering `Ready` admits and leaving it withdraws; entering
//! `Draining` asks, `Terminating` sends SIGTERM, `Killed` sends SIGKILL.
//! So an arrow that forgets its action cannot be drawn.
//!
//! `tests/table.rs` reads this table and walks every pair of it.

use std::time::{Duration, Instant};

use crate::{Action, ExitCause, Policy, StopSignal, WorkerId, WorkerState};

/// Where one life of a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The driver was told to spawn it and has not answered.
    Spawning,
    /// As `Spawning`, but to be asked to stop as soon as it is there.
    Recalled,
    /// As `Spawning`, but to be killed as soon as it is there.
    Condemned,
    /// The process runs and is not ready.
    Starting,
    /// It takes work.
    Ready,
    /// It was asked to stop by message.
    Draining,
    /// It was sent SIGTERM.
    Terminating,
    /// It was sent SIGKILL. No deadline: there is nothing stronger to do than to wait for the exit.
    Killed,
    /// The process has ended or never was.
    Gone,
}

/// What can happen to one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Spawned,
    SpawnFailed,
    Online,
    Ready,
    Exit,
    Timeout,
    /// The user wants it to end gracefully.
    Stop,
    /// The user wants it to end at once.
    Kill,
    /// It says that it ends by itself.
    Leave,
    Unhealthy,
    ChannelLost,
}

impl State {
    /// The state after `input`; the same state when the input means nothing here.
    pub(crate) const fn next(self, input: Input) -> Self {
        use Input as I;
        match (self, input) {
            (Self::Spawning, I::Spawned) => Self::Starting,
            (Self::Spawning, I::Stop) => Self::Recalled,
            (Self::Spawning | Self::Recalled, I::Kill) => Self::Condemned,
            (Self::Recalled, I::Spawned) => Self::Draining,
            (Self::Condemned, I::Spawned) => Self::Killed,
            (Self::Spawning | Self::Recalled | Self::Condemned, I::SpawnFailed) => Self::Gone,

            (Self::Starting, I::Ready) => Self::Ready,
            (Self::Starting | Self::Ready, I::Stop | I::Leave) => Self::Draining,
            (Self::Starting | Self::Ready, I::ChannelLost) | (Self::Draining, I::Timeout) => {
                Self::Terminating
            }
            (Self::Starting | Self::Terminating, I::Timeout) => Self::Killed,
            // A process that hangs past its deadline would not hear a message or handle SIGTERM.
            (Self::Starting | Self::Ready | Self::Draining | Self::Terminating, I::Kill | I::Unhealthy) => {
                Self::Killed
            }

            // An exit is believed at any time, even before the driver said that it had spawned:
            // a slot that waits for the dead would wait for ever.
            (
                Self::Spawning
                | Self::Recalled
                | Self::Condemned
                | Self::Starting
                | Self::Ready
                | Self::Draining
                | Self::Terminating
                | Self::Killed,
                I::Exit,
            ) => Self::Gone,

            // The rest is ignored.
            // Without a process there is nobody to speak, to hang or to be late.
            (
                Self::Spawning | Self::Recalled | Self::Condemned,
                I::Online | I::Ready | I::Timeout | I::Leave | I::Unhealthy | I::ChannelLost,
            ) => self,
            // On its way out already.
            (Self::Draining | Self::Terminating | Self::Killed, I::Leave) => self,
            // Asked twice, or asked for less than is under way.
            (
                Self::Recalled | Self::Condemned | Self::Draining | Self::Terminating | Self::Killed,
                I::Stop,
            )
            | (Self::Condemned | Self::Killed, I::Kill) => self,
            // One answer to a spawn is enough.
            (
                Self::Starting | Self::Ready | Self::Draining | Self::Terminating | Self::Killed,
                I::Spawned | I::SpawnFailed,
            ) => self,
            // Being online is told to people and changes nothing.
            (Self::Starting, I::Online) => self,
            // A worker on its way out is never admitted.
            (Self::Ready | Self::Draining | Self::Terminating | Self::Killed, I::Online | I::Ready) => self,
            // Closing the channel is the last thing that a draining worker does before it exits.
            // A SIGTERM at that moment would turn its clean exit into a death by signal; the deadline stands.
            (Self::Draining | Self::Terminating, I::ChannelLost) => self,
            (Self::Killed, I::Unhealthy | I::ChannelLost) => self,
            // These have no deadline.
            (Self::Ready | Self::Killed, I::Timeout) => self,
            (
                Self::Gone,
                I::Spawned
                | I::SpawnFailed
                | I::Online
                | I::Ready
                | I::Exit
                | I::Timeout
                | I::Stop
                | I::Kill
                | I::Leave
                | I::Unhealthy
                | I::ChannelLost,
            ) => self,
        }
    }

    /// What the driver has to do when the worker `id` enters this state.
    pub(crate) const fn action(self, id: WorkerId) -> Option<Action> {
        match self {
            Self::Spawning => Some(Action::Spawn(id)),
            Self::Ready => Some(Action::Admit(id)),
            Self::Draining => Some(Action::AskStop(id)),
            Self::Terminating => Some(Action::Signal(id, StopSignal::Term)),
            Self::Killed => Some(Action::Signal(id, StopSignal::Kill)),
            Self::Recalled | Self::Condemned | Self::Starting | Self::Gone => None,
        }
    }

    /// When a worker that enters this state at `now` has been in it for too long.
    ///
    /// A worker that enters a state late, since the driver was late, still gets the state's full time.
    pub(crate) fn deadline(self, now: Instant, policy: &Policy) -> Option<Instant> {
        match self {
            Self::Starting => Some(after(now, policy.start_timeout)),
            Self::Draining => Some(after(now, policy.stop.drain)),
            Self::Terminating => Some(after(now, policy.stop.terminate)),
            Self::Spawning | Self::Recalled | Self::Condemned | Self::Ready | Self::Killed | Self::Gone => {
                None
            }
        }
    }

    /// The state as users see it.
    pub(crate) const fn public(self) -> WorkerState {
        match self {
            Self::Spawning | Self::Starting => WorkerState::Starting,
            Self::Ready => WorkerState::Ready,
            Self::Draining => WorkerState::Draining,
            Self::Recalled | Self::Condemned | Self::Terminating | Self::Killed => WorkerState::Stopping,
            Self::Gone => WorkerState::Stopped,
        }
    }
}

/// Why a worker is on its way out after `input` moved it, given why it already was.
///
/// The first cause stays, with two exceptions: a worker that was asked nicely and then had to be killed is told
/// apart from one that obeyed.
pub(crate) const fn cause(before: Option<ExitCause>, next: State, input: Input) -> Option<ExitCause> {
    match (before, input) {
        (None, Input::Stop | Input::Kill) => Some(ExitCause::Asked),
        (None, Input::Leave) => Some(ExitCause::Left),
        (None, Input::Timeout) => Some(ExitCause::StartTimeout),
        (None | Some(ExitCause::Asked), Input::Unhealthy) => Some(ExitCause::Unhealthy),
        (None, Input::ChannelLost) => Some(ExitCause::ChannelLost),
        (Some(ExitCause::Asked), Input::Timeout) if matches!(next, State::Killed) => {
            Some(ExitCause::StopTimeout)
        }
        (
            None | Some(_),
            Input::Spawned | Input::SpawnFailed | Input::Online | Input::Ready | Input::Exit,
        )
        | (
            Some(_),
            Input::Stop | Input::Kill | Input::Leave | Input::Timeout | Input::Unhealthy | Input::ChannelLost,
        ) => before,
    }
}

/// `now + wait`; a wait beyond what the clock can hold is as good as thirty years.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(wait).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_stop_says_whether_it_was_obeyed() {
        let asked = cause(None, State::Draining, Input::Stop);
        assert_eq!(asked, Some(ExitCause::Asked));
        let termed = cause(asked, State::Terminating, Input::Timeout);
        assert_eq!(termed, Some(ExitCause::Asked), "SIGTERM is still a request");
        let killed = cause(termed, State::Killed, Input::Timeout);
        assert_eq!(killed, Some(ExitCause::StopTimeout));
        assert_eq!(
            cause(asked, State::Killed, Input::Kill),
            Some(ExitCause::Asked),
            "impatience is not a timeout"
        );
    }

    #[test]
    fn the_first_cause_stays() {
        for (first, input) in [
            (ExitCause::ChannelLost, Input::Timeout),
            (ExitCause::ChannelLost, Input::Unhealthy),
            (ExitCause::ChannelLost, Input::Kill),
            (ExitCause::StartTimeout, Input::Exit),
        ] {
            assert_eq!(cause(Some(first), State::Killed, input), Some(first));
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn an_endless_wait_does_not_overflow_the_clock() {
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(1_000_000));
        assert_eq!(after(now, Duration::ZERO), now);
    }
}
