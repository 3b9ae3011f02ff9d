//! The sink that writes to our own output, in a process whose output is broken, full or closed: this test starts itself.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and has a clock and threads"
)]

#[cfg(feature = "os")]
mod processes;

#[cfg(feature = "os")]
mod standard {
    use std::io::{PipeReader, Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use cluster_supervisor::os::{Capture, CaptureLimits, Prefixed, Stream};

    use crate::processes::{DEADLINE, eventually};

    /// In whose environment this is, it is the process that captures.
    const ROLE: &str = "CLUSTER_OUTPUT_STANDARD";

    /// Its value where nobody reads its stdout.
    const BLOCKED: &str = "blocked";

    pub(crate) fn main() {
        if let Ok(role) = std::env::var(ROLE) {
            return capturing(role == BLOCKED);
        }
        check("lines go to the stream they came from", each_stream_goes_to_our_own);
        check("a broken stdout stops neither child nor stderr", a_broken_stdout);
        check("a stdout that nobody reads stops no child", a_blocked_stdout);
        check("a closed stdout stops neither child nor stderr", a_closed_stdout);
    }

    fn check(rule: &str, test: fn()) {
        test();
        eprintln!("test {rule} ... ok");
    }

    /// Captures a child that writes more than a pipe and the queue hold, and says on stderr that it has ended.
    fn capturing(is_blocked: bool) {
        let sink = Prefixed::new(|source: u32, stream| format!("[{source} {stream}] "));
        // Where somebody reads, nothing is dropped because a busy machine does not let the sink run for a moment.
        let limits = CaptureLimits::new();
        let limits = if is_blocked { limits } else { limits.patience(Duration::MAX) };
        let capture = Capture::start(limits, sink).unwrap();
        let (stdout, child_stdout) = std::io::pipe().unwrap();
        let (stderr, child_stderr) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; yes 1234567 | head -c 4000000; echo last >&2"]);
        let mut child = command.stdout(child_stdout).stderr(child_stderr).spawn().unwrap();
        drop(command);
        capture.watch(3, Stream::Stdout, stdout).unwrap();
        capture.watch(3, Stream::Stderr, stderr).unwrap();
        let status = child.wait().unwrap();
        let tail = capture.finish(3).unwrap();
        // In one piece: `eprintln` writes several, and a captured line may come between them.
        let line = format!("ended {status}, {}\n", tail.to_string().contains("err: last\n"));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        // With a blocked stdout the sink never ends; this process does.
        let _ = capture.close(if is_blocked { Duration::from_secs(2) } else { DEADLINE });
    }

    fn start(role: &str, stdout: impl Into<Stdio>) -> (Capturing, PipeReader) {
        let (stderr, child_stderr) = std::io::pipe().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).stdin(Stdio::null()).stdout(stdout).stderr(child_stderr);
        (Capturing(command.spawn().unwrap()), stderr)
    }

    fn read(mut pipe: PipeReader) -> String {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    /// A process that does not outlive a test that fails.
    struct Capturing(Child);

    impl Capturing {
        fn wait(mut self) {
            let status = eventually("the capturing process to end", || self.0.try_wait().unwrap());
            assert!(status.success(), "{status}");
        }
    }

    impl Drop for Capturing {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn each_stream_goes_to_our_own() {
        let (stdout, theirs) = std::io::pipe().unwrap();
        let (child, stderr) = start("read", theirs);
        let out = std::thread::spawn(|| read(stdout));
        let err = read(stderr);
        child.wait();
        let out = out.join().unwrap();
        assert!(out.starts_with("[3 out] first\n[3 out] 1234567\n"), "{}", &out[..100]);
        assert!(out.ends_with("\n"), "only whole lines");
        assert!(err.contains("[3 err] last\n"), "{err}");
        assert!(err.contains("ended exit status: 0, true\n"), "{err}");
    }

    fn a_broken_stdout() {
        let (stdout, theirs) = std::io::pipe().unwrap();
        drop(stdout);
        let (child, stderr) = start("broken", theirs);
        let err = read(stderr);
        child.wait();
        assert!(err.contains("[3 err] last\n"), "{err}");
        assert!(err.contains("ended exit status: 0, true\n"), "{err}");
    }

    fn a_blocked_stdout() {
        let (_stdout, theirs) = std::io::pipe().unwrap();
        let (child, stderr) = start(BLOCKED, theirs);
        let err = read(stderr);
        child.wait();
        assert!(err.contains("ended exit status: 0, true\n"), "{err}");
    }

    fn a_closed_stdout() {
        let (stderr, child_stderr) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" >&-"]).arg(std::env::current_exe().unwrap());
        command.env(ROLE, "closed").stdin(Stdio::null()).stdout(Stdio::null()).stderr(child_stderr);
        let child = Capturing(command.spawn().unwrap());
        drop(command);
        let err = read(stderr);
        child.wait();
        assert!(err.contains("[3 err] last\n"), "{err}");
        assert!(err.contains("ended exit status: 0, true\n"), "{err}");
    }
}

fn main() {
    #[cfg(feature = "os")]
    standard::main();
}
