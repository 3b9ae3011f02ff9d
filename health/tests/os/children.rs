//! Children that play a role, and waiting for what they do.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::roles::FLAG;

/// How long a condition may take to come true. Generous: the machines are shared.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for this: {what}");
        park_timeout(Duration::from_millis(2));
    }
}

/// A child of the test, killed and reaped when it is dropped, whatever comes before.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Child {
    /// Starts it, without waiting for its word.
    pub(crate) fn start(role: &str) -> Self {
        let me = std::env::current_exe().unwrap();
        Self::run(Command::new(me).args([FLAG, role, &std::process::id().to_string()]))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdin, stdout }
    }

    /// Starts it, and waits until it is where it says `ready`.
    pub(crate) fn playing(role: &str) -> Self {
        let mut child = Self::start(role);
        assert_eq!(child.hears(), "ready");
        child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it says.
    pub(crate) fn hears(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets it go on.
    pub(crate) fn tell(&mut self) {
        self.stdin.write_all(b"go\n").unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill_and_reap(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have been reaped already; then neither does anything.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
