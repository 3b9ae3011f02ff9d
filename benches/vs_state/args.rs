//! What can be asked for.

use std::time::Duration;

use clap::Parser;

/// Keys that are there, each with 64 bytes under it.
pub(crate) const KEYS: usize = 10_000;

/// Runs our shared state beside Redis (on a unix socket, started here, without persistence) and beside a bare round trip of
/// `cluster_ipc` between the same two processes, in interleaved rounds, and prints how they compare.
///
/// Every worker is a process of its own. The primary, and Redis, have one CPU and the worker another, but for what is
/// measured with 4 or 8 workers: those run wherever the scheduler puts them.
#[derive(Parser, Debug)]
#[command(
    name = "vs_state",
    after_help = "The tables go to stdout, progress to stderr. Run it from a release build:\n  \
                  cargo run --release -p benches --bin vs_state -- --rounds 3"
)]
pub(crate) struct Args {
    /// Rounds; in each, everything is measured once.
    #[arg(long, value_name = "R", default_value_t = 7, value_parser = positive)]
    rounds: usize,
    /// Only what is measured with that many workers.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values = ["1", "4", "8"], value_parser = ["1", "4", "8"])]
    workers: Vec<String>,
    /// Leave Redis out.
    #[arg(long)]
    no_redis: bool,
    /// For CI: only our own parts, little of everything, one round. Works in a debug build; the figures mean nothing, but
    /// any failure is an error.
    #[arg(long, conflicts_with_all = ["rounds", "no_redis", "workers"])]
    pub(crate) smoke: bool,
    /// Be a worker; what it needs is on stdin.
    #[arg(long, hide = true, exclusive = true)]
    pub(crate) worker: bool,
}

impl Args {
    pub(crate) const fn rounds(&self) -> usize {
        if self.smoke { 1 } else { self.rounds }
    }

    pub(crate) const fn wants_redis(&self) -> bool {
        !self.smoke && !self.no_redis
    }

    /// Whether something is measured with so many workers.
    pub(crate) fn wants_team(&self, size: &str) -> bool {
        self.workers.iter().any(|wanted| wanted == size)
    }

    /// So many operations, or few of them.
    pub(crate) const fn count(&self, count: u32) -> u32 {
        if self.smoke { count.div_ceil(100) } else { count }
    }

    pub(crate) const fn keys(&self) -> usize {
        if self.smoke { KEYS / 10 } else { KEYS }
    }
}

/// Between writes, where what follows one shall not meet the next.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "not a number above 0".to_owned())
}
