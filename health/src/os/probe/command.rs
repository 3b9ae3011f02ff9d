//! A program whose exit code is the answer.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::reason::{End, shown};
use super::wait::{Wait, now};

/// A program with its arguments. No shell is between: for one, run `/bin/sh -c`.
///
/// It runs in a process group of its own with our environment, and with nothing to read. Exit code 0 is a good answer; with any other,
/// the last line that it wrote (to either output) is the reason, escaped and cut. However much it writes, only the end is kept.
///
/// When its time is up it is killed with its whole process group; what is left of the group when it exits by itself, too. Those who
/// have left the group (`setsid`) are not found. If this process is killed meanwhile, the program is not.
///
/// Nobody else may reap children that they don't know (`waitpid(-1)`, or `SIGCHLD` ignored): then its exit code is lost, which is a
/// bad answer that says so.
///
/// ```
/// use cluster_health::os::CommandLine;
///
/// let check = CommandLine::new("/usr/lib/checks/queue").args(["--worker", "3"]).env("LANG", "C");
/// # let _ = check;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct CommandLine {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

impl CommandLine {
    /// A program by its path, or by a name that is looked for in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), variables: Vec::new(), folder: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The folder that it runs in. Default: ours.
    pub fn folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..self }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).envs(variables).process_group(0).stdin(Stdio::null());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

/// Runs it until it exits or its time is up.
pub(super) fn run(line: &CommandLine, wait: &mut Wait<'_>) -> Result<(), End> {
    reap_left()?;
    let (mut group, mut output) = start(line)?;
    let waited = follow(&group.pidfd, &mut output, wait);
    let exited = group.end();
    output.read_rest();
    let line = output.last_line();
    let because = if line.is_empty() { line } else { format!(": {line}") };
    waited.map_err(|end| {
        end.or_late(|| format!("did not exit within {}, and was killed{because}", wait.timeout()))
    })?;
    let status = exited.map_err(|error| End::Bad(format!("could not learn how it exited: {error}")))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(End::Bad(format!("exited with code {code}{because}"))),
        (None, Some(signal)) => Err(End::Bad(format!("was killed by signal {signal}{because}"))),
        (None, None) => Err(End::Bad(format!("{status}{because}"))),
    }
}

fn start(line: &CommandLine) -> Result<(Group, Output), End> {
    let name = shown(OsStr::as_encoded_bytes(&line.program));
    let failed = |error: io::Error| End::of(format_args!("could not run {name}"), error);
    let (reader, writer) = io::pipe().map_err(failed)?;
    let flags = fcntl_getfl(&reader).map_err(|errno| failed(errno.into()))?;
    fcntl_setfl(&reader, flags | OFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
    let child =
        line.command().stdout(writer.try_clone().map_err(failed)?).stderr(writer).spawn().map_err(failed)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Not reaped yet, it is still the one with this pid.
    match pid.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Ok(pidfd) => {
            let group = Group { pid, pidfd, child: Some(child) };
            Ok((group, Output { reader, tail: Vec::new(), is_open: true }))
        }
        Err(errno) => {
            kill(pid);
            leave(child);
            Err(failed(errno.into()))
        }
    }
}

/// Reads what it writes until it exits.
fn follow(pidfd: &OwnedFd, output: &mut Output, wait: &mut Wait<'_>) -> Result<(), End> {
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        if output.is_open {
            fds.push(PollFd::from_borrowed_fd(output.reader.as_fd(), PollFlags::IN));
        }
        wait.until_any(&mut fds)?;
        if fds.first().is_some_and(|exited| !exited.revents().is_empty()) {
            return Ok(());
        }
        output.read();
    }
}

/// A child that leads a process group, and is not reaped yet: so nobody else can have the group's number.
#[derive(Debug)]
struct Group {
    pid: Option<Pid>,
    pidfd: OwnedFd,
    child: Option<Child>,
}

/// Whoever is killed has so long to end. It takes longer if the kernel holds it (a disk that does not answer), or if we may not kill it.
const DYING: Duration = Duration::from_secs(1);

impl Group {
    /// Kills all that is left of it, and reaps the child.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Reaped by somebody who shouldn't have, it has left its number to others.
        let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), flags)?;
        kill(self.pid);
        let mut dying = Wait::new(DYING, now(), None);
        let _ = dying.until(self.pidfd.as_fd(), PollFlags::IN);
        let Some(mut child) = self.child.take() else { return Err(Errno::CHILD.into()) };
        match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => {
                leave(child);
                Err(Errno::BUSY.into())
            }
            Err(error) => Err(error),
        }
    }
}

fn kill(group: Option<Pid>) {
    if let Some(pid) = group {
        // There may be nobody left, or nobody whom we may kill.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Children that were killed and have not ended yet, to be reaped some time. Of the whole process, as children are.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// More of them are not left: then no other program is run.
const MOST_LEFT: usize = 64;

fn leave(child: Child) {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(child);
}

fn reap_left() -> Result<(), End> {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    if left.len() < MOST_LEFT {
        return Ok(());
    }
    Err(End::Unasked(format!("{MOST_LEFT} programs that were killed have not ended yet")))
}

/// What it writes, of which only the end is kept.
#[derive(Debug)]
struct Output {
    reader: PipeReader,
    tail: Vec<u8>,
    is_open: bool,
}

/// So much of the end is kept, in bytes.
const TAIL: usize = 4096;
/// How often is read at most after it has exited: what fits into a pipe. Somebody who left the group may still write.
const REST: usize = 64 * 1024 / TAIL + 1;

impl Output {
    /// Reads once. Returns whether there was anything.
    fn read(&mut self) -> bool {
        let mut chunk = [0; TAIL];
        match read(&self.reader, &mut chunk) {
            Ok(0) => self.is_open = false,
            Ok(got) => {
                self.tail.extend_from_slice(chunk.get(..got).unwrap_or_default());
                self.tail.drain(..self.tail.len().saturating_sub(TAIL));
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_open = false,
        }
        false
    }

    fn read_rest(&mut self) {
        let _ = (0..REST).take_while(|_| self.is_open && self.read()).count();
    }

    /// The last line that says something.
    fn last_line(&self) -> String {
        let lines = self.tail.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.rev().find(|line| !line.is_empty()).map(shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn of_what_it_writes_only_the_end_is_kept() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output { reader, tail: Vec::new(), is_open: true };
        for round in 0..10 {
            let last = format!("line {round}");
            writer.write_all(&[b'x'; TAIL]).unwrap();
            writeln!(writer, "\n{last}").unwrap();
            while output.last_line() != last {
                assert!(output.read());
                assert!(output.tail.len() <= TAIL);
            }
        }
        assert!(output.is_open);
        drop(writer);
        assert!(!output.read());
        assert!(!output.is_open, "waiting for it would spin");
    }
}
