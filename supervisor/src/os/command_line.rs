//! What a program is called with: arguments, environment, directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use std::os::unix::process::CommandExt;

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
