//! A fixed number of connections, each for one request; so many at a time, the next when one has its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::peers::Server;
use crate::{Result, client, http, interrupt};

const WARM_UP: Duration = Duration::from_secs(3);
/// Between two looks at who has answered.
const WARM_UP_CONNECTIONS: u64 = 50;

/// Who served how many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    pub(crate) by_worker: BTreeMap<u32, u64>,
    /// Those without the answer expected.
    pub(crate) errors: u64,
}

impl Served {
    pub(crate) fn by(&self, worker: u32) -> u64 {
        self.by_worker.get(&worker).copied().unwrap_or_default()
    }
}

/// Makes the connections and waits for all answers.
pub(crate) fn run(server: &mut Server, connections: u64, at_a_time: usize) -> Result<Served> {
    let left = Arc::new(AtomicU64::new(connections));
    let address = server.address();
    let served = http::block_on(async {
        let mut clients: JoinSet<Served> =
            (0..at_a_time).map(|_| ask_in_turn(address, Arc::clone(&left))).collect();
        let mut all = Served::default();
        while let Some(served) = clients.join_next().await {
            let served = served?;
            all.errors += served.errors;
            for (worker, count) in served.by_worker {
                *all.by_worker.entry(worker).or_default() += count;
            }
        }
        Ok(all)
    })?;
    interrupt::check()?;
    server.check()?;
    Ok(served)
}

/// Asks until each worker has answered; or for a few seconds, since where the kernel chooses, one may be given nothing.
///
/// A server answers as soon as its first worker does, and what is opened then may all be that one's.
pub(crate) fn warm_up(server: &mut Server) -> Result<()> {
    let workers = server.workers()?.len().max(1);
    let deadline = Instant::now() + WARM_UP;
    let mut seen = BTreeSet::new();
    while seen.len() < workers && Instant::now() < deadline {
        seen.extend(run(server, WARM_UP_CONNECTIONS, workers)?.by_worker.into_keys());
    }
    Ok(())
}

/// One of the clients: as long as there are any left, and nobody wants to end.
async fn ask_in_turn(address: SocketAddr, left: Arc<AtomicU64>) -> Served {
    let mut served = Served::default();
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    while interrupt::check().is_ok() && take() {
        let answer = http::ask(address, "/").await;
        match answer.as_deref().map(client::pid) {
            Ok(Some(worker)) => *served.by_worker.entry(worker).or_default() += 1,
            Ok(None) => served.errors += 1,
            Err(error) => {
                eprintln!("a request failed: {error}");
                served.errors += 1;
            }
        }
    }
    served
}
