//! Few descriptors, many clients.

use std::process::Command;

use crate::server::{Server, add_args, binary};
use crate::support::client::{self, Connection};
use crate::support::{eventually, process};

const CLIENTS: usize = 200;

/// With a hard limit of 64 files the cluster can't hold 200 connections at once: the rest waits in the kernel, the primary
/// sleeps, and everybody is served when others leave.
pub(crate) fn few_descriptors_make_no_spin() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(binary());
    add_args(&mut command, 2);
    let server = Server::start(command);
    // The first one is served, and asks the questions.
    let mut first = Connection::open(server.address).unwrap();
    Server::status_on(&mut first);
    let mut held: Vec<_> = (0..CLIENTS).map(|_| Connection::open(server.address).unwrap()).collect();
    for connection in &mut held {
        connection.send("GET", "/", true).unwrap();
    }
    let accept =
        |first: &mut Connection, name: &str| Server::status_on(first)["accept"][name].as_u64().unwrap();
    // Until nothing moves any more: as many are accepted as can be held.
    let mut last = 0;
    let full = eventually("the cluster to be full", || {
        let uptime = Server::status_on(&mut first)["workers"][0]["uptime_ms"].as_u64().unwrap();
        let accepted = accept(&mut first, "accepted");
        let settled = accepted == last && accepted > 20 && uptime > 1000;
        last = accepted;
        settled.then_some(accepted)
    });
    assert!(full < CLIENTS as u64, "{full} were accepted: the limit was not felt");

    let uptime =
        |first: &mut Connection| Server::status_on(first)["workers"][0]["uptime_ms"].as_u64().unwrap();
    let (begin, attempts, ticks) =
        (uptime(&mut first), accept(&mut first, "attempts"), process::ticks(server.primary));
    eventually("two seconds of the primary's life", || (uptime(&mut first) > begin + 2000).then_some(()));
    let attempts = accept(&mut first, "attempts") - attempts;
    assert!(attempts <= 100, "{attempts} attempts to accept in two seconds");
    let ticks = process::ticks(server.primary) - ticks;
    eprintln!(
        "{full} of {CLIENTS} accepted; in two seconds {attempts} attempts and {ticks} ticks of processor time"
    );

    drop(held);
    let answer = eventually("service", || client::get(server.address, "/").ok());
    assert_eq!(answer.status, 200);
}
