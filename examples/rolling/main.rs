//! Replaces all workers while clients ask without a pause, and counts what they lost: nothing.
//!
//! `cargo run --release --example rolling -- --rolls 5`. To see a deployment instead, start it with `--wait`, build the program anew
//! with a change, and send SIGHUP to the process that it names: one worker runs the new program first, and if that is no
//! good, all go on with the old one.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::routing::get;
use clap::Parser;
use cluster::supervisor::Roll;
use cluster::{Cluster, Event, Events, Handle, Role, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Replaces all workers while clients ask without a pause.
#[derive(Parser)]
struct Args {
    /// Worker processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// How often all of them are replaced.
    #[arg(long, default_value_t = 5)]
    rolls: u32,
    /// Clients that ask, each on a connection per request.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Serve until a signal comes, and roll at SIGHUP only.
    #[arg(long)]
    wait: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            eprintln!("rolling: {lost} requests were lost");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("rolling: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Returns how many requests were lost.
async fn run(args: Args) -> cluster::Result<u64> {
    let rolling = Roll::same().canaries(1, Duration::from_secs(2));
    match Cluster::builder().workers(args.workers.into()).rolling(rolling).role()? {
        Role::Worker(worker) => serve(worker).await.map(|()| 0),
        Role::Primary(primary) => {
            let (events, handle) = (primary.events(), primary.handle());
            let demonstration = tokio::spawn(demonstrate(args, events, handle));
            primary.run().await?;
            // It ended before the cluster did, or with it.
            Ok(demonstration.await.unwrap_or(0))
        }
    }
}

async fn serve(worker: Worker) -> cluster::Result<()> {
    let listener = worker.listen("127.0.0.1:0").await?;
    let id = worker.id().to_string();
    let app =
        axum::Router::new().route("/", get(move || std::future::ready(id.clone()))).layer(worker.layer());
    // Never fails: the listener waits where it has nothing to give.
    let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
    Ok(())
}

/// What clients have met.
#[derive(Debug, Default)]
struct Load {
    answered: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
}

async fn demonstrate(args: Args, mut events: Events, handle: Handle) -> u64 {
    let Some(address) = serving(&mut events).await else { return 0 };
    println!("serving on {address}; the primary is {}", std::process::id());
    if args.wait {
        while let Some(event) = events.recv().await {
            println!("{event}");
        }
        return 0;
    }
    let load = Arc::new(Load::default());
    let clients: Vec<_> =
        (0..args.clients).map(|_| tokio::spawn(ask_on_and_on(address, Arc::clone(&load)))).collect();
    for roll in 1..=args.rolls {
        let begin = Instant::now();
        match handle.reload().await {
            Ok(report) => println!(
                "roll {roll}: {}, {} workers in {:.0?}; {} requests so far, {} lost",
                report.outcome,
                report.replaced,
                begin.elapsed(),
                load.answered.load(Ordering::Relaxed),
                load.lost.load(Ordering::Relaxed),
            ),
            // Somebody stopped us meanwhile.
            Err(error) => {
                println!("roll {roll}: {error}");
                break;
            }
        }
    }
    load.over.store(true, Ordering::Relaxed);
    for client in clients {
        let _ = client.await;
    }
    // If it has ended already, so much the better.
    let _ = handle.shutdown().await;
    load.lost.load(Ordering::Relaxed)
}

async fn serving(events: &mut Events) -> Option<SocketAddr> {
    while let Some(event) = events.recv().await {
        if let Event::Serving { addresses, .. } = event {
            return addresses.first()?.ip();
        }
    }
    None
}

async fn ask_on_and_on(address: SocketAddr, load: Arc<Load>) {
    while !load.over.load(Ordering::Relaxed) {
        match ask(address).await {
            Ok(()) => load.answered.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                println!("lost: {error}");
                load.lost.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other("no answer")) }
}
