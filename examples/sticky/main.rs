//! Sessions in the memory of one worker each: by a cookie, all connections of a session come to the worker that knows it.
//!
//! `cargo run --release --example sticky`, then `curl -c jar localhost:3000` for a cookie, and `curl -b jar localhost:3000` as often as you like:
//! always the same worker, and it counts. That holds behind a NAT and while other workers are restarted. What has to outlive its own
//! worker belongs into the shared state: see the example `sessions`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Router, routing::get};
use cluster::balancer::LeastLoaded;
use cluster::balancer::strategy::Sticky;
use cluster::{Cluster, Key, Role};

/// How long an unused session stays where it is.
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// How often a session was here.
type Visits = Arc<Mutex<HashMap<String, u32>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    let builder = Cluster::builder()
        .workers(4)
        .strategy_with(Sticky::new(LeastLoaded::new(), HALF_AN_HOUR))
        .key(Key::cookie("sid"));
    match builder.role()? {
        Role::Primary(primary) => primary.run().await,
        Role::Worker(worker) => {
            let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
            let listener = worker.listen(format!("127.0.0.1:{port}")).await?;
            println!("worker {} listens on {}", worker.slot(), listener.local_addr());
            let (slot, visits) = (worker.slot(), Visits::default());
            let answer = move |headers: HeaderMap| std::future::ready(visit(slot, &visits, &headers));
            let app = Router::new().route("/", get(answer)).layer(worker.layer());
            let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
            Ok(())
        }
    }
}

fn visit(slot: u32, visits: &Visits, headers: &HeaderMap) -> Response {
    let cookies = headers.get(COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let Some(session) = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("sid=")) else {
        return begin();
    };
    // Nothing panics under this lock.
    let mut visits = visits.lock().unwrap_or_else(PoisonError::into_inner);
    let visit = visits.entry(session.to_owned()).or_default();
    *visit += 1;
    format!("worker {slot}: visit {visit} of this session\n").into_response()
}

/// This connection came without a key, so to any worker. Only the next one, with the cookie, decides where the session lives: nothing is
/// kept here. (To keep something from the first request on, let the session's name begin with the slot: see `Key::names_slot`.)
fn begin() -> Response {
    let random = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new());
    let Ok(id) = random.map(ring::rand::Random::expose) else {
        return axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let cookie = AppendHeaders([(SET_COOKIE, format!("sid={id}; HttpOnly; SameSite=Lax"))]);
    (cookie, "a new session: come back with the cookie\n").into_response()
}
