//! The examples of the shared state, as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../../../cluster/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use support::{client, eventually, process};

fn main() {
    support::run(&[
        ("counter", counter),
        ("sessions", sessions),
        ("rate_limiter", rate_limiter),
        ("configuration", configuration),
    ])
}

struct Server {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts an example, which `cargo test` has built beside this one.
    fn start(name: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
        assert!(path.exists(), "build it first: cargo build --example {name}");
        let mut child =
            Command::new(path).arg("0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "{name} did not start");
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self { child, output, address }
    }

    fn get(&self, path: &str) -> client::Answer {
        client::get(self.address, path).unwrap()
    }

    /// A request with a header or another method: the whole answer as text.
    fn ask(&self, method: &str, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends as with Ctrl-C.
    fn stop(mut self) {
        process::signal(self.child.id(), Signal::INT);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One of a test that failed; otherwise it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn counter() {
    let server = Server::start("counter");
    let address = server.address;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let hit = || client::get(address, "/").unwrap().body.trim().parse::<u32>().unwrap();
                (0..50).map(|_| hit()).collect::<Vec<_>>()
            })
        })
        .collect();
    let hits: BTreeSet<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(hits, (1..=200).collect(), "each number once, over all workers");
    server.stop();
}

fn sessions() {
    let server = Server::start("sessions");
    assert_eq!(server.get("/").status, 401);
    let login = server.ask("GET", "/login?name=anna", "");
    let (_, cookie) = login.split_once("set-cookie: ").unwrap();
    let (cookie, _) = cookie.split_once(';').unwrap();
    for visit in 1..=20 {
        let answer = server.ask("GET", "/", &format!("cookie: {cookie}\r\n"));
        assert!(answer.contains(&format!("hello anna, visit {visit} of")), "{visit}: {answer}");
    }
    assert!(server.ask("GET", "/", "cookie: session=ff\r\n").contains("401"));
    server.stop();
}

fn rate_limiter() {
    let server = Server::start("rate_limiter");
    // Windows end by the clock, so one may end in between: then there are more.
    let answers: Vec<u16> = (0..40).map(|_| server.get("/").status).collect();
    let allowed = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert!((10..=20).contains(&allowed) && allowed + refused == 40, "{answers:?}");
    server.stop();
}

fn configuration() {
    let mut server = Server::start("configuration");
    assert_eq!(server.get("/").body, "hello\n");
    assert!(server.ask("POST", "/greeting?value=moin", "content-length: 0\r\n").contains("200 OK"));
    eventually("all workers to have it", || (0..12).all(|_| server.get("/").body == "moin\n").then_some(()));
    let mut told = BTreeSet::new();
    while told.len() < 4 {
        let mut line = String::new();
        assert!(server.output.read_line(&mut line).unwrap() > 0);
        if let Some((worker, "greeting was None, is Some(\"moin\")")) = line.trim().split_once(": ") {
            told.insert(worker.to_owned());
        }
    }
    server.stop();
}
