//! So many requests of each client in a time, over all workers together.
//!
//! `cargo run --release --example rate_limiter`, then `curl -i localhost:3000/` eleven times within ten seconds: the eleventh is told to wait.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod serve;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::routing::get;
use cluster::state::tokio::StateError;
use cluster::state::{CommandError, Increment, RequestError};
use cluster::{PeerAddr, SharedState};

/// So many requests of one client …
const REQUESTS: i64 = 10;

/// … in each such time.
const WINDOW: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    serve::run(|state| Router::new().route("/", get(move |peer| limited(state.clone(), peer)))).await
}

async fn limited(
    state: SharedState,
    ConnectInfo(PeerAddr(peer)): ConnectInfo<PeerAddr>,
) -> Result<String, (StatusCode, String)> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let window = since_epoch.as_secs() / WINDOW.as_secs();
    let client = peer.ip().map_or_else(|| "local".to_owned(), |address| address.ip().to_string());
    // Counts up to the limit and no further; the key of a window that is over vanishes by itself.
    let request = Increment::new(format!("requests/{client}/{window}"), 1).at_most(REQUESTS).ttl(2 * WINDOW);
    match state.execute(request).await {
        Ok(_) => Ok("here you are\n".to_owned()),
        Err(StateError::Request(RequestError::Refused(CommandError::OutOfBounds { .. }))) => {
            Err((StatusCode::TOO_MANY_REQUESTS, format!("more than {REQUESTS} requests in {WINDOW:?}\n")))
        }
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))),
    }
}
