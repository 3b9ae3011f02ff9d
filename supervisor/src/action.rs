//! What the driver is to do.

use crate::WorkerId;

/// Something for the driver to do now, from [`Supervisor::poll_action`](crate::Supervisor::poll_action).
///
/// Carry actions out in the order in which they come.
/// An action that fails needs no special care unless its line says so: the deadline behind it does the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a driver that ignores an action is broken: a new one must break its build"
)]
pub enum Action {
    /// Start the process of this worker, then answer with exactly one of
    /// [`handle_spawned`](crate::Supervisor::handle_spawned) and
    /// [`handle_spawn_failed`](crate::Supervisor::handle_spawn_failed), at once or later.
    ///
    /// Until that answer no other action names this worker.
    Spawn(WorkerId),
    /// Give this worker new work from now on: it is ready.
    Admit(WorkerId),
    /// Give this worker no new work from now on, and take back what it has not begun.
    ///
    /// There is exactly one for every [`Admit`](Self::Admit), also when the worker died; it comes before the
    /// [`AskStop`](Self::AskStop) or the [`Signal`](Self::Signal).
    Withdraw(WorkerId),
    /// Ask this worker by message to drain and exit.
    ///
    /// A program without a channel can be sent SIGTERM in its place.
    AskStop(WorkerId),
    /// Send this signal to this worker's process.
    Signal(WorkerId, StopSignal),
}

impl Action {
    /// The worker that the action is about.
    pub const fn id(self) -> WorkerId {
        match self {
            Self::Spawn(id)
            | Self::Admit(id)
            | Self::Withdraw(id)
            | Self::AskStop(id)
            | Self::Signal(id, _) => id,
        }
    }
}

/// A signal that ends a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "part of `Action`")]
pub enum StopSignal {
    /// SIGTERM: the process may still tidy up.
    Term,
    /// SIGKILL: the kernel ends the process.
    Kill,
}

impl StopSignal {
    /// The signal's number, the same on every Unix.
    pub const fn number(self) -> i32 {
        match self {
            Self::Term => crate::exit::SIGTERM,
            Self::Kill => crate::exit::SIGKILL,
        }
    }
}
