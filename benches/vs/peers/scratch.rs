//! A folder for what the servers write and read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Peer;
use crate::Result;

/// Deleted when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("cluster-vs-{}", std::process::id()));
        // Fails if it exists: it may be somebody else's.
        std::fs::create_dir(&folder)
            .map_err(|error| format!("could not create {}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Makes an empty place for a server that is about to start.
    pub(super) fn launch(&self, peer: Peer) -> Result<Launch> {
        let folder = self.folder.join(format!("{peer:?}"));
        std::fs::create_dir_all(&folder)?;
        let launch = Launch { peer, folder };
        File::create(launch.stdout())?;
        File::create(launch.stderr())?;
        Ok(launch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What one server has at its disposal.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) peer: Peer,
    folder: PathBuf,
}

impl Launch {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn stdout(&self) -> PathBuf {
        self.folder.join("stdout")
    }

    pub(super) fn stderr(&self) -> PathBuf {
        self.folder.join("stderr")
    }

    /// A command without terminal, whose output can be read afterwards.
    pub(super) fn command(&self, program: &Path) -> Result<Command> {
        let append = |path| File::options().append(true).open(path);
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(append(self.stdout())?).stderr(append(self.stderr())?);
        // What somebody set for another program must not make ours write a line for each connection.
        command.env_remove("RUST_LOG");
        Ok(command)
    }
}
