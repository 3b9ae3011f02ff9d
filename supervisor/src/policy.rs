//! What the supervisor should do, as plain settings with safe defaults.

use std::time::Duration;

use crate::{Backoff, ExitCodes, Group};

/// How the workers of one [`Supervisor`](crate::Supervisor) are started, restarted and stopped.
///
/// Every method replaces one setting and keeps the rest, so name only what differs from the defaults:
///
/// | setting | default |
/// |---|---|
/// | [`restart`](Self::restart) | [`Restart::Always`] |
/// | [`success`](Self::success) | code 0 |
/// | [`hopeless`](Self::hopeless) | no code |
/// | [`budget`](Self::budget) | 10 restarts in 60 s per slot |
/// | [`backoff`](Self::backoff) | at once, then 1 s, 2 s, 4 s, … 30 s, each ± 20 % |
/// | [`stop`](Self::stop) | 10 s after the message SIGTERM, 2 s later SIGKILL |
/// | [`start_timeout`](Self::start_timeout) | 30 s |
/// | [`stable_after`](Self::stable_after) | 30 s |
/// | [`group`](Self::group) | [`Group::OneForOne`] |
/// | [`max_surge`](Self::max_surge) | 1 |
/// | [`max_unavailable`](Self::max_unavailable) | 0 |
///
/// ```
/// use std::time::Duration;
/// use cluster_supervisor::{Budget, Policy, Restart, StopSequence};
///
/// let policy = Policy::new()
///     .restart(Restart::OnFailure)
///     .budget(Budget::new(3, Duration::from_secs(10)))
///     .stop(StopSequence::new().drain(Duration::from_secs(30)));
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) restart: Restart,
    pub(crate) success: ExitCodes,
    pub(crate) hopeless: ExitCodes,
    pub(crate) budget: Budget,
    pub(crate) backoff: Backoff,
    pub(crate) stop: StopSequence,
    pub(crate) start_timeout: Duration,
    pub(crate) stable_after: Duration,
    pub(crate) group: Group,
    pub(crate) max_surge: u32,
    pub(crate) max_unavailable: u32,
}

impl Policy {
    /// The defaults of the table above.
    pub const fn new() -> Self {
        Self {
            restart: Restart::Always,
            success: ExitCodes::of(&[0]),
            hopeless: ExitCodes::none(),
            budget: Budget::new(10, Duration::from_secs(60)),
            backoff: Backoff::new(),
            stop: StopSequence::new(),
            start_timeout: Duration::from_secs(30),
            stable_after: Duration::from_secs(30),
            group: Group::OneForOne,
            max_surge: 1,
            max_unavailable: 0,
        }
    }

    /// Which exits are followed by a new start; an exit that was asked for never is.
    pub const fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The codes that [`Restart::OnFailure`] takes for a success, by which a job says that it is done. Name 0 too if it is one of them.
    pub const fn success(mut self, codes: ExitCodes) -> Self {
        self.success = codes;
        self
    }

    /// The codes by which a worker says that no restart will help, such as 78 of `sysexits.h` for a bad configuration. Its slot is given
    /// up at once, whatever [`restart`](Self::restart) says and however much is left of the budget.
    pub const fn hopeless(mut self, codes: ExitCodes) -> Self {
        self.hopeless = codes;
        self
    }

    /// How many restarts a slot may use before it is given up.
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// How long to wait before a restart.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How patiently a worker is stopped.
    pub const fn stop(mut self, stop: StopSequence) -> Self {
        self.stop = stop;
        self
    }

    /// How patiently a worker is stopped.
    pub const fn stop_sequence(&self) -> StopSequence {
        self.stop
    }

    /// How long a worker may take from spawned to ready before it is killed, which counts as a failed start.
    pub const fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a worker must have been ready for its end to count as the first failure again, not as one more
    /// in a row.
    pub const fn stable_after(mut self, stable: Duration) -> Self {
        self.stable_after = stable;
        self
    }

    /// Who goes down with whom, and in which order workers start and stop.
    ///
    /// The deadlines of a stop that goes in order add up.
    pub const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// How many workers more than there are slots may live while workers are replaced, those included that drain.
    ///
    /// With 0 here and for [`max_unavailable`](Self::max_unavailable) it counts as 1: otherwise nothing could be replaced.
    pub const fn max_surge(mut self, workers: u32) -> Self {
        self.max_surge = workers;
        self
    }

