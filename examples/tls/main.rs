//! TLS whose sessions are resumed by any worker, not only by the one that they began at.
//!
//! `cargo run --release --example tls`, then `curl -k https://localhost:3000`, or, to see a session resumed,
//! `(echo 'GET / HTTP/1.0'; echo; sleep 1) | openssl s_client -quiet -connect localhost:3000 -sess_out session` and the same once more with
//! `-sess_in` in place of `-sess_out`.
//!
//! The primary makes the certificate and the keys of the tickets, and shares them in memory, by the shared state. Not by the
//! environment: that could be read in `/proc`, and every program that a worker starts would inherit it.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod identity;
mod listener;
mod tickets;

use std::error::Error;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::{Router, routing::get};
use cluster::{Cluster, Role, SharedState, Worker};
use tokio_rustls::rustls::ServerConfig;

use identity::Identity;
use listener::{Resumed, TlsListener};
use tickets::Tickets;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    match Cluster::builder().workers(4).role()? {
        Role::Primary(primary) => {
            let provided = tokio::spawn(provide(primary.handle().state()));
            tokio::select! {
                ended = primary.run() => Ok(ended?),
                failed = provided => failed?,
            }
        }
        Role::Worker(worker) => serve(worker).await,
    }
}

/// All that the workers need, for as long as the primary runs.
async fn provide(state: SharedState) -> Result<(), Box<dyn Error + Send + Sync>> {
    let keys = tickets::Keys::new(&state).await?;
    // Whoever has this has the keys: the state comes in order.
    Identity::generate()?.share(&state).await?;
    keys.renew_for_ever().await
}

async fn serve(worker: Worker) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (certificate, key) = Identity::shared(&worker.state()).await?.into_parts();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    config.ticketer = Arc::new(Tickets::new(&worker.state()));

    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let listener = TlsListener::new(worker.listen(format!("127.0.0.1:{port}")).await?, config);
    let slot = worker.slot();
    println!("worker {slot} listens on {}", listener.local_addr());
    let hello = move |ConnectInfo(Resumed(resumed))| {
        let session = if resumed { "resumed" } else { "new" };
        std::future::ready(format!("worker {slot}: a {session} session\n"))
    };
    let app = Router::new().route("/", get(hello)).layer(worker.layer());
    let app = app.into_make_service_with_connect_info::<Resumed>();
    let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
    Ok(())
}
