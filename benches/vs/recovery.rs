//! From a killed worker to its successor's first answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt::wait_for;
use crate::peers::Server;
use crate::{Result, client, proc};

/// For one answer; then the client gives up and asks again. Short, because a server may lose a request without closing
/// its connection (Node does), and what is measured is the server and not its client's patience.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
/// For all workers to be there, and for the successor.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a client with a connection per request saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    /// From just before SIGKILL to an answer by a process not seen before.
    pub(crate) took: Duration,
    /// Requests in between that failed, or got no answer within [`PATIENCE`].
    pub(crate) lost: u64,
}

impl Recovery {
    /// Kills a worker that has been seen at work.
    pub(crate) fn measure(server: &mut Server, workers: usize) -> Result<Self> {
        let seen = seen(server, workers)?;
        let victim = *seen.first().ok_or("no worker answered")?;
        if proc::parent(victim) != Some(server.primary()) {
            return Err(format!("process {victim} is no worker of {}", server.primary()).into());
        }
        let pid = i32::try_from(victim).ok().and_then(Pid::from_raw).ok_or("no such pid")?;

        let (address, mut lost) = (server.address(), 0);
        let begin = Instant::now();
        kill_process(pid, Signal::KILL)?;
        loop {
            match client::get(address, PATIENCE) {
                Ok(body) if client::pid(&body).is_some_and(|pid| !seen.contains(&pid)) => break,
                Ok(_) => {}
                Err(_) => lost += 1,
            }
            if begin.elapsed() > DEADLINE {
                return Err(format!("nobody took the place of worker {victim} within {DEADLINE:?}").into());
            }
            crate::interrupt::check()?;
        }
        Ok(Self { took: begin.elapsed(), lost })
    }
}

/// The workers, once each of them has answered.
fn seen(server: &mut Server, workers: usize) -> Result<BTreeSet<u32>> {
    let mut seen = BTreeSet::new();
    wait_for("an answer from every worker", DEADLINE, || {
        server.check()?;
        let body = client::get(server.address(), DEADLINE)?;
        seen.extend(client::pid(&body));
        Ok((seen.len() >= workers).then_some(()))
    })?;
    Ok(seen)
}
