//! The example, started as a user would.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{self, Connection};
use crate::support::{eventually, process};

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) primary: u32,
    log: Arc<Mutex<Vec<String>>>,
}

/// The example's binary, which `cargo test` has built beside this one.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/http");
    assert!(path.exists(), "build it first: cargo build --example http");
    path
}

/// A command for the example on a free port.
pub(crate) fn command(workers: usize) -> Command {
    let mut command = Command::new(binary());
    add_args(&mut command, workers);
    command
}

pub(crate) fn add_args(command: &mut Command, workers: usize) {
    command
        .args(["--port", "0", "--workers", &workers.to_string()])
        .env("RUST_LOG", "info")
        .stdin(Stdio::null());
}

impl Server {
    /// Starts it and waits for the line on stdout.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let Some(address) = words.nth(2).and_then(|word| word.parse().ok()) else {
            panic!("it did not start: {line:?} {:#?}", log.lock().unwrap());
        };
        let primary = words.nth(1).unwrap().trim_end_matches(',').parse().unwrap();
        Self { child, address, primary, log }
    }

    pub(crate) fn status(&self) -> Value {
        let answer = eventually("a status", || client::get(self.address, "/status").ok());
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) fn status_on(connection: &mut Connection) -> Value {
        serde_json::from_str(&connection.request("GET", "/status", true).unwrap().body).unwrap()
    }

    /// Slot and pid of the workers that are ready.
    pub(crate) fn ready(&self) -> Vec<(u64, u32)> {
        pids(&self.status(), "ready")
    }

    /// Connections in the hands of all workers, that of this question included.
    pub(crate) fn active(&self) -> u64 {
        let status = self.status();
        status["workers"].as_array().unwrap().iter().map(|worker| worker["active"].as_u64().unwrap()).sum()
    }

    /// Copies the log from line `from` on.
    pub(crate) fn log_from(&self, from: usize) -> Vec<String> {
        self.log.lock().unwrap()[from..].to_vec()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.primary, signal);
    }

    /// Waits for its exit, and checks that it leaves no process behind.
    pub(crate) fn wait(mut self, workers: &[(u64, u32)]) -> ExitStatus {
        let status = eventually("the primary's exit", || self.child.try_wait().unwrap());
        for (_, pid) in workers {
            eventually("the end of every worker", || (!process::is_alive(*pid)).then_some(()));
        }
        status
    }
}

pub(crate) fn pids(status: &Value, state: &str) -> Vec<(u64, u32)> {
    let workers = status["workers"].as_array().unwrap().iter().filter(|worker| worker["state"] == state);
    workers.map(|worker| (worker["slot"].as_u64().unwrap(), worker["pid"].as_u64().unwrap() as u32)).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its workers follow it by themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("the end of the server's log:\n{}", log[log.len().saturating_sub(40)..].join("\n"));
        }
    }
}
