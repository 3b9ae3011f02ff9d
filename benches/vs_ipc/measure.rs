//! One measurement, and how many operations it takes.

use std::time::Duration;

use crate::Result;
use crate::cpus::Pinned;
use crate::interrupt;
use crate::job::Job;
use crate::peers::Peer;

/// What the next try may grow by: a first try can be slow for reasons of its own.
const GROWTH: f64 = 60.0;
/// A try is the last if it takes this part of the time asked for.
const CLOSE: f64 = 3.0;

/// Operations per second: round trips, messages or descriptors.
pub(crate) fn speed(peer: &dyn Peer, job: &Job) -> Result<f64> {
    let operations = job.count as f64 * job.case.weight() as f64;
    Ok(operations / run(peer, job)?.as_secs_f64())
}

/// Tries ever more operations until the time they take says how many fill `target`, and how many warm the peer up.
pub(crate) fn calibrate(peer: &dyn Peer, mut job: Job, target: Duration) -> Result<Job> {
    loop {
        let took = run(peer, &job)?.as_secs_f64().max(1e-6);
        let fitting = |time: Duration| {
            let growth = (time.as_secs_f64() / took).min(GROWTH);
            (job.count as f64 * growth).ceil() as u64
        };
        job = Job { warm_up: fitting(peer.warm_up()), count: fitting(target), ..job };
        if took > target.as_secs_f64() / CLOSE {
            return Ok(job);
        }
    }
}

fn run(peer: &dyn Peer, job: &Job) -> Result<Duration> {
    interrupt::check()?;
    let _pinned = job.placement.map(|placement| Pinned::to(placement.parent)).transpose()?;
    let outcome = peer.run(job);
    // A child that ended because of a signal is no failure of the peer's.
    interrupt::check()?;
    outcome.map_err(|error| format!("{}: {}: {error}", peer.name(), job.case).into())
}
