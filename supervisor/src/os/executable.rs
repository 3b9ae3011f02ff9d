//! A program to start, pinned by descriptor.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

use super::{Child, Error};

/// An executable that is held open, so that a file replaced or deleted on disk doesn't change what is
/// started.
///
/// It is started through `/proc/self/fd`, which needs a mounted `/proc`. A script (`#!`) can't be
/// started so: its interpreter would not find the descriptor, which is closed on exec.
#[derive(Debug)]
pub struct Executable {
    file: OwnedFd,
    path: PathBuf,
}

/// How to start a child: arguments, environment, stdin.
///
/// Everything else is inherited. No code of ours runs between fork and exec, and no user or group is changed: so the
/// standard library starts it by `posix_spawn`, at the same cost however large this process is.
#[derive(Debug, Default)]
pub struct Spawn {
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Spawn {
    /// No arguments, the environment of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, on top of what is inherited.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }
}

impl Executable {
    /// Pins the program that is running now, even if its file has been replaced since it began.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], for example without `/proc`.
    pub fn current() -> Result<Self, Error> {
        let link = Path::new("/proc/self/exe");
        let path = std::fs::read_link(link).unwrap_or_else(|_| link.to_owned());
        Ok(Self { file: open(link)?, path })
    }

    /// Pins the program at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        Ok(Self { file: open(&path)?, path })
    }

    /// The path it had when it was pinned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a child with `stdin`, in a process group of its own, so that a Ctrl-C at the terminal doesn't reach it.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`]; nothing is left running then.
    pub fn spawn(&self, options: &Spawn, stdin: OwnedFd) -> Result<Child, Error> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command
            .arg0(&self.path)
            .args(&options.args)
            .envs(options.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::from(stdin))
            .process_group(0);
        let failed = |source| Error::Spawn { path: self.path.clone(), source };
        let child = command.spawn().map_err(failed)?;
        // The command holds our copy of the child's stdin: it must be gone for the child's end to be the only one.
        drop(command);
        Child::watch(child).map_err(failed)
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })
}
