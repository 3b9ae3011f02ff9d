//! The heartbeat: proof that the work loop turns.

use std::sync::Arc;
use std::time::Duration;

use cluster_ipc::board::WorkerBoard;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Beats on the board from a task of the application's own runtime, not from a thread of ours: a loop that never
/// yields must miss beats. How late each beat came is the loop's lag.
pub(super) async fn beat(board: Arc<WorkerBoard>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let lag = Instant::now().saturating_duration_since(due);
        board.set_lag_micros(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        board.beat();
    }
}
