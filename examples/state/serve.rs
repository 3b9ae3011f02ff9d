//! What the examples of the shared state have in common: an HTTP server on several workers.

use axum::Router;
use cluster::{Cluster, Event, PeerAddr, Role, SharedState};

/// Serves what `routes` makes, on the port that is the first argument (default 3000; 0 picks a free one), with four workers.
pub(crate) async fn run(routes: impl FnOnce(SharedState) -> Router) -> cluster::Result<()> {
    let port = match std::env::args().nth(1).map(|port| port.parse::<u16>()) {
        None => 3000,
        Some(Ok(port)) => port,
        Some(Err(error)) => {
            eprintln!("the only argument is the port: {error}");
            std::process::exit(2);
        }
    };
    match Cluster::builder().workers(4).role()? {
        Role::Primary(primary) => {
            let mut events = primary.events();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    if let Event::Serving { addresses, workers } = event {
                        let addresses =
                            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                        println!("listening on {addresses} ({workers} workers)");
                    }
                }
            });
            primary.run().await
        }
        Role::Worker(worker) => {
            let listener = worker.listen(("127.0.0.1", port)).await?;
            let app = routes(worker.state()).layer(worker.layer());
            // Never fails: the listener waits where it has nothing to give.
            let app = app.into_make_service_with_connect_info::<PeerAddr>();
            let _ = axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await;
            Ok(())
        }
    }
}
