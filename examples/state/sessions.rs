//! Sessions that every worker knows, and that outlive each of them.
//!
//! `cargo run --release --example sessions`, then `curl -c jar localhost:3000/login?name=anna`, and `curl -b jar localhost:3000/` as often
//! as you like. A session that nobody uses for half an hour is gone.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod serve;

use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::get;
use cluster::SharedState;
use serde::{Deserialize, Serialize};

const LIFETIME: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Serialize, Deserialize)]
struct Session {
    name: String,
    visits: u32,
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

type Answer<T> = Result<T, (StatusCode, String)>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    serve::run(|state| {
        let visited = state.clone();
        Router::new()
            .route("/login", get(move |query| login(state.clone(), query)))
            .route("/", get(move |headers| visit(visited.clone(), headers)))
    })
    .await
}

async fn login(state: SharedState, Query(Login { name }): Query<Login>) -> Answer<impl IntoResponse> {
    // 128 random bits that nobody can guess.
    let mut id = [0; 16];
    getrandom(&mut id).map_err(failed)?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let sessions = state.typed::<Session>("session/");
    let new = sessions.put(&id, &Session { name, visits: 0 }).map_err(failed)?;
    state.execute(new.ttl(LIFETIME)).await.map_err(failed)?;
    Ok(AppendHeaders([(SET_COOKIE, format!("session={id}; HttpOnly; SameSite=Lax"))]))
}

async fn visit(state: SharedState, headers: HeaderMap) -> Answer<String> {
    let cookies = headers.get(COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let id = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    let who_are_you = (StatusCode::UNAUTHORIZED, "who are you? see /login?name=…\n".to_owned());
    let Some(id) = id else { return Err(who_are_you) };
    let sessions = state.typed::<Session>("session/");
    if sessions.get(id).map_err(failed)?.is_none() {
        // Another worker may have made it just now.
        state.sync().await.map_err(failed)?;
    }
    // It lives on for the whole time, and no visit is lost if two workers count at once.
    let count = |session: Option<Session>| session.map(|it| Session { visits: it.visits + 1, ..it });
    let Some(session) = sessions.update(id, count).await.map_err(failed)? else { return Err(who_are_you) };
    Ok(format!("hello {}, visit {} of this session\n", session.name, session.visits))
}

fn getrandom(bytes: &mut [u8]) -> std::io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

fn failed(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}
