//! The clock of the drivers. Cores take the time as an argument.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "this is where drivers look at the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
