//! The heartbeat: proof that the work loop turns.

use std::sync::Arc;
use std::time::Duration;

use cluster_ipc::board::WorkerBoard;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::control::Control;
use super::counters::Counters;
use super::gauges::Gauges;
use crate::wire::ToPrimary;

/// Beats on the board from a task of the application's own runtime, not from a thread of ours: a loop that never
/// yields must miss beats. How late each beat came is the loop's lag.
/// What the application counts goes with it. Ends when the primary is gone.
pub(super) async fn beat(
    board: Arc<WorkerBoard>,
    control: Control,
    gauges: Arc<Gauges>,
    counters: Arc<Counters>,
    every: Duration,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !control.is_closed() {
        let due = ticks.tick().await;
        let lag = Instant::now().saturating_duration_since(due);
        board.set_lag_micros(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        board.beat();
        let counted = gauges.take();
        if !counted.is_empty() {
            control.send_later(&ToPrimary::Gauges(counted));
        }
        counters
            .say_rest(|number, name| control.try_send(&ToPrimary::Counter { number, name: name.to_owned() }));
    }
}
