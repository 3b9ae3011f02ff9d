//! A writer and a reader in every order in which their words can meet, by loom.
//!
//! See `board/loom_tests.rs` for what loom shows and what not: fences and `Relaxed` words, which are all there is here, mean what they
//! should.

use std::sync::{Arc, Mutex};

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::words::{Copied, Shape, Words};

const SHAPE: Shape = Shape { slots: 2, words: 4 };

/// What became of a reader that looks for this message while the writer goes on, in all orders.
fn outcomes(
    wanted: u64,
    write: impl Fn(&Words<'_, AtomicU64>) + Copy + Send + Sync + 'static,
) -> Vec<Option<Vec<u8>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&found);
    loom::model(move || {
        let memory: Arc<Vec<AtomicU64>> =
            Arc::new((0..SHAPE.total().unwrap()).map(|_| AtomicU64::new(0)).collect());
        let ring = Words::new(&memory, SHAPE).unwrap();
        ring.begin();
        ring.write(1, 0, &[1; 8], 8);
        ring.raise_head(1);
        let theirs = Arc::clone(&memory);
        let writer = thread::spawn(move || write(&Words::new(&theirs, SHAPE).unwrap()));
        let mut message = Vec::new();
        let copied = ring.copy(wanted, &mut message);
        writer.join().unwrap();
        let outcome = match copied {
            Copied::Whole => Some(message),
            Copied::NotYet => Some(Vec::new()),
            Copied::Missed => None,
        };
        let mut all = all.lock().unwrap();
        if !all.contains(&outcome) {
            all.push(outcome);
        }
    });
    let mut found = found.lock().unwrap().clone();
    found.sort();
    found
}

#[test]
fn a_message_that_is_overwritten_is_read_whole_or_not_at_all() {
    // The third takes the slot of the first and, beginning at the same word of the circle, its word.
    let found = outcomes(1, |ring| {
        ring.raise_floor(2);
        ring.write(3, 4, &[3; 8], 8);
        ring.raise_head(3);
    });
    assert_eq!(found, [None, Some(vec![1; 8])]);
}

#[test]
fn a_message_is_there_as_soon_as_its_number_is() {
    let found = outcomes(2, |ring| {
        ring.write(2, 1, &[2; 8], 8);
        ring.raise_head(2);
    });
    assert_eq!(found, [Some(Vec::new()), Some(vec![2; 8])]);
}
