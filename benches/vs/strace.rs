//! System calls of a process, counted by strace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::interrupt::wait_for;
use crate::process::{Process, find_program};
use crate::{Result, proc};

/// For strace to have all threads of the process.
const ATTACH: Duration = Duration::from_secs(10);

/// The program.
#[derive(Debug)]
pub(crate) struct Strace {
    program: PathBuf,
}

/// One that is attached to a process.
#[derive(Debug)]
pub(crate) struct Attached {
    process: Process,
    counts: PathBuf,
}

/// How often one system call was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) name: String,
    pub(crate) calls: u64,
}

impl Strace {
    /// strace, or why there is none.
    pub(crate) fn find() -> std::result::Result<Self, &'static str> {
        let program = find_program("strace").ok_or("strace is not installed: apt-get install strace")?;
        Ok(Self { program })
    }

    /// Attaches to all threads of a process. An error if that is not permitted.
    pub(crate) fn attach(&self, pid: u32, folder: &Path) -> Result<Attached> {
        let (counts, messages) = (folder.join("strace.counts"), folder.join("strace.messages"));
        let mut command = Command::new(&self.program);
        command.args(["-f", "-c", "-p", &pid.to_string(), "-o"]).arg(&counts);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&messages)?);
        let mut process = Process::start("strace", &mut command)?;
        wait_for("strace to attach", ATTACH, || {
            if process.exited()?.is_some() {
                return Err(std::fs::read_to_string(&messages)?.trim().into());
            }
            Ok(proc::is_traced(pid)?.then_some(()))
        })?;
        Ok(Attached { process, counts })
    }
}

impl Attached {
    /// Lets the process go and says what it did meanwhile, most frequent first.
    pub(crate) fn detach(self) -> Result<Vec<Calls>> {
        self.process.stop()?;
        let counts = std::fs::read_to_string(&self.counts)?;
        Ok(parse(&counts))
    }
}

/// Reads the table of `strace -c`: `50.00 0.000010 1 10 [errors] accept4`.
fn parse(table: &str) -> Vec<Calls> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (words.last()?, words.get(3)?.parse().ok()?);
        (*name != "total").then(|| Calls { name: (*name).to_owned(), calls })
    };
    let mut rows: Vec<Calls> = table.lines().filter_map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.calls));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 60.00    0.000012           0        30           close
 40.00    0.000008           0        40        10 accept4
------ ----------- ----------- --------- --------- ------------------
100.00    0.000020           0        70        10 total
";
        let calls = |name: &str, calls| Calls { name: name.to_owned(), calls };
        assert_eq!(parse(table), [calls("accept4", 40), calls("close", 30)]);
        assert_eq!(parse(""), []);
    }
}
