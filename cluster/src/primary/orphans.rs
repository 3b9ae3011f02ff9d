//! Orphans that come to this process, as PID 1 or as the subreaper: they are reaped, or they would be zombies for ever.

use cluster_supervisor::os::{Orphans, become_subreaper};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Result};

/// What looks after them, and what tells that a child has ended. `None` if none will come: this is neither PID 1 nor is to be the
/// subreaper.
pub(super) fn watch(subreaper: bool) -> Result<Option<(Orphans, Signal)>> {
    // In any case: where the signal is ignored, as whoever started us may have left it, nobody's exit can be had.
    let children = signal(SignalKind::child()).map_err(Error::os("listen for signals"))?;
    if !subreaper && std::process::id() != 1 {
        return Ok(None);
    }
    if subreaper {
        become_subreaper()?;
    }
    Ok(Some((Orphans::new(), children)))
}
