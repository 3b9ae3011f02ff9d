//! An example that runs, with all that it has printed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::support::{DEADLINE, client, eventually, process};

pub(crate) struct Program {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts an example, which `cargo test` has built beside this one.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
        assert!(path.exists(), "build it first: cargo build --example {name}");
        let mut command = Command::new(path);
        let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let (lines, stdout) = (Arc::clone(&output), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, output }
    }

    /// Everything so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// Waits for so many lines that say something, and returns what the first ones do.
    pub(crate) fn wait_for<T>(&self, count: usize, says: impl Fn(&str) -> Option<T>) -> Vec<T> {
        eventually("what it prints", || {
            let lines = self.lines();
            let said: Vec<T> = lines.iter().filter_map(|line| says(line)).take(count).collect();
            (said.len() == count).then_some(said)
        })
    }

    /// Waits for a line.
    pub(crate) fn wait_for_line(&self, expected: &str) {
        self.wait_for(1, |line| (line == expected).then_some(()));
    }

    /// Waits until all workers listen, and returns where.
    pub(crate) fn wait_listening(&self, workers: usize) -> SocketAddr {
        let address =
            |line: &str| line.split_once(" listens on ").map(|(_, address)| address.parse().unwrap());
        let addresses = self.wait_for(workers, address);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        addresses[0]
    }

    /// Ends it as with Ctrl-C.
    pub(crate) fn stop(self) {
        process::signal(self.child.id(), Signal::INT);
        self.wait_for_end();
    }

    /// Waits until it ends, with success.
    pub(crate) fn wait_for_end(mut self) {
        let exit = eventually("its end", || self.child.try_wait().unwrap());
        assert!(exit.success(), "{exit}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One of a test that failed, or that had no need of an orderly end; otherwise it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("it has printed:\n{}", self.lines().join("\n"));
        }
    }
}

/// What is answered to a `GET` on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    client::get(address, path).unwrap().body
}

/// A request with another method or a header: the whole answer as text.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
