//! Which executable and which settings belong to which release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use cluster_supervisor::Release;
use cluster_supervisor::os::Executable;

use crate::{Error, Result, Settings};

/// What workers run or may run again: executables, each held open, with the settings that they are started with. A worker keeps its release
/// over restarts, so whatever changes is for those that are forked later, or rolled to it.
#[derive(Debug)]
pub(super) struct Releases {
    pinned: BTreeMap<Release, Pinned>,
    next: u32,
}

/// What workers of a release are started as.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) executable: Arc<Executable>,
    /// What the file was when it was opened; `None` if that can't be told.
    file: Option<File>,
    pub(super) settings: Arc<Settings>,
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

impl Pinned {
    /// What is at `path`.
    fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let file = look_at(path);
        Ok(Self::new(Executable::open(path)?, file, settings))
    }

    /// What runs now, which is not the one at its path if that was replaced meanwhile.
    fn current(settings: &Settings) -> Result<Self> {
        let file = look_at(Path::new("/proc/self/exe"));
        Ok(Self::new(Executable::current()?, file, settings))
    }

    fn new(executable: Executable, file: Option<File>, settings: &Settings) -> Self {
        warn_of_script(&executable);
        let settings = Settings { exec: Some(executable.path().to_owned()), ..settings.clone() };
        Self { executable: Arc::new(executable), file, settings: Arc::new(settings) }
    }
}

impl Releases {
    /// The first release is what runs now, or what the settings name.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let first = match &settings.exec {
            Some(path) => Pinned::open(path, settings)?,
            None => Pinned::current(settings)?,
        };
        Ok(Self { pinned: BTreeMap::from([(Release::default(), first)]), next: 1 })
    }

    /// What a worker of this release is started as.
    pub(super) fn get(&self, release: Release) -> Option<&Pinned> {
        self.pinned.get(&release)
    }

    /// Opens what is at the path of `current` now. `None` if that is what it runs.
    pub(super) fn open_anew(&mut self, current: Release) -> Result<Option<Release>> {
        let known = self.pinned.get(&current).ok_or(Error::Ended)?;
        let path = known.executable.path();
        if known.file.is_some() && known.file == look_at(path) {
            return Ok(None);
        }
        let opened = Pinned::open(path, &known.settings)?;
        Ok(Some(self.add(opened)))
    }

    /// Changes the settings of `current`. What is named to be run is opened.
    pub(super) fn change(&mut self, current: Release, changes: &Settings) -> Result<Release> {
        let known = self.pinned.get(&current).ok_or(Error::Ended)?;
        let settings = changes.over(&known.settings);
        let changed = match &changes.exec {
            Some(path) => Pinned::open(path, &settings)?,
            None => Pinned { settings: Arc::new(settings), ..known.clone() },
        };
        Ok(self.add(changed))
    }

    fn add(&mut self, pinned: Pinned) -> Release {
        let release = Release::new(self.next);
        self.next = self.next.wrapping_add(1);
        self.pinned.insert(release, pinned);
        release
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
