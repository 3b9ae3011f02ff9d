//! Work for the processor, spread over workers: how many primes there are below a number.
//!
//! `cargo run --release --example tasks -- 20000000`. Each worker runs one part at a time, and tells how far it is. With one that dies
//! (`kill -9` the process of any meanwhile) the part is lost that it had begun, and no other; that one is submitted again, since it does no harm
//! to count twice.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::error::Error;

use cluster::{Cluster, Message, Request, Role, TaskContext, TaskError, TaskHandle, Tasks};
use serde::{Deserialize, Serialize};

const PARTS: u64 = 8;

/// How many primes there are in a range: 0 if nobody waits for the answer any more.
#[derive(Serialize, Deserialize)]
struct CountPrimes {
    from: u64,
    to: u64,
}
impl Message for CountPrimes {
    const NAME: &'static str = "count-primes";
}
impl Request for CountPrimes {
    type Reply = u64;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    match Cluster::builder().workers(4).role()? {
        Role::Primary(primary) => {
            let below = std::env::args().nth(1).map_or(Ok(5_000_000), |number| number.parse())?;
            let handle = primary.handle();
            let counting = tokio::spawn(async move {
                let counted = count(below, &handle.tasks()).await;
                // If it has ended meanwhile, so much the better.
                let _ = handle.shutdown().await;
                counted
            });
            primary.run().await?;
            println!("{} primes below {below}", counting.await??);
        }
        Role::Worker(worker) => {
            println!("worker {} is process {}", worker.slot(), std::process::id());
            worker.ready().await;
            let run = |part: CountPrimes, context: TaskContext| Ok(primes(&part, &context));
            worker.run_blocking_tasks(1, run).await?;
        }
    }
    Ok(())
}

async fn count(below: u64, tasks: &Tasks) -> Result<u64, TaskError> {
    let parts =
        (0..PARTS).map(|part| CountPrimes { from: below * part / PARTS, to: below * (part + 1) / PARTS });
    // All of them at once; who has nothing to do gets the next.
    let begun: Vec<_> = parts.map(|part| (start(tasks, &part), part)).collect();
    let mut primes = 0;
    for (mut handle, part) in begun {
        primes += loop {
            match handle.await {
                Err(TaskError::Lost) => handle = start(tasks, &part),
                ended => break ended?,
            }
        };
    }
    Ok(primes)
}

fn start(tasks: &Tasks, part: &CountPrimes) -> TaskHandle<u64> {
    let mut handle = tasks.submit(part).start();
    let (mut progress, from) = (handle.progress::<u64>(), part.from);
    tokio::spawn(async move {
        while let Some(percent) = progress.next().await {
            println!("from {from} on: {percent} %");
        }
    });
    handle
}

/// By trial division, to have something to do.
fn primes(part: &CountPrimes, context: &TaskContext) -> u64 {
    let is_prime =
        |number: &u64| (2..).take_while(|it| it * it <= *number).all(|it| !number.is_multiple_of(it));
    let mut primes = 0;
    for quarter in 0..4 {
        if context.is_cancelled() {
            return 0;
        }
        let bound = |quarter| part.from + (part.to - part.from) * quarter / 4;
        let numbers = bound(quarter).max(2)..bound(quarter + 1);
        primes += numbers.filter(is_prime).count() as u64;
        context.progress(&((quarter + 1) * 25));
    }
    primes
}
