//! Our shared state beside Redis, and beside a bare round trip, between real processes.
//!
//! `cargo run --release -p benches --bin vs_state`; `--help` says what it measures.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod args;
mod cpus;
mod figures;
mod gates;
mod order;
mod reads;
mod redis;
mod rounds;
mod server;
mod table;
mod team;
mod worker;

use std::error::Error;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;

use clap::Parser;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;

/// Whatever goes wrong ends the run; the message says which step it was.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = Builder::new_current_thread().enable_all().build().map_err(Box::from).and_then(|runtime| {
        runtime.block_on(async { if args.worker { worker::run().await } else { until_signal(&args).await } })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs_state: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Processes that were started are ended when what they belong to is dropped, so also at a signal.
async fn until_signal(args: &Args) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut run = pin!(run(args));
    std::future::poll_fn(|cx| {
        if interrupt.poll_recv(cx).is_ready() || terminate.poll_recv(cx).is_ready() {
            return Poll::Ready(Err("interrupted".into()));
        }
        run.as_mut().poll(cx)
    })
    .await
}

async fn run(args: &Args) -> Result<()> {
    let figures = rounds::measure(args).await?;
    table::print(args, &figures);
    gates::print(&figures);
    Ok(())
}
