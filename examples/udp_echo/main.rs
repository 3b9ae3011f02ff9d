//! A UDP port that four workers receive from. The primary keeps the socket: what comes while a worker is restarted waits for the others.
//!
//! `cargo run --release --example udp_echo`, then `nc -u localhost 3000` (or `socat - udp:localhost:3000`) and type.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use cluster::{Cluster, Role, UdpSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cluster::builder().workers(4).role()? {
        Role::Primary(primary) => primary.run().await?,
        Role::Worker(worker) => {
            let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
            let socket = worker.bind_udp(format!("127.0.0.1:{port}")).await?;
            println!("worker {} receives on {}", worker.slot(), socket.local_addr()?);
            worker.ready().await;
            // What was received is answered before the worker goes.
            while let Some(received) = receive_unless(worker.draining(), &socket).await {
                let (datagram, peer) = received?;
                let echo = [format!("worker {}: ", worker.slot()).as_bytes(), &datagram].concat();
                // Whoever asked may be gone by now; the others go on.
                let _ = socket.send_to(&echo, peer).await;
            }
        }
    }
    Ok(())
}

type Received = std::io::Result<(Vec<u8>, std::net::SocketAddr)>;

async fn receive_unless(draining: impl Future<Output = ()>, socket: &UdpSocket) -> Option<Received> {
    let mut datagram = vec![0; 65_535];
    tokio::select! {
        () = draining => None,
        received = socket.recv_from(&mut datagram) => Some(received.map(|(length, peer)| {
            datagram.truncate(length);
            (datagram, peer)
        })),
    }
}
