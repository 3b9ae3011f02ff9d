//! The example of the README runs and says what it should.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

#[test]
fn the_example_runs() {
    // `cargo test` builds examples beside the directory of the tests; `cargo test --test example` alone does not.
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/compute");
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "a square: 1",
        "a square: 4",
        "a square: 9",
        "a square: 16",
        "an endless task has begun in a worker, which is killed",
        "the worker that had begun the task died",
        "the other one goes on: 25",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
