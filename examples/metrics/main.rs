//! Figures of all workers, for Prometheus, from whichever of them is asked.
//!
//! `cargo run --release --example metrics`, then `curl localhost:3000` some times, `curl localhost:3000/metrics`, and, after the death of one
//! of them (`kill -9` with the number that it answers with), once more: nothing goes back. What the whole looks like to people is printed every
//! ten seconds.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use cluster::{Cluster, ClusterStatus, Event, Role, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    match Cluster::builder().workers(4).metrics_every(Duration::from_secs(10)).role()? {
        Role::Primary(primary) => {
            let mut events = primary.events();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    if let Event::Metrics(status) = event {
                        println!("{status}");
                    }
                }
            });
            primary.run().await
        }
        Role::Worker(worker) => serve(worker).await,
    }
}

async fn serve(worker: Worker) -> cluster::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let listener = worker.listen(format!("127.0.0.1:{port}")).await?;
    println!("worker {} listens on {}", worker.slot(), listener.local_addr());
    let (greeter, reporter) = (worker.clone(), worker.clone());
    let app = Router::new()
        .route("/", get(move || std::future::ready(greet(&greeter))))
        .route("/metrics", get(move || metrics(reporter.clone())))
        .layer(worker.layer());
    let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
    Ok(())
}

fn greet(worker: &Worker) -> String {
    // A counter of the application: it is summed up over all workers, those that have ended too.
    worker.count("greetings", 1);
    format!("hello from worker {}, process {}\n", worker.slot(), std::process::id())
}

/// What is asked of one worker is asked of the primary, which knows all.
async fn metrics(worker: Worker) -> Response {
    match worker.status().await {
        Ok(status) => {
            let header = [(CONTENT_TYPE, ClusterStatus::PROMETHEUS_CONTENT_TYPE)];
            (header, status.to_prometheus()).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