    /// How many slots may be without a ready worker, for whatever reason, when a worker has to go before its successor comes. A slot
    /// that was given up is such a one; only a roll does not wait for those that it can't bring back.
    /// That happens only where [`max_surge`](Self::max_surge) leaves no other way.
    pub const fn max_unavailable(mut self, slots: u32) -> Self {
        self.max_unavailable = slots;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// Which exits are followed by a new start.
///
/// The exit status alone decides. An exit that was asked for, by a stop or a shutdown, is never followed by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// Every exit: right for a server, whose work is never done.
    #[default]
    Always,
    /// Every exit but those with a code of [`Policy::success`]: right for a job that may finish.
    OnFailure,
    /// No exit.
    Never,
}

/// How many restarts a slot may use in a sliding period; the next failure gives the slot up.
///
/// # Only serving refills it
///
/// The period measures the time in which the slot's worker was *ready*; time in back-off, and time that starts take, stands still.
/// If waiting counted, the exponential back-off would by itself keep every crash loop below the budget: with 30 s between
/// starts there are never 10 in 60 s, and a worker that aborts at start would be restarted for ever; so would one that
/// never gets ready and runs into its start timeout each time.
/// With the defaults, a worker that always dies at start is given up after exactly 10 restarts, which takes
/// about three minutes, nearly all of it back-off.
///
/// A failed spawn uses none of the budget: a machine short of processes or descriptors is not the worker's fault.
///
/// # Why 10 in 60 s
///
/// OTP allows 1 in 5 s and systemd 5 in 10 s, both as bursts without a pause that grows: they have to end a hot loop soon, and
/// so they also end what a database that restarts, or a deploy that takes half a minute, would have healed.
/// Cluster managers for Node commonly stop after 10 restarts. Here the back-off has cooled the loop before it could burn anything, so the
/// budget only has to tell a fault that heals from one that doesn't: ten tries, spread over minutes. A worker that serves for 6 s
/// between two crashes may go on for ever, which a server of several workers survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    limit: Option<u32>,
    period: Duration,
}

impl Budget {
    /// Allows `restarts` in any `period`; with 0 the first failure gives the slot up.
    pub const fn new(restarts: u32, period: Duration) -> Self {
        Self { limit: Some(restarts), period }
    }

    /// Never gives up. The back-off alone then bounds the rate of a crash loop.
    pub const fn unlimited() -> Self {
        Self { limit: None, period: Duration::ZERO }
    }

    /// The number of restarts allowed in a period, `None` when there is no limit.
    pub(crate) const fn limit(self) -> Option<u32> {
        self.limit
    }

    pub(crate) const fn period(self) -> Duration {
        self.period
    }
}

impl Default for Budget {
    /// 10 restarts in 60 s.
    fn default() -> Self {
        Policy::new().budget
    }
}

/// The steps by which a worker is stopped, each with a finite deadline.
///
/// ```text
/// AskStop ── drain (10 s) ──▶ SIGTERM ── terminate (2 s) ──▶ SIGKILL
/// ```
///
/// The worker leaves the sequence by exiting. A zero duration skips to the next step at the next
/// [`handle_timeout`](crate::Supervisor::handle_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSequence {
    pub(crate) drain: Duration,
    pub(crate) terminate: Duration,
}

impl StopSequence {
    /// 10 s to drain, 2 s to react to SIGTERM.
    pub const fn new() -> Self {
        Self { drain: Duration::from_secs(10), terminate: Duration::from_secs(2) }
    }

    /// How long a worker that was asked to stop may take before it gets SIGTERM.
    pub const fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// How long that is.
    pub const fn drain_deadline(&self) -> Duration {
        self.drain
    }

    /// How long a worker may live on after it was asked to stop.
    pub const fn longest(&self) -> Duration {
        self.drain.saturating_add(self.terminate)
    }

    /// How long a worker that got SIGTERM may take before it gets SIGKILL.
    pub const fn terminate(mut self, terminate: Duration) -> Self {
        self.terminate = terminate;
        self
    }
}

impl Default for StopSequence {
    fn default() -> Self {
        Self::new()
    }
}
