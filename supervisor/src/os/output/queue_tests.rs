//! The queue in virtual time.

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_millis(20);

#[allow(clippy::disallowed_methods, reason = "tests need one instant to count from")]
fn base() -> Instant {
    Instant::now()
}

/// Room for `lines` lines of one byte each child, and `total` of all.
fn queue(lines: usize, total: usize) -> Queue<u32> {
    let cost = Batch::<u32>::cost(1);
    Queue::new(CaptureLimits::new().per_child(lines * cost).total(total * cost).patience(PATIENCE))
}

fn push(queue: &mut Queue<u32>, source: u32, text: &str) {
    queue.push(source, Stream::Stdout, Piece::new(text.as_bytes(), false));
}

/// Takes a batch as lines of text.
fn taken(queue: &mut Queue<u32>) -> Vec<String> {
    let batch = queue.take(Batch::new());
    batch.lines().map(|line| format!("{} {} {}", line.source(), line.stream(), line.to_text())).collect()
}

#[test]
fn a_full_share_waits_for_the_patience_and_then_drops_until_the_sink_comes() {
    let (mut queue, now) = (queue(2, 100), base());
    for text in ["a", "b"] {
        assert_eq!(queue.admit(1, now), Admission::Take);
        push(&mut queue, 1, text);
    }
    assert_eq!(queue.admit(1, now), Admission::Wait(now + PATIENCE));
    assert_eq!(queue.admit(1, now + PATIENCE / 2), Admission::Wait(now + PATIENCE), "it goes on, not anew");
    assert_eq!(queue.admit(2, now), Admission::Take, "another child has its own share");
    assert_eq!(queue.admit(1, now + PATIENCE), Admission::Drop);
    queue.drop_line(1, Stream::Stdout);
    queue.drop_line(1, Stream::Stdout);
    queue.drop_line(1, Stream::Stderr);

    assert_eq!(taken(&mut queue), ["1 out a", "1 out b"]);
    assert_eq!(queue.admit(1, now + PATIENCE), Admission::Take);
    push(&mut queue, 1, "c");
    let next = ["1 out … 2 lines dropped", "1 err … 1 line dropped", "1 out c"];
    assert_eq!(taken(&mut queue), next, "the word stands where the lines are missing");
    assert_eq!(queue.dropped(), 3);
    assert!(queue.is_empty());
}

#[test]
fn the_word_about_dropped_lines_needs_no_line_after_it() {
    let mut queue = queue(1, 100);
    push(&mut queue, 1, "a");
    queue.drop_line(1, Stream::Stdout);
    queue.forget(1);
    assert_eq!(taken(&mut queue), ["1 out a"]);
    assert!(!queue.is_empty());
    assert_eq!(taken(&mut queue), ["1 out … 1 line dropped"], "also of a child that is gone");
    assert!(queue.accounts.is_empty());
}

#[test]
fn a_full_total_stops_everybody() {
    let (mut queue, now) = (queue(100, 2), base());
    push(&mut queue, 1, "a");
    push(&mut queue, 2, "b");
    assert_eq!(queue.admit(3, now), Admission::Wait(now + PATIENCE));
    assert_eq!(queue.admit_last(1), Admission::Drop);
    taken(&mut queue);
    assert_eq!(queue.admit(3, now), Admission::Take);
}

#[test]
fn last_words_may_exceed_the_share_and_come_after_the_word_about_what_is_missing() {
    let (mut queue, now) = (queue(1, 100), base());
    push(&mut queue, 1, "a");
    queue.drop_line(1, Stream::Stdout);
    assert_ne!(queue.admit(1, now), Admission::Take);
    assert_eq!(queue.admit_last(1), Admission::Take);
    push(&mut queue, 1, "z");
    queue.forget(1);
    assert_eq!(taken(&mut queue), ["1 out a", "1 out … 1 line dropped", "1 out z"]);
    assert!(queue.is_empty());
}

#[test]
fn a_patience_without_end_is_no_overflow() {
    let mut queue = Queue::new(CaptureLimits::new().per_child(1).patience(Duration::MAX));
    let now = base();
    push(&mut queue, 1, "a");
    assert!(matches!(queue.admit(1, now), Admission::Wait(until) if until > now));
}

#[test]
fn children_that_come_and_go_while_the_sink_sleeps_take_bounded_memory() {
    let (mut queue, now) = (queue(2, 100), base());
    for child in 0..20_000 {
        queue.welcome(child);
        for _ in 0..5 {
            match queue.admit(child, now) {
                Admission::Take => push(&mut queue, child, "a"),
                Admission::Wait(_) | Admission::Drop => queue.drop_line(child, Stream::Stderr),
            }
        }
        if queue.admit_last(child) == Admission::Take {
            push(&mut queue, child, "z");
        }
        queue.forget(child);
    }
    assert!(queue.accounts.len() <= MAX_GONE, "{} accounts", queue.accounts.len());
    assert!(queue.batch.size() <= 103 * Batch::<u32>::cost(1), "{} bytes", queue.batch.size());
    assert!(queue.dropped() > 90_000);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u32, Stream),
    Take,
    Later,
    End(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    prop_oneof![
        12 => (0_u32..3, stream).prop_map(|(source, stream)| Step::Write(source, stream)),
        1 => Just(Step::Take),
        2 => Just(Step::Later),
        1 => (0_u32..3).prop_map(Step::End),
    ]
}

proptest! {
    /// Lines are numbered in each stream: whatever happens, they come in order, and a gap is just as large as the word
    /// about it says.
    #[test]
    fn every_line_comes_in_its_place_or_is_counted_there(steps in proptest::collection::vec(step(), 0..400)) {
        let (mut queue, mut now) = (queue(5, 9), base());
        let (mut written, mut expected, mut waited) = (HashMap::new(), HashMap::new(), 0);
        let mut check = |batch: &Batch<u32>| {
            for line in batch.lines() {
                let next = expected.entry((line.source(), line.stream())).or_insert(0_u64);
                match line.dropped() {
                    Some(lines) => *next += lines,
                    None => {
                        assert_eq!(line.to_text(), next.to_string());
                        *next += 1;
                    }
                }
            }
        };
        for step in steps {
            match step {
                Step::Write(source, stream) => {
                    let number = written.entry((source, stream)).or_insert(0_u64);
                    match queue.admit(source, now) {
                        Admission::Take => {
                            queue.push(source, stream, Piece::new(number.to_string().as_bytes(), false));
                        }
                        Admission::Drop => queue.drop_line(source, stream),
                        Admission::Wait(until) => {
                            prop_assert!(until > now && until <= now + PATIENCE);
                            waited += 1;
                            continue;
                        }
                    }
                    *number += 1;
                }
                Step::Take => check(&queue.take(Batch::new())),
                Step::Later => now += PATIENCE / 2,
                Step::End(source) => {
                    let number = written.entry((source, Stream::Stdout)).or_insert(0);
                    match queue.admit_last(source) {
                        Admission::Take => {
                            let text = number.to_string();
                            queue.push(source, Stream::Stdout, Piece::new(text.as_bytes(), false));
                        }
                        Admission::Wait(_) | Admission::Drop => queue.drop_line(source, Stream::Stdout),
                    }
                    *number += 1;
                    queue.forget(source);
                }
            }
        }
        let _ = waited;
        check(&queue.take(Batch::new()));
        check(&queue.take(Batch::new()));
        prop_assert!(queue.is_empty());
        expected.retain(|_, lines| *lines > 0);
        written.retain(|_, lines| *lines > 0);
        prop_assert_eq!(expected, written);
    }
}
