//! What a [`Runner`](super::Runner) runs.

use std::time::Duration;

use crate::Policy;
use crate::os::{ChildSpec, Signal};

/// How a service says that it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// It doesn't: running is good enough. The default.
    #[default]
    AtOnce,
    /// It is when it has lived for so long.
    After(Duration),
    /// By `sd_notify`: `READY=1` to the socket that its `NOTIFY_SOCKET` names.
    Notify,
    /// By a line on the descriptor of this number, from 3 on, as s6 has it: what `notification-fd` says there stands here. The
    /// program is told the number by its own options, as there.
    ///
    /// Everything up to the newline is passed over. One that closes the descriptor without a newline will never say that it is
    /// ready: its [start timeout](Policy::start_timeout) ends it. One that writes on after the line gets `SIGPIPE`.
    ///
    /// A descriptor goes to a child by a [trampoline](crate::os::trampoline()): in a program without one,
    /// [`Runner::add`](super::Runner::add) refuses the service.
    ///
    /// Source: <https://skarnet.org/software/s6/notifywhenup.html>.
    Line(u32),
}

/// A child to be kept running: see [`Runner`](super::Runner).
#[derive(Clone, Debug)]
#[must_use]
pub struct Service {
    name: String,
    spec: ChildSpec,
    ready: Ready,
    stop_signal: Signal,
    policy: Option<Policy>,
    captured: bool,
}

impl Service {
    /// A service of this name, for news and before each line of its output.
    pub fn new(name: impl Into<String>, spec: ChildSpec) -> Self {
        Self {
            name: name.into(),
            spec,
            ready: Ready::AtOnce,
            stop_signal: Signal::Term,
            policy: None,
            captured: true,
        }
    }

    /// How it says that it is ready. Default: it doesn't.
    pub fn ready(self, ready: Ready) -> Self {
        Self { ready, ..self }
    }

    /// The signal that asks the child to stop, as its program wants it: SIGQUIT for nginx, SIGINT for others. Default: SIGTERM.
    ///
    /// It goes to the child alone, and SIGCONT after it. What follows if that was in vain is the same for all: see
    /// [`policy`](Self::policy).
    pub fn stop_signal(self, signal: Signal) -> Self {
        Self { stop_signal: signal, ..self }
    }

    /// How it is started, restarted and stopped. Default: as the [`Runner`](super::Runner) says.
    ///
    /// Its stop begins with the [stop signal](Self::stop_signal) to the child; after the drain time, which is how long it may take
    /// for that, its whole process group gets SIGTERM, and in the end everybody below it is killed.
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Whether its output is read line by line. Otherwise it goes where the [`ChildSpec`] says. Default: yes.
    pub fn captured(self, captured: bool) -> Self {
        Self { captured, ..self }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    pub(super) fn how_ready(&self) -> Ready {
        self.ready
    }

    pub(super) fn how_asked(&self) -> Signal {
        self.stop_signal
    }

    pub(super) fn own_policy(&self) -> Option<Policy> {
        self.policy.clone()
    }

    pub(super) fn is_captured(&self) -> bool {
        self.captured
    }
}
