//! The output of real children.
#![cfg(feature = "os")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and has a clock and threads"
)]

#[path = "output/children.rs"]
mod children;
mod processes;

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use children::{Collected, capture, gate, standing_still, start, start_with};
use cluster_supervisor::os::{Capture, CaptureLimits, Error, Line, Stream, TailLine};
use processes::{DEADLINE, until};

use Stream::{Stderr, Stdout};

#[test]
fn each_line_reaches_the_sink_and_the_tail_with_its_stream() {
    let (capture, lines) = capture(CaptureLimits::new());
    let mut child = start(&capture, 1, "echo one; echo two >&2; printf 'three\\r\\n'");
    child.wait();
    let tail = capture.finish(1).unwrap();
    let mut shown: Vec<String> = tail.iter().map(ToString::to_string).collect();
    shown.sort();
    assert_eq!(shown, ["err: two", "out: one", "out: three"]);
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    assert_eq!(lines.texts(1, Stdout), ["one", "three"]);
    assert_eq!(lines.texts(1, Stderr), ["two"]);
}

#[test]
fn a_line_without_an_end_comes_when_the_child_has_ended() {
    let (capture, lines) = capture(CaptureLimits::new());
    start(&capture, 1, "echo whole; printf part").wait();
    assert_eq!(capture.finish(1).unwrap().to_string(), "out: whole\nout: part\n");
    capture.close(DEADLINE).unwrap();
    assert_eq!(lines.all().texts(1, Stdout), ["whole", "part"]);
}

#[test]
fn what_is_no_utf8_comes_as_it_was_written() {
    let (capture, lines) = capture(CaptureLimits::new());
    start(&capture, 1, "printf 'a\\377\\200b\\n\\000\\n'").wait();
    let tail = capture.finish(1).unwrap();
    let kept: Vec<&[u8]> = tail.iter().map(TailLine::text).collect();
    assert_eq!(kept, [&b"a\xff\x80b"[..], b"\0"]);
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    let bytes: Vec<&[u8]> = lines.of(1, Stdout).map(|line| &line.text[..]).collect();
    assert_eq!(bytes, kept);
}

#[test]
fn a_long_line_comes_in_pieces() {
    let (capture, lines) = capture(CaptureLimits::new());
    start(&capture, 1, "head -c 20000 /dev/zero | tr '\\0' x; echo; echo short").wait();
    capture.finish(1).unwrap();
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    let pieces: Vec<(usize, bool)> =
        lines.of(1, Stdout).map(|line| (line.text.len(), line.is_continued)).collect();
    assert_eq!(pieces, [(8192, true), (8192, true), (3616, false), (5, false)]);
}

#[test]
fn interleaved_streams_each_keep_their_order() {
    let (capture, lines) = capture(CaptureLimits::new());
    let script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    start(&capture, 1, script).wait();
    capture.finish(1).unwrap();
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    let numbered = |letter: char| (0..2000).map(|i| format!("{letter}{i}")).collect::<Vec<_>>();
    assert_eq!(lines.texts(1, Stdout), numbered('o'));
    assert_eq!(lines.texts(1, Stderr), numbered('e'));
}

#[test]
fn a_flood_ends_and_every_line_of_it_is_taken_or_counted() {
    let (capture, lines) = capture(CaptureLimits::new());
    // 10 million lines of 8 bytes.
    start(&capture, 1, "yes 1234567 | head -c 80000000").wait();
    let tail = capture.finish(1).unwrap();
    assert_eq!(tail.to_string(), "out: 1234567\n".repeat(32));
    let dropped = capture.dropped();
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    assert_eq!(lines.told_dropped(1, Stdout), dropped);
    assert_eq!(lines.count(1, Stdout) + dropped, 10_000_000);
}

