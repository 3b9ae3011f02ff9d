//! What a program is called with: arguments, environment, directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use std::os::unix::process::CommandExt;

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
        if self.clear_env {
            command.env_clear();
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }
}
