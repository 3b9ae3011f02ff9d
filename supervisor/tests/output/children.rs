//! Children that write, and a sink that collects.

#![allow(dead_code, reason = "each test file is its own crate and uses its own part")]

use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, mpsc};

use cluster_supervisor::os::{Capture, CaptureLimits, Line, Stream};

use crate::processes::{DEADLINE, eventually};

/// A shell whose output is captured. Whatever reads its stdin goes on until [`end_descendants`](Self::end_descendants).
pub(crate) struct Shell {
    process: Child,
    stdin: Option<PipeWriter>,
}

/// Starts a shell that runs `script`.
pub(crate) fn start(capture: &Capture<u32>, key: u32, script: &str) -> Shell {
    let (stdin, ours) = std::io::pipe().unwrap();
    let mut shell = start_with(capture, key, script, stdin);
    shell.stdin = Some(ours);
    shell
}

/// Starts it with a stdin of the test's own.
pub(crate) fn start_with(capture: &Capture<u32>, key: u32, script: &str, stdin: impl Into<OwnedFd>) -> Shell {
    let (stdout, child_stdout) = std::io::pipe().unwrap();
    let (stderr, child_stderr) = std::io::pipe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(stdin.into()).stdout(child_stdout).stderr(child_stderr);
    let process = command.spawn().unwrap();
    drop(command);
    capture.watch(key, Stream::Stdout, stdout).unwrap();
    capture.watch(key, Stream::Stderr, stderr).unwrap();
    Shell { process, stdin: None }
}

impl Shell {
    /// Waits for its exit.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the child to end", || self.process.try_wait().unwrap())
    }

    /// Closes the stdin that it and its descendants read.
    pub(crate) fn end_descendants(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.wait();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // When a test fails; otherwise it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until nobody holds the other end.
pub(crate) fn wait_for_end(mut pipe: PipeReader) {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(pipe.read(&mut [0])));
    end.recv_timeout(DEADLINE).unwrap().unwrap();
}

/// A gate that stays shut until something is sent or the sender is gone.
pub(crate) fn gate() -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (open, blocked) = mpsc::channel();
    (blocked, open)
}

/// A capture whose sink stands still until something is sent or the sender is gone. What is received last is the end of the
/// sink: it is dropped.
pub(crate) fn standing_still() -> (Capture<u32>, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (blocked, open) = gate();
    let (left, gone) = mpsc::channel();
    let sink = move |_: Line<'_, u32>| {
        let _left = &left;
        let _ = blocked.recv();
    };
    (Capture::start(CaptureLimits::new(), sink).unwrap(), open, gone)
}

/// A line, kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) source: u32,
    pub(crate) stream: Stream,
    pub(crate) text: Vec<u8>,
    pub(crate) is_continued: bool,
    pub(crate) dropped: Option<u64>,
}

impl Kept {
    pub(crate) fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// What a sink has collected.
#[derive(Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<Vec<Kept>>>);

/// All of it.
pub(crate) struct Lines(Vec<Kept>);

/// A capture whose sink collects.
pub(crate) fn capture(limits: CaptureLimits) -> (Capture<u32>, Collected) {
    let collected = Collected::new();
    let mut sink = collected.sink();
    (Capture::start(limits, move |line: Line<'_, u32>| sink(line)).unwrap(), collected)
}

impl Collected {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn sink(&self) -> impl FnMut(Line<'_, u32>) + Send + use<> {
        let lines = self.0.clone();
        move |line| {
            lines.lock().unwrap().push(Kept {
                source: line.source(),
                stream: line.stream(),
                text: line.text().to_vec(),
                is_continued: line.is_continued(),
                dropped: line.dropped(),
            });
        }
    }

    /// How many lines there are until now.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn all(&self) -> Lines {
        Lines(std::mem::take(&mut self.0.lock().unwrap()))
    }
}

impl Lines {
    /// The lines of a stream, and our words about missing ones.
    pub(crate) fn of_all(&self, source: u32, stream: Stream) -> impl Iterator<Item = &Kept> {
        self.0.iter().filter(move |line| (line.source, line.stream) == (source, stream))
    }

    /// The lines of a stream.
    pub(crate) fn of(&self, source: u32, stream: Stream) -> impl Iterator<Item = &Kept> {
        self.of_all(source, stream).filter(|line| line.dropped.is_none())
    }

    pub(crate) fn texts(&self, source: u32, stream: Stream) -> Vec<String> {
        self.of(source, stream).map(Kept::to_text).collect()
    }

    pub(crate) fn count(&self, source: u32, stream: Stream) -> u64 {
        self.of(source, stream).count() as u64
    }

    pub(crate) fn told_dropped(&self, source: u32, stream: Stream) -> u64 {
        self.of_all(source, stream).filter_map(|line| line.dropped).sum()
    }
}
