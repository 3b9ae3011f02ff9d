//! The primary and its workers talk: messages, requests in both directions, from worker to worker, and to all.
//!
//! `cargo run --release --example messages`; Ctrl-C ends it.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::sync::atomic::{AtomicU32, Ordering};

use cluster::{Cluster, Event, Letter, Message, Primary, Request, Role, To, Worker};
use serde::{Deserialize, Serialize};

const WORKERS: u32 = 4;

/// Each worker draws a number from the primary.
#[derive(Serialize, Deserialize)]
struct Draw;
impl Message for Draw {
    const NAME: &'static str = "draw";
}
impl Request for Draw {
    type Reply = u32;
}

/// The primary asks each worker for a square.
#[derive(Serialize, Deserialize)]
struct Square(u64);
impl Message for Square {
    const NAME: &'static str = "square";
}
impl Request for Square {
    type Reply = u64;
}

/// Goes from worker to worker and back to the primary; each adds its slot.
#[derive(Serialize, Deserialize)]
struct Rumour(Vec<u32>);
impl Message for Rumour {
    const NAME: &'static str = "rumour";
}

/// From the last worker that heard the rumour to all others.
#[derive(Serialize, Deserialize)]
struct News(String);
impl Message for News {
    const NAME: &'static str = "news";
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    match Cluster::builder().workers(WORKERS as usize).role()? {
        Role::Primary(primary) => lead(primary).await,
        Role::Worker(worker) => work(worker).await,
    }
}

async fn lead(primary: Primary) -> cluster::Result<()> {
    let messages = primary.handle().messages();
    // Handlers come first: nobody asks before the primary runs.
    let drawn = AtomicU32::new(0);
    messages.answer(move |_: Letter<Draw>| {
        let number = drawn.fetch_add(1, Ordering::Relaxed);
        async move { Ok(number) }
    });
    messages.on(|letter: Letter<Rumour>| println!("the rumour went by {:?}", letter.message.0));
    let mut events = primary.events();
    tokio::spawn(async move {
        while !matches!(events.recv().await, Some(Event::Serving { .. }) | None) {}
        for slot in 0..WORKERS {
            match messages.request(To::Slot(slot), &Square(slot.into())).await {
                Ok(square) => println!("worker {slot} says that {slot} squared is {square}"),
                Err(error) => println!("no answer: {error}"),
            }
        }
        if let Err(error) = messages.send(To::Slot(0), &Rumour(Vec::new())).await {
            println!("no rumour: {error}");
        }
    });
    primary.run().await
}

async fn work(worker: Worker) -> cluster::Result<()> {
    let (messages, slot) = (worker.messages(), worker.slot());
    messages.answer(|letter: Letter<Square>| async move {
        letter.message.0.checked_mul(letter.message.0).ok_or_else(|| "too large".to_owned())
    });
    messages.on(move |letter: Letter<News>| {
        println!("worker {slot} hears from {}: {}", letter.from, letter.message.0);
    });
    let mut rumours = messages.stream::<Rumour>();
    println!("worker {slot} drew number {}", messages.request(To::Primary, &Draw).await?);
    worker.ready().await;
    let pass_on = async {
        while let Some(letter) = rumours.recv().await {
            let mut rumour = letter.message;
            rumour.0.push(slot);
            let last = slot + 1 == WORKERS;
            if last {
                messages.broadcast(&News("everybody knows".to_owned())).await?;
            }
            let next = if last { To::Primary } else { To::Slot(slot + 1) };
            messages.send(next, &rumour).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = worker.draining() => Ok(()),
        ended = pass_on => ended,
    }
}
