//! Fuzz targets that run on stable: plain functions of bytes, which never panic and never allocate without bound.
//!
//! ```text
//!  corpus/<target>/*  ──▶ as it is ─┐
//!                     ──▶ mutated ──┴─▶ targets::<target>(&[u8])   asserts what must hold, under a counting allocator
//! ```
//!
//! A failure prints the input as hex and where it came from; put it into the corpus once it is fixed. With a fuzzer at
//! hand, the targets are what its `fuzz_target!` calls, and the corpus is where it starts.
//!
//! `CLUSTER_TEST_LONG=1` tries thirty times as many mutations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "a session wants to know the time")]

mod corpus;
mod mutate;
mod reads;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// How many mutations of each input in the corpus are tried.
fn mutations() -> u64 {
    if std::env::var_os("CLUSTER_TEST_LONG").is_some() { 300_000 } else { 10_000 }
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fuzz", "corpus", target].iter().collect()
}

/// Each input of the corpus, by name. In a fixed order, so that a failure repeats.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs.sort();
    inputs
}

fn check(target: fn(&[u8]), input: &[u8], origin: &dyn Fn() -> String) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails: {hex}", origin());
    }
}

fn replay(name: &str, target: fn(&[u8])) {
    let inputs = inputs(name);
    for (file, input) in &inputs {
        check(target, input, &|| format!("{name}/{file}"));
    }
    for (file, input) in &inputs {
        for seed in 0..mutations() {
            let mutated = mutate::mutate(input, &inputs, seed);
            check(target, &mutated, &|| format!("mutation {seed} of {name}/{file}"));
        }
    }
}

#[test]
fn decoder() {
    replay("decoder", targets::decoder);
}

#[test]
fn session() {
    replay("session", targets::session);
}

#[test]
fn handshake() {
    replay("handshake", targets::handshake);
}

#[test]
fn typed() {
    replay("typed", targets::typed);
}

/// Writes the inputs that are made by the crate itself. Others in the folders are left alone.
#[test]
#[ignore = "it changes the corpus"]
fn write_the_corpus() {
    for (target, name, bytes) in corpus::generated() {
        std::fs::create_dir_all(folder(target)).unwrap();
        std::fs::write(folder(target).join(name), bytes).unwrap();
    }
}
