//! One counter for all workers.
//!
//! `cargo run --release --example counter`, then `curl localhost:3000/` as often as you like: whichever worker answers, no number comes
//! twice and none is left out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod serve;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cluster::SharedState;

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    serve::run(|state| Router::new().route("/", get(move || hit(state.clone())))).await
}

async fn hit(state: SharedState) -> Result<String, (StatusCode, String)> {
    match state.increment("hits", 1).await {
        Ok(hits) => Ok(format!("{hits}\n")),
        // The primary was lost: perhaps it was counted, perhaps not.
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))),
    }
}
