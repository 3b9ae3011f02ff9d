//! A primary that accepts, and two worker processes that serve what it hands them. One of them is killed; no client notices.
//!
//! `cargo run -p cluster-acceptor --features tokio --example two_workers`
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use cluster_acceptor::worker::{Gate, Intake, Listener};
use cluster_acceptor::{Acceptor, Command, Granted, Listen, Listeners, Mode, Settings};
use cluster_balancer::{Classes, LeastLoaded};
use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use cluster_ipc::{Adopted, Channel, Connection, Error, Socket, Spawn};
use tokio::io::AsyncWriteExt;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    match cluster_ipc::adopt() {
        Ok(adopted) => worker(adopted),
        // Started by a user, not by a primary of ours.
        Err(Error::NotAdopted { .. }) => primary(),
        Err(error) => Err(error.into()),
    }
}

fn primary() -> Result<()> {
    let answer = Listeners::new(Mode::Handoff).listen(&Listen::tcp(([127, 0, 0, 1], 0)), 0, 0)?;
    let granted = answer.granted;
    let address = granted.address.ip().ok_or("asked for TCP")?;

    let (acceptor, _ended) = Acceptor::start(Settings::new(LeastLoaded::new()))?;
    if let Some(socket) = answer.accept {
        acceptor.command(Command::Listen { listener: granted.listener, socket });
    }
    let mut workers = Vec::new();
    for slot in 0..2 {
        workers.push(start(slot, &granted, &acceptor)?);
    }
    let mut slot = 0;
    for client in 1..=4 {
        slot = ask(address)?;
        println!("client {client}: served by worker {slot}");
    }
    // Nobody tells the acceptor: it sees the data channel end, and takes back what was on its way.
    println!("worker {slot} is killed");
    if let Some((child, _)) = workers.get_mut(slot) {
        child.kill()?;
        child.wait()?;
    }
    for client in 5..=8 {
        println!("client {client}: served by worker {}", ask(address)?);
    }
    let (done, closed) = tokio::sync::oneshot::channel();
    acceptor.command(Command::Close { linger: Duration::from_secs(1), within: Duration::from_secs(5), done });
    closed.blocking_recv()?;
    println!("accepted {} connections", acceptor.status().accepted);
    // The data channels end, and so do the workers.
    drop(acceptor);
    for (mut child, _) in workers {
        child.wait()?;
    }
    Ok(())
}

/// Starts a worker process with its end of a data channel and its side of a board.
fn start(slot: u32, granted: &Granted, acceptor: &Acceptor<u32>) -> Result<(Child, Connection)> {
    let (data, childs_data) = Socket::pair()?;
    let (board, memory) = PrimaryBoard::create()?;
    let started = Spawn::new(std::env::current_exe()?)
        .greeting(postcard::to_stdvec(&(slot, granted))?)
        .descriptors(vec![childs_data.into_fd(), memory])
        .spawn()?;
    let (channel, board) = (Box::new(Channel::new(data)), Arc::new(board));
    let pid = started.0.id();
    acceptor.command(Command::Attach { worker: slot, slot, generation: 1, pid, channel, board });
    let listeners = Classes::none().with(granted.listener);
    acceptor.command(Command::Admit { worker: slot, capacity: 100, listeners });
    Ok(started)
}

/// Who serves a client.
fn ask(address: SocketAddr) -> Result<usize> {
    let mut answer = String::new();
    TcpStream::connect(address)?.read_to_string(&mut answer)?;
    Ok(answer.parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn worker(adopted: Adopted) -> Result<()> {
    let (_channel, welcome, descriptors) = adopted.into_parts();
    let (slot, granted): (u32, Granted) = postcard::from_bytes(welcome.payload())?;
    let [data, memory] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| "two descriptors")?;

    let board = Arc::new(WorkerBoard::open(memory)?);
    let intake = Arc::new(Intake::new(board, Arc::new(Gate::new()), None));
    let listener = Listener::new(Arc::clone(&intake), granted, None)?;
    let data = cluster_ipc::tokio::Channel::new(Channel::new(Socket::from_fd(data)))?;
    tokio::spawn(async move {
        while let Some((mut stream, _peer)) = listener.accept().await {
            // The client may be gone.
            let _ = stream.write_all(slot.to_string().as_bytes()).await;
        }
    });
    // Until the primary has no more for us.
    intake.receive(data).await;
    Ok(())
}
