//! The lines of all children on our own output, each with a prefix.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::{Line, Sink, Stream};

/// So many bytes are written at once at most, but for a line that is longer.
const CHUNK: usize = 64 * 1024;

/// A [`Sink`] that writes what children write to stdout to our stdout, and the same with stderr.
///
/// Each line is one line, after its prefix; a piece of a long line ends with `…`. Its text is as the child wrote it.
/// Writing is by the batch, and in order also where both of ours are the same file or terminal.
///
/// It writes to copies of our descriptors, made when it is, and not through [`std::io::stdout`]: it shares no lock with
/// those who print, and what is closed or redirected later stays what it was.
///
/// What can't be written is lost. A pipe that nobody reads any more (`EPIPE`) is closed and not tried again, nor is what
/// was closed at the beginning; the other stream goes on. What is blocked blocks this sink, on both streams, and then
/// the [`Capture`](super::Capture) drops lines and says so.
/// A program that has brought back `SIGPIPE` (Rust's are born without) is killed by it here as anywhere.
///
/// ```no_run
/// use cluster_supervisor::WorkerId;
/// use cluster_supervisor::os::{Capture, CaptureLimits, Prefixed, Stream};
///
/// // [0.3 out] listening on 127.0.0.1:8080
/// let sink = Prefixed::new(|id: WorkerId, stream| format!("[{id} {stream}] "));
/// let capture = Capture::<WorkerId>::start(CaptureLimits::new(), sink)?;
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
pub struct Prefixed<F> {
    outputs: [Option<File>; 2],
    prefix: F,
    /// What is to be written to the output of `stream`.
    buffer: Vec<u8>,
    stream: Stream,
}

impl<F> Prefixed<F> {
    /// To our own stdout and stderr. The prefix is what `prefix` returns for a child and its stream.
    pub fn new(prefix: F) -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned().ok();
        let stderr = io::stderr().as_fd().try_clone_to_owned().ok();
        Self::with([stdout, stderr], prefix)
    }

    /// To any two descriptors, for example of log files.
    pub fn to(stdout: impl Into<OwnedFd>, stderr: impl Into<OwnedFd>, prefix: F) -> Self {
        Self::with([Some(stdout.into()), Some(stderr.into())], prefix)
    }

    fn with(outputs: [Option<OwnedFd>; 2], prefix: F) -> Self {
        let outputs = outputs.map(|output| output.map(File::from));
        Self { outputs, prefix, buffer: Vec::new(), stream: Stream::Stdout }
    }

    fn write(&mut self) {
        let output = &mut self.outputs[self.stream.index()];
        let result = output.as_mut().map_or(Ok(()), |file| write_all(file, &self.buffer));
        if result.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            *output = None;
        }
        self.buffer.clear();
    }
}

impl<K, F, D> Sink<K> for Prefixed<F>
where
    K: Copy,
    F: FnMut(K, Stream) -> D + Send,
    D: Display,
{
    fn line(&mut self, line: Line<'_, K>) {
        if self.stream != line.stream() || self.buffer.len() >= CHUNK {
            self.write();
        }
        self.stream = line.stream();
        let prefix = (self.prefix)(line.source(), line.stream());
        // A vector takes whatever is written to it.
        let _ = write!(self.buffer, "{prefix}");
        self.buffer.extend_from_slice(line.text());
        self.buffer.extend_from_slice(if line.is_continued() { "…\n".as_bytes() } else { b"\n" });
    }

    fn flush(&mut self) {
        self.write();
    }
}

impl<F> fmt::Debug for Prefixed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefixed").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

/// Writes all of it, also to what somebody has made non-blocking: whoever shares a terminal with us can do that.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // It fails when a signal comes in between: then the write is tried, and waited for, again.
                let _ = poll(&mut [PollFd::new(&*file, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::line::Kind;
    use super::*;

    fn line(stream: Stream, text: &str) -> Line<'_, u32> {
        Line { source: 3, stream, text: text.as_bytes(), kind: Kind::Ended }
    }

    fn prefix(source: u32, stream: Stream) -> String {
        format!("[{source} {stream}] ")
    }

    fn read(mut pipe: impl Read) -> String {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn each_stream_goes_to_its_own_with_the_prefix() {
        let ((out, our_out), (err, our_err)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut sink = Prefixed::to(our_out, our_err, prefix);
        sink.line(line(Stream::Stdout, "a"));
        sink.line(line(Stream::Stderr, "b"));
        sink.line(Line { kind: Kind::Continued, ..line(Stream::Stdout, "c") });
        Sink::<u32>::flush(&mut sink);
        drop(sink);
        assert_eq!((read(out), read(err)), ("[3 out] a\n[3 out] c…\n".into(), "[3 err] b\n".into()));
    }

    #[test]
    fn the_order_is_kept_where_both_are_the_same() {
        let (both, out) = io::pipe().unwrap();
        let mut sink = Prefixed::to(out.try_clone().unwrap(), out, |_, _| "");
        for (stream, text) in [(Stream::Stderr, "a"), (Stream::Stdout, "b"), (Stream::Stderr, "c")] {
            Sink::<u32>::line(&mut sink, line(stream, text));
        }
        Sink::<u32>::flush(&mut sink);
        drop(sink);
        assert_eq!(read(both), "a\nb\nc\n");
    }

    #[test]
    fn a_broken_pipe_is_given_up_and_the_other_stream_goes_on() {
        let ((out, our_out), (err, our_err)) = (io::pipe().unwrap(), io::pipe().unwrap());
        drop(out);
        let mut sink = Prefixed::to(our_out, our_err, prefix);
        for _ in 0..2 {
            sink.line(line(Stream::Stdout, "a"));
            sink.line(line(Stream::Stderr, "b"));
            Sink::<u32>::flush(&mut sink);
        }
        assert!(sink.outputs[0].is_none(), "nobody will ever read it");
        drop(sink);
        assert_eq!(read(err), "[3 err] b\n[3 err] b\n");
    }

    #[test]
    fn what_is_closed_takes_nothing() {
        let mut sink = Prefixed::with([None, None], prefix);
        sink.line(line(Stream::Stdout, "a"));
        Sink::<u32>::flush(&mut sink);
        assert!(sink.buffer.is_empty(), "what can't be written must not pile up");
    }

    #[test]
    fn a_full_pipe_that_does_not_block_loses_nothing() {
        let (out, our_out) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&our_out, true).unwrap();
        let reader = std::thread::Builder::new().spawn(move || read(out)).unwrap();
        let mut sink = Prefixed::to(our_out.try_clone().unwrap(), our_out, |_, _| "");
        let text = "x".repeat(999);
        for _ in 0..1000 {
            Sink::<u32>::line(&mut sink, line(Stream::Stdout, &text));
        }
        Sink::<u32>::flush(&mut sink);
        drop(sink);
        assert_eq!(reader.join().unwrap().len(), 1_000_000);
    }
}
