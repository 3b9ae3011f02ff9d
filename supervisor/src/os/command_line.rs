//! What a program is called with: arguments, environment, directory.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;

use rustix::io::Errno;

/// What a service manager tells this process alone: that it is to notify, and which sockets it has.
///
/// A child that took it for its own would say "ready" in our name, or serve on descriptors that it doesn't have.
const OURS_ALONE: [&str; 7] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Arguments, environment and directory; the environment as changes to that of the process that starts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) arg0: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) clear_env: bool,
    /// In order, the last one counts; `None` removes.
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    pub(super) directory: Option<PathBuf>,
}

impl CommandLine {
    /// A command of the standard library for `program`, without the directory.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg0(&self.arg0).args(&self.args);
        command.env_clear().envs(self.environment());
        command
    }

    /// The environment, out of this process's.
    pub(super) fn environment(&self) -> BTreeMap<OsString, OsString> {
        let mut environment = BTreeMap::new();
        if !self.clear_env {
            environment.extend(std::env::vars_os());
            OURS_ALONE.iter().for_each(|key| drop(environment.remove(OsStr::new(key))));
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => environment.insert(key.clone(), value.clone()),
                None => environment.remove(key),
            };
        }
        environment
    }
}

/// A program, its arguments and its environment, as the kernel takes them.
#[derive(Debug)]
pub(super) struct Exec {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Exec {
    /// The command line for `program`. A NUL within a string can't be.
    pub(super) fn new(program: &Path, line: &CommandLine) -> Result<Self, Errno> {
        let args = std::iter::once(&line.arg0).chain(&line.args).cloned();
        let env = line.environment().into_iter().map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            variable
        });
        Ok(Self {
            program: c_string(program.as_os_str().to_owned())?,
            args: args.map(c_string).collect::<Result<_, _>>()?,
            env: env.map(c_string).collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the program; returns only if that failed.
    ///
    /// The kernel's own `execve`: the standard library's gives a file that the kernel doesn't know (`ENOEXEC`) to
    /// `/bin/sh`, as a shell does, and a truncated program would seem to start.
    pub(super) fn exec(&self) -> Errno {
        match nix::unistd::execve(&self.program, &self.args, &self.env) {
            Err(errno) => Errno::from_raw_os_error(errno as i32),
        }
    }
}

fn c_string(string: OsString) -> Result<CString, Errno> {
    CString::new(string.into_vec()).map_err(|_| Errno::INVAL)
}
