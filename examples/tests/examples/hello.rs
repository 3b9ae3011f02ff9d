//! The shortest program, which the README begins with.

use std::collections::BTreeSet;

use crate::program::{Program, get};
use crate::support::eventually;

const HELLO: &str = include_str!("../../hello/main.rs");
const README: &str = include_str!("../../../README.md");
const MANIFEST: &str = include_str!("../../Cargo.toml");

pub(crate) fn four_workers_answer() {
    let hello = Program::start("hello", &["0"]);
    let address = hello.wait_listening(4);
    let mut answers = BTreeSet::new();
    eventually("an answer from each", || {
        answers.insert(get(address, "/"));
        (answers.len() == 4).then_some(())
    });
    let expected: BTreeSet<String> = (0..4).map(|slot| format!("hello from worker {slot}\n")).collect();
    assert_eq!(answers, expected);
    hello.stop();
}

/// What a user has to write, and imports.
fn user_code() -> &'static str {
    let begin = HELLO.find("use axum").unwrap();
    &HELLO[begin..]
}

pub(crate) fn it_is_at_most_fifteen_lines() {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.starts_with("use ");
    let lines = user_code().lines().filter(is_code).count();
    assert!(lines <= 15, "it has {lines} lines");
    assert!(user_code().lines().all(|line| line.len() <= 110), "nor are its lines long");
}

pub(crate) fn the_readme_has_it_word_for_word() {
    let (_, block) = README.split_once("```rust\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert_eq!(block, user_code(), "README.md and examples/hello/main.rs are to say the same");
}

pub(crate) fn the_readme_names_every_example() {
    let examples = MANIFEST.split("[[example]]").skip(1);
    for example in examples {
        let name = example.split('"').nth(1).unwrap();
        assert!(README.contains(&format!("| [`{name}`](examples/")), "{name} is missing from README's table");
    }
}
