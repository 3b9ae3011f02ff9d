//! Primary or worker?

use crate::{Primary, Worker};

/// What this process is. See [`Builder::role`](crate::Builder::role).
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "made to be matched; a process is one or the other")]
pub enum Role {
    /// The process that was started by a person or a service manager: it starts the workers.
    Primary(Primary),
    /// A process that the primary started, or the only process in inline mode.
    Worker(Worker),
}