#[test]
fn a_sink_that_blocks_does_not_block_the_child_and_what_is_missing_is_told_in_its_place() {
    let (blocked, open) = gate();
    let lines = Collected::new();
    let mut sink = lines.sink();
    let mut is_first = true;
    let capture = Capture::start(CaptureLimits::new(), move |line: Line<'_, u32>| {
        sink(line);
        if std::mem::take(&mut is_first) {
            let _ = blocked.recv();
        }
    })
    .unwrap();
    // Far more than the pipe and the queue hold; the child must end although the sink stands still.
    start(
        &capture,
        1,
        "i=0; while [ $i -lt 30000 ]; do echo $i some more text to fill a line; i=$((i+1)); done",
    )
    .wait();
    let is_last = |line: &TailLine| line.to_text() == "29999 some more text to fill a line";
    until("lines that are dropped are in the tail, too", || {
        capture.tail(1).unwrap().iter().next_back().is_some_and(is_last)
    });
    capture.finish(1).unwrap();
    assert!(capture.dropped() > 0, "the sink can't have taken them");
    // Another child is not affected by the first one's share.
    start(&capture, 2, "echo quiet").wait();
    capture.finish(2).unwrap();
    open.send(()).unwrap();
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    assert_eq!(lines.texts(2, Stdout), ["quiet"]);
    let mut next = 0;
    for line in lines.of_all(1, Stdout) {
        match line.dropped {
            Some(dropped) => {
                assert_eq!(line.to_text(), format!("… {dropped} lines dropped"));
                next += dropped;
            }
            None => {
                let number: u64 = line.to_text().split(' ').next().unwrap().parse().unwrap();
                assert_eq!(number, next, "a gap is as large as the line in its place says");
                next += 1;
            }
        }
    }
    assert_eq!(next, 30_000);
}

#[test]
fn a_sink_that_is_a_little_slow_loses_nothing() {
    let lines = Collected::new();
    let mut sink = lines.sink();
    // Much smaller than what the child writes, and no end to the patience: so it must be the child that waits.
    let limits = CaptureLimits::new().per_child(1000).patience(Duration::MAX);
    let capture = Capture::start(limits, move |line: Line<'_, u32>| sink(line)).unwrap();
    start(&capture, 1, "yes 1234567 | head -c 800000").wait();
    capture.finish(1).unwrap();
    assert_eq!(capture.dropped(), 0);
    capture.close(DEADLINE).unwrap();
    assert_eq!(lines.all().count(1, Stdout), 100_000);
}

#[test]
fn a_panicking_sink_costs_lines_and_no_child() {
    let capture = Capture::start(CaptureLimits::new(), |line: Line<'_, u32>| {
        assert!(line.to_text().is_empty(), "the sink of this test panics, as it should");
    })
    .unwrap();
    start(&capture, 1, "yes 1234567 | head -c 8000000").wait();
    assert_eq!(capture.finish(1).unwrap().iter().len(), 32);
    assert!(capture.dropped() > 0);
    capture.close(DEADLINE).unwrap();
}

#[test]
fn a_grandchild_that_holds_the_pipes_delays_nothing() {
    let (capture, lines) = capture(CaptureLimits::new());
    let mut child = start(&capture, 1, "exec 3<&0; sh -c 'read line' <&3 & echo started; echo on both >&2");
    child.wait();
    // Its stdin is ours, so it still lives.
    assert_eq!(capture.finish(1).unwrap().iter().len(), 2);
    capture.close(DEADLINE).unwrap();
    assert_eq!(lines.all().texts(1, Stdout), ["started"]);
    child.end_descendants();
}

#[test]
fn a_grandchild_that_floods_the_pipe_delays_nothing_and_ends_by_itself() {
    let (capture, lines) = capture(CaptureLimits::new());
    let (alive, held) = std::io::pipe().unwrap();
    // The flooding `yes` holds the pipe that tells us of its end as its stdin.
    let mut child = start_with(&capture, 1, "exec 3<&0; echo started; yes flood <&3 & exit 3", held);
    child.wait();
    let tail = capture.finish(1).unwrap();
    assert!(!tail.is_empty());
    assert!(capture.finish(1).is_none(), "it is forgotten");
    children::wait_for_end(alive);
    capture.close(DEADLINE).unwrap();
    assert!(lines.all().texts(1, Stdout).contains(&"started".to_owned()));
}

#[test]
fn a_running_child_shows_its_last_lines() {
    let (capture, _lines) = capture(CaptureLimits::new());
    let mut child = start(&capture, 1, "echo here; read line");
    until("the line is read", || capture.tail(1).is_some_and(|tail| tail.to_string() == "out: here\n"));
    child.end_descendants();
    child.wait();
    assert!(capture.finish(1).is_some());
    assert!(capture.tail(1).is_none());
}

#[test]
fn a_hundred_children_at_once_each_get_all_their_lines_through() {
    let (capture, lines) = capture(CaptureLimits::new());
    let script = "i=0; while [ $i -lt 200 ]; do echo $i; echo $i >&2; i=$((i+1)); done";
    let mut all: Vec<_> = (0..100).map(|key| start(&capture, key, script)).collect();
    for (key, child) in all.iter_mut().enumerate() {
        child.wait();
        let tail = capture.finish(u32::try_from(key).unwrap()).unwrap();
        assert_eq!(tail.iter().filter(|line| line.to_text() == "199").count(), 2, "child {key}");
    }
    assert_eq!(capture.dropped(), 0);
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    let expected: Vec<String> = (0..200).map(|i: u32| i.to_string()).collect();
    for key in 0..100 {
        assert_eq!(lines.texts(key, Stdout), expected, "child {key}");
        assert_eq!(lines.texts(key, Stderr), expected, "child {key}");
    }
}

