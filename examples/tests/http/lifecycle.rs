//! Starting and stopping, by signal, by terminal, by the death of the primary.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::server::{Server, add_args, binary, command};
use crate::support::client::Connection;
use crate::support::{eventually, process};

/// A request that has reached its worker, and takes longer than it takes to find that out.
fn request_under_way(server: &Server) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    connection.send("GET", "/sleep?ms=3000", false).unwrap();
    // This one, and the one that asks.
    eventually("the request to have arrived", || (server.active() == 2).then_some(()));
    connection
}

pub(crate) fn sigterm_lets_a_request_finish() {
    let server = Server::start(command(2));
    let workers = server.ready();
    let mut request = request_under_way(&server);
    server.signal(Signal::TERM);
    assert_eq!(request.receive().unwrap().status, 200);
    request.expect_end().unwrap();
    assert_eq!(server.wait(&workers).code(), Some(0));
}

pub(crate) fn a_second_signal_ends_at_once() {
    let server = Server::start(command(2));
    let workers = server.ready();
    let mut endless = Connection::open(server.address).unwrap();
    endless.send("GET", "/sleep?ms=3600000", false).unwrap();
    server.signal(Signal::TERM);
    eventually("the first signal to be heeded", || {
        server.log_from(0).iter().any(|line| line.contains("shutting down")).then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait(&workers).code(), Some(0));
    endless.receive().unwrap_err();
}

/// The workers' own process groups keep Ctrl-C from them: a request under way is finished.
pub(crate) fn ctrl_c_reaches_the_primary_only() {
    let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&pty).unwrap();
    unlockpt(&pty).unwrap();
    let name = ptsname(&pty, Vec::new()).unwrap();
    let terminal: OwnedFd = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();

    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(binary());
    add_args(&mut command, 2);
    command.stdin(Stdio::from(terminal));
    let server = Server::start(command);
    let workers = server.ready();
    let mut request = request_under_way(&server);
    File::from(pty.try_clone().unwrap()).write_all(b"\x03").unwrap();
    assert_eq!(request.receive().unwrap().status, 200);
    assert_eq!(server.wait(&workers).code(), Some(0));
    drop(pty);
}

pub(crate) fn a_port_in_use_ends_in_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(binary())
        .args(["--workers", "1", "--max-restarts", "2", "--restart-delay", "1", "--port", &port])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{log}");
    assert!(log.contains(&format!("could not listen on 127.0.0.1:{port}: Address already in use")), "{log}");
    assert!(log.contains("no worker is left: gave up on slot 0 after 3 failures"), "{log}");
}

pub(crate) fn an_unknown_strategy_lists_those_that_exist() {
    let output = Command::new(binary()).args(["--strategy", "fair"]).stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("fair") && log.contains("least-loaded") && log.contains("round-robin"), "{log}");
}

pub(crate) fn an_unknown_mode_lists_those_that_exist() {
    let output = Command::new(binary()).args(["--mode", "fair"]).stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("'fair'") && log.contains("handoff, shared, reuseport"), "{log}");
}

pub(crate) fn no_orphan_outlives_the_primary() {
    let server = Server::start(command(3));
    let workers = server.ready();
    let mut spinning = Connection::open(server.address).unwrap();
    // Longer than the test waits.
    spinning.send("GET", "/block?ms=600000", false).unwrap();
    let (_, spinner) = eventually("a worker to spin", || {
        let busy = |(_, pid): &&(u64, u32)| process::ticks(*pid) > 50;
        workers.iter().find(busy).copied()
    });
    let (_, stopped) = *workers.iter().find(|(_, pid)| *pid != spinner).unwrap();
    process::signal(stopped, Signal::STOP);
    eventually("a worker to stop", || process::is_stopped(stopped).then_some(()));
    server.signal(Signal::KILL);
    assert_eq!(server.wait(&workers).code(), None, "killed");
}

pub(crate) fn signals_replace_workers_and_change_how_many_there_are() {
    let server = Server::start(command(2));
    let generations = || {
        let status = server.status();
        let ready = |worker: &&serde_json::Value| worker["state"] == "ready";
        let workers = status["workers"].as_array().unwrap();
        workers.iter().filter(ready).map(|worker| worker["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    process::signal(server.primary, Signal::HUP);
    eventually("new workers", || (generations() == [2, 2]).then_some(()));
    process::signal(server.primary, Signal::TTIN);
    eventually("one more", || (generations() == [2, 2, 1]).then_some(()));
    process::signal(server.primary, Signal::TTOU);
    eventually("one fewer", || (generations() == [2, 2]).then_some(()));
    process::signal(server.primary, Signal::TTOU);
    eventually("one", || (generations() == [2]).then_some(()));
    // There is always one.
    process::signal(server.primary, Signal::TTOU);
    process::signal(server.primary, Signal::HUP);
    eventually("a new one", || (generations() == [3]).then_some(()));
}
