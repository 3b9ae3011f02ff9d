//! The example of the README runs and says what it should.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

#[test]
fn the_example_with_two_workers_runs() {
    // `cargo test` builds examples beside the directory of the tests; `cargo test --test example` alone does not.
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/two_workers");
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = said.lines().collect();
    // Who serves the first three is a matter of who has started first.
    let first: Vec<_> = lines.drain(..3).collect();
    assert!(first.iter().all(|line| line.contains("served by worker")), "{said}");
    let killed = if said.contains("worker 0 is killed") { 0 } else { 1 };
    let other = 1 - killed;
    let expected = [
        format!("client 4: served by worker {killed}"),
        format!("worker {killed} is killed"),
        format!("client 5: served by worker {other}"),
        format!("client 6: served by worker {other}"),
        format!("client 7: served by worker {other}"),
        format!("client 8: served by worker {other}"),
        "accepted 8 connections".to_owned(),
    ];
    assert_eq!(lines, expected);
}
