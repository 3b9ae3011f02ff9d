//! A process that supervises others, and all whom it has started.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{eventually, marked};

/// The variable that marks whom a test has started.
const MARK: &str = "CLUSTER_RUNNER_MARK";

/// A supervising process, whose output goes to a file. Dropping it kills it and all whom it has left.
pub(crate) struct Supervised {
    child: Child,
    mark: String,
    output: PathBuf,
}

impl Supervised {
    /// Starts it; each name is used once.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        let mark = format!("{name}-{}", std::process::id());
        let output = std::env::temp_dir().join(format!("cluster-runner-{mark}"));
        let file = std::fs::File::create(&output).unwrap();
        command.env(MARK, &mark).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), mark, output }
    }

    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    pub(crate) fn wait_for(&self, words: &str) {
        eventually(words, || self.said().contains(words).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and for that of all whom it started; returns the exit code and what was said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = eventually("the supervisor to end", || self.child.try_wait().unwrap());
        let left = self.marked();
        assert!(left.is_empty(), "left over: {left:?}; {}", self.said());
        (status.code(), self.said())
    }

    /// Those whom it has started, and itself.
    pub(crate) fn marked(&self) -> Vec<u32> {
        marked(MARK, &self.mark)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said:\n{}", self.mark, self.said());
        }
        // Of a test that failed; otherwise nobody is there.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.marked().into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = std::fs::remove_file(&self.output);
    }
}
