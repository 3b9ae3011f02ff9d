//! The example `supervise_only`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::processes::eventually;
use crate::supervised::Supervised;

/// The example, which `cargo test` has built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/supervise_only");
    assert!(path.exists(), "build it first: cargo build -p cluster-supervisor --examples");
    path
}

fn start(name: &str, commands: &[&str]) -> Supervised {
    let mut command = Command::new(example());
    command.args(commands);
    Supervised::start(name, command)
}

pub(crate) fn what_fails_is_restarted_then_given_up_with_its_last_words() {
    let supervised = start("fails", &["bad=echo first; echo why >&2; exit 3", "good=echo done"]);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("[good] done\n"), "{said}");
    assert_eq!(said.matches("[bad] first\n").count(), 4, "three restarts: {said}");
    assert!(said.contains("bad: worker 0.4 exited with code 3 after it was ready"), "{said}");
    assert!(said.contains("its last words:") && said.contains("err: why"), "{said}");
    assert!(said.contains("bad: gave up on slot 0 after 4 failures"), "{said}");
}

pub(crate) fn a_crash_is_answered_with_a_new_life() {
    let line = "server=echo begun $$; while :; do sleep 1; done";
    let supervised = start("crash", &[line]);
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

pub(crate) fn nobody_is_left_of_those_who_would_not_go() {
    let supervised = start(
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

pub(crate) fn a_second_signal_waits_for_nobody() {
    let supervised = start("now", &["deaf=trap '' TERM; echo up; while :; do sleep 1; done"]);
    supervised.wait_for("[deaf] up\n");
    supervised.signal(Signal::TERM);
    supervised.wait_for("deaf: worker 0.1 stopping as asked");
    supervised.signal(Signal::TERM);
    let (code, said) = supervised.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("killed by signal 9 (SIGKILL) as asked"), "{said}");
}

pub(crate) fn nobody_outlives_a_supervisor_that_was_killed() {
    let mut supervised = start("killed", &["server=echo up; exec sleep 1000"]);
    supervised.wait_for("[server] up\n");
    supervised.kill();
    eventually("its child to end", || supervised.marked().is_empty().then_some(()));
}

pub(crate) fn a_command_that_makes_no_sense_is_a_clear_error() {
    let output = Command::new(example()).arg("nonsense").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: "));
}

/// It is inherited, and makes the kernel forget how children ended.
pub(crate) fn deaths_are_known_where_their_signal_is_ignored() {
    let mut command = Command::new("env");
    command.arg("--ignore-signal=CHLD").arg(example()).arg("bad=exit 3");
    let (code, said) = Supervised::start("ignored", command).end();
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("bad: worker 0.4 exited with code 3 after it was ready"), "{said}");
}
