//! Configuration that changes while the workers run, in all of them.
//!
//! `cargo run --release --example configuration`, then `curl localhost:3000/`, `curl -X POST "localhost:3000/greeting?value=moin"`, and again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::{get, post};
use cluster::SharedState;
use serde::Deserialize;

#[derive(Deserialize)]
struct New {
    value: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    serve::run(routes).await
}

fn routes(state: SharedState) -> Router {
    // Whoever only wants to know the present value reads it. Whoever has something to do when it changes subscribes.
    let watched = Arc::new(state.typed::<String>("config/").subscribe(|key, now, before| {
        println!("worker {}: {key} was {before:?}, is {now:?}", std::process::id());
    }));
    let reads = state.clone();
    let greet = move || {
        let _keep = &watched;
        let greeting = reads.typed::<String>("config/").get("greeting").ok().flatten();
        std::future::ready(format!("{}\n", greeting.as_deref().unwrap_or("hello")))
    };
    let set = move |Query(New { value }): Query<New>| {
        let config = state.typed::<String>("config/");
        async move {
            let done = config.set("greeting", &value).await;
            done.map(drop).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")))
        }
    };
    Router::new().route("/", get(greet)).route("/greeting", post(set))
}
