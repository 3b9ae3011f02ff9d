//! An HTTP server on several worker processes.
//!
//! `cargo run --release --example http -- --port 3000 --workers 4`, then
//! `curl localhost:3000/`, `curl localhost:3000/status`, `curl -X POST localhost:3000/crash`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod app;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use cluster::supervisor::{Backoff, Policy};
use cluster::{Cluster, Event, Mode, Role, Worker};

/// Serves HTTP on several worker processes that share one port.
#[derive(Parser)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Worker processes; 0 serves from this one process [default: one per core].
    #[arg(long)]
    workers: Option<usize>,
    /// Who gets the next connection in mode handoff: least-loaded, round-robin, …
    #[arg(long, default_value = "least-loaded")]
    strategy: String,
    /// How connections come to the workers.
    #[arg(long, default_value_t, value_parser = PossibleValuesParser::new(Mode::NAMES).try_map(|name| name.parse::<Mode>()))]
    mode: Mode,
    /// Restarts of one worker within 60 s before it is given up.
    #[arg(long, default_value_t = 10)]
    max_restarts: u32,
    /// Pause before the second restart in a row, in milliseconds; doubles with each further one.
    #[arg(long, default_value_t = 1000)]
    restart_delay: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let line = causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"));
            tracing::error!(pid = std::process::id(), "{line}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: Args) -> cluster::Result<()> {
    let policy = Policy::new().backoff(Backoff::new().base(Duration::from_millis(args.restart_delay)));
    let mut builder = Cluster::builder()
        .strategy(args.strategy)
        .mode(args.mode)
        .policy(policy)
        .max_restarts(args.max_restarts);
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    match builder.role()? {
        Role::Primary(primary) => {
            tokio::spawn(say_when_serving(primary.events()));
            primary.run().await
        }
        Role::Worker(worker) => serve(worker, &args.host, args.port).await,
    }
}

/// The one line on stdout that says where to find us.
async fn say_when_serving(mut events: cluster::Events) {
    while let Some(event) = events.recv().await {
        if let Event::Serving { addresses, workers } = event {
            for address in addresses {
                println!("listening on {address} (primary {}, {workers} workers)", std::process::id());
            }
        }
    }
}

async fn serve(worker: Worker, host: &str, port: u16) -> cluster::Result<()> {
    // Every line of this process's log says which worker it is.
    let _span = tracing::info_span!("worker", slot = worker.slot(), pid = std::process::id()).entered();
    let listener = worker.listen((host, port)).await?;
    let asking = worker.clone();
    let app = app::router(worker.slot())
        .route("/status", get(move || status(asking.clone())))
        .layer(worker.layer());
    // Never fails: the listener waits where it has nothing to give.
    let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
    Ok(())
}

async fn status(worker: Worker) -> Response {
    let answer = match worker.status().await {
        Ok(status) => serde_json::to_string(&status).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (axum::http::StatusCode::SERVICE_UNAVAILABLE, error + "\n").into_response(),
    }
}
