//! A process of ours: started in the background, ended for certain.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// From SIGTERM to SIGKILL. Longer than the example takes at most.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ends when dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it in a process group of its own, so that Ctrl-C reaches only us and we end things in order.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let name = name.into();
        let child =
            command.process_group(0).spawn().map_err(|error| format!("could not start {name}: {error}"))?;
        Ok(Self { child, name })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it wrote, once it has exited.
    pub(crate) fn into_output(mut self) -> Result<String> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(String::new()) };
        Ok(std::io::read_to_string(stdout)?)
    }

    /// Asks it to end and waits; an error if it had to be killed.
    pub(crate) fn stop(mut self) -> Result<()> {
        if self.end() {
            Ok(())
        } else {
            Err(format!("{} did not end within {PATIENCE:?} of SIGTERM", self.name).into())
        }
    }

    /// Whether it went by itself.
    fn end(&mut self) -> bool {
        // Not yet waited for, so the pid is still this process's.
        let Ok(None) = self.child.try_wait() else { return true };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first word with a digit of what a program says about its version.
pub(crate) fn version(program: &std::path::Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let word = text.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
    word.unwrap_or("of unknown version").to_owned()
}

/// A program of this name, where a shell or an administrator's shell would find it.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin".into(), "/usr/sbin".into()];
    std::env::split_paths(&path).chain(sbin).map(|folder| folder.join(name)).find(|file| file.is_file())
}
