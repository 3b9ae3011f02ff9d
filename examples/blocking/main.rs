//! A handler that blocks its process for five seconds: one worker of four, or all there is.
//!
//! `cargo run --release --example blocking`, then `curl localhost:3000/block &` and, at once, `curl localhost:3000` as often as you like:
//! the others answer. With `-- 3000 --single` it is one process, as without a cluster: then all of them wait.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use axum::extract::Query;
use axum::{Router, routing::get};
use cluster::{Cluster, Role};
use serde::Deserialize;

/// `?ms=N`
#[derive(Deserialize)]
struct Block {
    #[serde(default = "five_seconds")]
    ms: u64,
}

fn five_seconds() -> u64 {
    5000
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    // With no worker this process serves by itself.
    let workers = if std::env::args().any(|argument| argument == "--single") { 0 } else { 4 };
    match Cluster::builder().workers(workers).role()? {
        Role::Primary(primary) => primary.run().await,
        Role::Worker(worker) => {
            let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
            let listener = worker.listen(format!("127.0.0.1:{port}")).await?;
            println!("worker {} listens on {}", worker.slot(), listener.local_addr());
            let slot = worker.slot();
            let app = Router::new()
                .route("/", get(format!("worker {slot}\n")))
                .route("/block", get(move |Query(Block { ms })| block(slot, ms)))
                .layer(worker.layer());
            let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
            Ok(())
        }
    }
}

/// What no handler should do: it keeps the process's one thread, and with it all other connections. Up to 10 s the primary only sends new
/// ones elsewhere; then it replaces the worker.
async fn block(slot: u32, ms: u64) -> String {
    println!("worker {slot} blocks for {ms} ms");
    std::thread::sleep(Duration::from_millis(ms));
    format!("worker {slot} was blocked for {ms} ms\n")
}
