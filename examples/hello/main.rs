//! The least there is: a server on four worker processes. It stands in the README too, word for word.
//!
//! `cargo run --release --example hello`, then `curl localhost:3000` a few times. Another port: `-- 8080`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use axum::{Router, routing::get};
use cluster::{Cluster, Role};

#[tokio::main(flavor = "current_thread")]
async fn main() -> cluster::Result<()> {
    match Cluster::builder().workers(4).role()? {
        Role::Primary(primary) => primary.run().await, // until Ctrl-C or SIGTERM
        Role::Worker(worker) => {
            let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
            let listener = worker.listen(format!("127.0.0.1:{port}")).await?; // shared by all workers
            println!("worker {} listens on {}", worker.slot(), listener.local_addr());
            let hello = format!("hello from worker {}\n", worker.slot());
            let app = Router::new().route("/", get(hello)).layer(worker.layer());
            let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
            Ok(())
        }
    }
}
