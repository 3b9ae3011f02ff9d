//! A primary, and two worker processes that compute. One of them is killed in the middle of something; the other goes on.
//!
//! `cargo run -p cluster-tasks --example compute`
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use cluster_ipc::events::{Call, Event};
use cluster_ipc::session::Config;
use cluster_ipc::switch::{Port, Switch};
use cluster_ipc::tokio::Endpoint;
use cluster_ipc::{Adopted, Error, Spawn};
use cluster_tasks::{Desk, Pool, TaskContext, TaskError, TaskPolicy};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Serialize, Deserialize)]
enum Work {
    Square(u64),
    /// Says who has begun it, and goes on until nobody waits for it.
    Endless,
}
impl Event for Work {
    const NAME: &'static str = "work";
}
impl Call for Work {
    type Reply = u64;
}

fn main() -> Result<()> {
    match cluster_ipc::adopt() {
        Ok(adopted) => worker(adopted),
        // Started by a user, not by a primary of ours.
        Err(Error::NotAdopted { .. }) => primary(),
        Err(error) => Err(error.into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn primary() -> Result<()> {
    let (pool, server) = Pool::new(Switch::new(), TaskPolicy::new())?;
    tokio::spawn(server.serve());
    let mut serving = JoinSet::new();
    let mut workers = Vec::new();
    for slot in 0..2_u32 {
        let (child, connection) = Spawn::new(std::env::current_exe()?).greeting([slot as u8]).spawn()?;
        serving.spawn(pool.attach(slot, slot, Endpoint::new(connection)?));
        workers.push(child);
    }

    let tasks = pool.desk().tasks();
    let squares: Vec<_> = (1..=4).map(|number| tasks.submit(&Work::Square(number)).start()).collect();
    for square in squares {
        println!("a square: {}", square.await?);
    }

    let mut endless = tasks.submit(&Work::Endless).start();
    let slot = endless.progress::<u8>().next().await.ok_or("it tells who has begun it")?;
    println!("an endless task has begun in a worker, which is killed");
    if let Some(child) = workers.get_mut(usize::from(slot)) {
        child.kill()?;
        child.wait()?;
    }
    match endless.await {
        Err(error @ TaskError::Lost) => println!("{error}"),
        other => return Err(format!("{other:?}").into()),
    }
    let square = tasks.submit(&Work::Square(5)).deadline(Duration::from_secs(60)).await?;
    println!("the other one goes on: {square}");

    // The connections end, and so do the workers.
    serving.shutdown().await;
    for child in &mut workers {
        child.wait()?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn worker(adopted: Adopted) -> Result<()> {
    let slot = *adopted.welcome().payload().first().ok_or("a greeting")?;
    let connection = adopted.connect(Config::new(), b"")?;
    let (port, serving) = Port::<u32>::new(Endpoint::new(connection)?);
    let desk = Desk::new(port);
    // When the connection ends, so does what is run here.
    tokio::spawn(desk.watch(serving));
    let work = move |work: Work, context: TaskContext| match work {
        Work::Square(number) => number.checked_mul(number).ok_or_else(|| "too large".to_owned()),
        Work::Endless => {
            context.progress(&slot);
            while !context.is_cancelled() {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(0)
        }
    };
    desk.run_blocking(1, work, std::future::pending()).await?;
    Ok(())
}
