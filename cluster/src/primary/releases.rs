//! Which executable belongs to which release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster_supervisor::Release;
use cluster_supervisor::os::Executable;

use crate::{Error, Result};

/// The executables that workers run or may run again, each held open. All are of one path, at different times.
#[derive(Debug)]
pub(super) struct Releases {
    path: PathBuf,
    pinned: BTreeMap<Release, Pinned>,
    next: u32,
}

#[derive(Debug)]
struct Pinned {
    executable: Arc<Executable>,
    /// What the file was when it was opened; `None` if that can't be told.
    file: Option<File>,
}

/// Device, inode, size, and when it was written: what tells a file from the one that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    inode: (u64, u64),
    size: u64,
    written: (i64, i64),
}

impl From<Metadata> for File {
    fn from(metadata: Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn look_at(path: &Path) -> Option<File> {
    std::fs::metadata(path).ok().map(File::from)
}

/// A script is known by its path alone, so there is nothing to go back to once its file was replaced.
fn warn_of_script(executable: &Executable) {
    if !executable.is_pinned() {
        let path = executable.path().display();
        tracing::warn!(
            "{path} can't be held open, as a program could: whatever stands in it when a worker starts is what it runs (a script?), also after a crash or a rollback"
        );
    }
}

impl Releases {
    /// The first release is what runs now, or is at `path`.
    pub(super) fn new(path: Option<PathBuf>) -> Result<Self> {
        let is_own = path.is_none();
        let executable = match path {
            Some(path) => Executable::open(path)?,
            None => Executable::current()?,
        };
        // That of the program that runs now, which is not the one at its path if that was replaced meanwhile.
        let file = look_at(if is_own { Path::new("/proc/self/exe") } else { executable.path() });
        warn_of_script(&executable);
        let path = executable.path().to_owned();
        let pinned =
            BTreeMap::from([(Release::default(), Pinned { executable: Arc::new(executable), file })]);
        Ok(Self { path, pinned, next: 1 })
    }

    /// What a worker of this release is started from.
    pub(super) fn get(&self, release: Release) -> Option<Arc<Executable>> {
        self.pinned.get(&release).map(|pinned| Arc::clone(&pinned.executable))
    }

    /// Opens what is at the path now. `None` if that is what `current` runs.
    pub(super) fn open_anew(&mut self, current: Release) -> Result<Option<Release>> {
        let file = look_at(&self.path);
        let known = self.pinned.get(&current).and_then(|pinned| pinned.file);
        if file.is_some() && file == known {
            return Ok(None);
        }
        let executable = Executable::open(self.path.clone()).map_err(Error::from)?;
        warn_of_script(&executable);
        let release = Release::new(self.next);
        self.next = self.next.wrapping_add(1);
        self.pinned.insert(release, Pinned { executable: Arc::new(executable), file });
        Ok(Some(release))
    }

    /// Lets go of all others.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<Release>) {
        self.pinned.retain(|release, _| wanted.contains(release));
    }

    /// Whether there is something to let go of.
    pub(super) fn is_several(&self) -> bool {
        self.pinned.len() > 1
    }
}
