//! What the server does, whoever accepts the connections.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Query;
use axum::routing::{get, post};

/// `?ms=N`
#[derive(serde::Deserialize)]
struct Wait {
    ms: u64,
}

/// `?rounds=N`
#[derive(serde::Deserialize)]
struct Work {
    rounds: u64,
}

/// The routes that every worker has.
pub(crate) fn router(slot: u32) -> Router {
    let hello = format!("hello from worker {slot} pid {}\n", std::process::id());
    Router::new()
        .route("/", get(move || std::future::ready(hello.clone())))
        .route("/block", get(block))
        .route("/stall", get(stall))
        .route("/hash", get(hash))
        .route("/sleep", get(sleep))
        .route("/crash", post(crash))
}

/// Burns the worker's one thread, as a bad handler would.
async fn block(Query(Wait { ms }): Query<Wait>) -> String {
    let end = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    format!("blocked for {ms} ms\n")
}

/// Keeps the worker's one thread waiting, as a handler does that calls something slow and blocking.
async fn stall(Query(Wait { ms }): Query<Wait>) -> String {
    std::thread::sleep(Duration::from_millis(ms));
    format!("stalled for {ms} ms\n")
}

/// A fixed amount of work, however long it takes: each round hashes what the last one gave.
async fn hash(Query(Work { rounds }): Query<Work>) -> String {
    let hashed = (0..rounds).fold(0_u64, |last, round| {
        let mut hasher = DefaultHasher::new();
        (last, round).hash(&mut hasher);
        hasher.finish()
    });
    format!("hashed to {hashed:016x}\n")
}

async fn sleep(Query(Wait { ms }): Query<Wait>) -> String {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept for {ms} ms\n")
}

/// Ends the worker as a bug in a C library would.
async fn crash() {
    std::process::abort();
}
