//! The clock of the drivers. Cores take the time as an argument.

use std::time::Instant;
#[cfg(feature = "switch")]
use std::time::SystemTime;

#[allow(clippy::disallowed_methods, reason = "this is where drivers look at the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(feature = "switch")]
#[allow(clippy::disallowed_methods, reason = "the same, for people")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