#[test]
fn a_quiet_child_is_heard_among_those_that_flood() {
    let (heard, quiet) = mpsc::channel();
    let capture = Capture::start(CaptureLimits::new(), move |line: Line<'_, u32>| {
        if line.source() == 99 {
            let _ = heard.send(line.to_text().into_owned());
        }
    })
    .unwrap();
    let mut floods: Vec<_> = (0..4).map(|key| start(&capture, key, "yes 1234567")).collect();
    until("all of them flood", || (0..4).all(|key| !capture.tail(key).unwrap().is_empty()));
    let mut child = start(&capture, 99, "for i in 1 2 3; do echo $i; done; read line");
    for number in ["1", "2", "3"] {
        assert_eq!(quiet.recv_timeout(DEADLINE).unwrap(), number);
    }
    // While they go on, the owner is served, too.
    child.end_descendants();
    child.wait();
    assert_eq!(capture.finish(99).unwrap().iter().len(), 3);
    for flood in &mut floods {
        flood.kill();
    }
}

#[test]
fn a_stream_is_watched_once() {
    let (capture, lines) = capture(CaptureLimits::new());
    let (first, mut ours) = std::io::pipe().unwrap();
    capture.watch(1, Stdout, first).unwrap();
    let (second, _ours) = std::io::pipe().unwrap();
    let error = capture.watch(1, Stdout, second).unwrap_err();
    assert!(matches!(error, Error::Captured { stream: Stdout }), "{error}");
    std::io::Write::write_all(&mut ours, b"still\nhere").unwrap();
    until("the sink gets the whole line", || lines.len() == 1);
    assert_eq!(capture.finish(1).unwrap().to_string(), "out: still\nout: here\n");
    until("the sink gets what was left, with nothing after it", || lines.len() == 2);
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = capture.watch(1, Stdout, file).unwrap_err();
    assert_eq!(error.to_string(), "could not watch the output of a child");
    assert!(capture.finish(1).is_none(), "what could not be watched leaves nothing");
    capture.close(DEADLINE).unwrap();
    assert_eq!(lines.all().texts(1, Stdout), ["still", "here"]);
}

#[test]
fn a_sink_that_does_not_return_delays_close_no_longer_than_asked() {
    let (capture, open, _gone) = standing_still();
    start(&capture, 1, "echo a").wait();
    capture.finish(1).unwrap();
    let error = capture.close(Duration::from_millis(10)).unwrap_err();
    assert_eq!(error.to_string(), "could not hand the last lines to the sink in time");
    drop(open);
}

#[test]
fn children_that_are_not_finished_are_when_all_is_closed() {
    let (capture, lines) = capture(CaptureLimits::new());
    let mut sources = HashMap::new();
    for key in 0..10 {
        let mut child = start(&capture, key, "printf last; read line");
        child.end_descendants();
        child.wait();
        sources.insert(key, child);
    }
    capture.close(DEADLINE).unwrap();
    let lines = lines.all();
    for key in 0..10 {
        assert_eq!(lines.texts(key, Stdout), ["last"], "child {key}");
    }
}

/// A key that can't be told from others by the thread that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Faulty;

impl std::hash::Hash for Faulty {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
        let thread = std::thread::current();
        assert_ne!(thread.name(), Some("output-reader"), "this panic is part of a test");
    }
}

#[test]
fn a_reader_that_panics_leaves_no_child_waiting() {
    let capture = Capture::start(CaptureLimits::new(), |_: Line<'_, Faulty>| {}).unwrap();
    let (stdout, childs) = std::io::pipe().unwrap();
    let mut command = std::process::Command::new("sh");
    let endless = "trap '' PIPE; while echo more; do :; done 2>/dev/null";
    let mut child = command.args(["-c", endless]).stdout(childs).spawn().unwrap();
    drop(command);
    capture.watch(Faulty, Stdout, stdout).unwrap();
    until("the child sees that nobody reads", || child.try_wait().unwrap().is_some());
    let (another, _childs) = std::io::pipe().unwrap();
    assert!(capture.watch(Faulty, Stderr, another).is_err(), "nobody would read it");
    assert!(capture.finish(Faulty).is_some());
    capture.close(DEADLINE).unwrap();
}
