//! The example `supervise_only` with children that behave badly: whatever they do, they are kept running, and in the end nobody is
//! left.

#![cfg(feature = "os")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod processes;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use processes::{eventually, marked};
use rustix::process::{Pid, Signal, kill_process};

/// The variable that marks whom a test has started.
const MARK: &str = "CLUSTER_RUNNER_MARK";

/// The example, which `cargo test` has built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/supervise_only");
    assert!(path.exists(), "build it first: cargo build -p cluster-supervisor --examples");
    path
}

struct Supervised {
    child: Child,
    mark: String,
    output: PathBuf,
}

impl Supervised {
    fn start(name: &str, commands: &[&str]) -> Self {
        let mark = format!("{name}-{}", std::process::id());
        let output = std::env::temp_dir().join(format!("cluster-runner-{mark}"));
        let file = std::fs::File::create(&output).unwrap();
        let mut command = Command::new(example());
        command.args(commands).env(MARK, &mark).stdin(Stdio::null());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, mark, output }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    fn wait_for(&self, words: &str) {
        eventually(words, || self.said().contains(words).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end and for that of all whom it started; returns the exit code and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = eventually("the supervisor to end", || self.child.try_wait().unwrap());
        let left = self.marked();
        assert!(left.is_empty(), "left over: {left:?}; {}", self.said());
        let said = self.said();
        std::fs::remove_file(&self.output).unwrap();
        (status.code(), said)
    }

    /// The pids of all who have the mark in their environment and are no zombies.
    fn marked(&self) -> Vec<u32> {
        marked(MARK, &self.mark)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_fails_is_restarted_then_given_up_with_its_last_words() {
    let supervised = Supervised::start("fails", &["bad=echo first; echo why >&2; exit 3", "good=echo done"]);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("[good] done\n"), "{said}");
    assert_eq!(said.matches("[bad] first\n").count(), 4, "three restarts: {said}");
    assert!(said.contains("bad: worker 0.4 exited with code 3 after it was ready"), "{said}");
    assert!(said.contains("its last words:") && said.contains("err: why"), "{said}");
    assert!(said.contains("bad: gave up on slot 0 after 4 failures"), "{said}");
}

#[test]
fn a_crash_is_answered_with_a_new_life() {
    let line = "server=echo begun $$; while :; do sleep 1; done";
    let supervised = Supervised::start("crash", &[line]);
    supervised.wait_for("[server] begun ");
    let said = supervised.said();
    let pid: i32 = said.split("begun ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("a second life", || (supervised.said().matches("[server] begun ").count() == 2).then_some(()));
    supervised.signal(Signal::TERM);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("killed by signal 9 (SIGKILL)"), "{said}");
}

#[test]
fn nobody_is_left_of_those_who_would_not_go() {
    let supervised = Supervised::start(
        "stubborn",
        &[
            "deaf=trap '' TERM; echo up; while :; do sleep 1; done",
            "parent=setsid sh -c \"trap '' TERM; echo up; while :; do sleep 1; done\" & echo up; wait",
            "stopped=echo up; kill -STOP $$; sleep 1000",
            "flood=echo up; exec yes",
        ],
    );
    for name in ["deaf", "parent", "stopped", "flood"] {
        supervised.wait_for(&format!("[{name}] up\n"));
    }
    supervised.signal(Signal::INT);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(0), "{}", &said[said.len().saturating_sub(2000)..]);
}

#[test]
fn a_second_signal_waits_for_nobody() {
    let supervised = Supervised::start("now", &["deaf=trap '' TERM; echo up; while :; do sleep 1; done"]);
    supervised.wait_for("[deaf] up\n");
    supervised.signal(Signal::TERM);
    supervised.wait_for("deaf: worker 0.1 stopping as asked");
    supervised.signal(Signal::TERM);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("killed by signal 9 (SIGKILL) as asked"), "{said}");
}

#[test]
fn nobody_outlives_a_supervisor_that_was_killed() {
    let mut supervised = Supervised::start("killed", &["server=echo up; exec sleep 1000"]);
    supervised.wait_for("[server] up\n");
    supervised.child.kill().unwrap();
    supervised.child.wait().unwrap();
    eventually("its child to end", || supervised.marked().is_empty().then_some(()));
    std::fs::remove_file(&supervised.output).unwrap();
}

#[test]
fn a_command_that_makes_no_sense_is_a_clear_error() {
    let output = Command::new(example()).arg("nonsense").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: "));
}
