//! A parent and its child: requests with deadlines, messages, a file descriptor, and a clean end.
//!
//! `cargo run -p cluster-ipc --example two_processes`
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::session::Config;
use cluster_ipc::{Arrival, Error, Spawn};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum ToChild {
    Square(u64),
    /// Comes with a descriptor to write to.
    SignGuestbook,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match cluster_ipc::adopt() {
        Ok(adopted) => child(adopted),
        // Started by a user, not by a parent of ours.
        Err(Error::NotAdopted { .. }) => parent(),
        Err(error) => Err(error.into()),
    }
}

fn parent() -> Result<(), Box<dyn std::error::Error>> {
    let program = std::env::current_exe()?;
    let (mut child, connection) = Spawn::new(program).greeting("you are number 7").spawn()?;
    let (sender, _receiver): (Sender<ToChild>, Receiver<()>) = Endpoint::new(connection)?.split();

    let square: u64 = sender.client().request(&ToChild::Square(12))?;
    println!("the child says that 12² is {square}");

    let (mut guestbook, pen) = std::io::pipe()?;
    sender.send_with(&ToChild::SignGuestbook, vec![OwnedFd::from(pen)])?;
    let mut entry = String::new();
    guestbook.read_to_string(&mut entry)?;
    println!("in the guestbook: {entry}");

    // The child's receiver ends, and so does the child.
    drop(sender);
    println!("the child ended with {}", child.wait()?);
    Ok(())
}

fn child(adopted: cluster_ipc::Adopted) -> Result<(), Box<dyn std::error::Error>> {
    let greeting = String::from_utf8_lossy(adopted.welcome().payload()).into_owned();
    let connection = adopted.connect(Config::new(), b"ready")?;
    let (_sender, mut receiver): (Sender<()>, Receiver<ToChild>) = Endpoint::new(connection)?.split();
    while let Some(arrival) = receiver.next()? {
        match arrival {
            Arrival::Request(request, responder) => match request.value {
                ToChild::Square(n) => match n.checked_mul(n) {
                    Some(square) => responder.reply(&square)?,
                    None => responder.fail("that is too much for me"),
                },
                ToChild::SignGuestbook => responder.fail("send that as a message"),
            },
            Arrival::Message(message) => {
                for pen in message.descriptors {
                    write!(std::fs::File::from(pen), "a child that was told: {greeting}")?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
