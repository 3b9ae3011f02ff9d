//! The example of the README runs and says what it should.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

#[test]
fn the_two_process_example_runs() {
    // `cargo test` builds examples beside the directory of the tests; `cargo test --test example` alone does not.
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/two_processes");
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "the child says that 12² is 144",
        "in the guestbook: a child that was told: you are number 7",
        "the child ended with exit status: 0",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
