//! What workers are started with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cluster_supervisor::os::{ChildSpec, Executable, Stdio, User};

use crate::{Error, Result};

/// What workers are started with, as far as it can be changed while the cluster runs: by [`Handle::setup`](crate::Handle::setup).
///
/// Set to begin with by the [`Builder`](crate::Builder)'s methods of the same names, and read back by
/// [`Handle::settings`](crate::Handle::settings). What is not set stays as it was. For Node's `cluster.settings` and `setupPrimary`:
///
/// | there | here |
/// |---|---|
/// | `exec`, `args` | [`exec`](Self::exec), [`args`](Self::args) |
/// | `execArgv`, `serialization`, `inspectPort`, `windowsHide` | nothing: they are about Node's runtime |
/// | `cwd` | [`cwd`](Self::cwd) |
/// | `silent` | [`silent`](Self::silent); who wants to read the output sets [`Builder::output`](crate::Builder::output) |
/// | `stdio`, an extra pipe in it | [`descriptor`](Self::descriptor) |
/// | `uid`, `gid` | [`uid`](Self::uid), [`gid`](Self::gid) |
/// | `server.maxConnections`, in the worker | [`max_connections_per_worker`](Self::max_connections_per_worker) |
///
/// ```
/// use cluster::Settings;
///
/// let settings = Settings::new().args(["--quiet"]).cwd("/var/empty").env("MODE", "batch");
/// assert_eq!(settings.cwd.as_deref(), Some("/var/empty".as_ref()));
/// assert_eq!(settings.exec, None, "as it was");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// The program; in what is read back, its path.
    pub exec: Option<PathBuf>,
    /// Its arguments.
    pub args: Option<Vec<OsString>>,
    /// Its working directory; `None` in what is read back for the primary's.
    pub cwd: Option<PathBuf>,
    /// Environment variables on top of the primary's.
    pub env: BTreeMap<OsString, OsString>,
    /// Whether what it prints goes nowhere.
    pub silent: Option<bool>,
    /// The user that it runs as; `None` in what is read back for the primary's.
    pub uid: Option<u32>,
    /// The group that it runs as; `None` in what is read back for the primary's.
    pub gid: Option<u32>,
    /// How many connections it may have at a time; `None` in what is read back for as many as its limit of open files allows.
    pub max_connections_per_worker: Option<u32>,
    pub(crate) descriptors: Descriptors,
}

/// Descriptors by name, each handed to every life of a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Descriptors(BTreeMap<String, Arc<OwnedFd>>);

impl PartialEq for Descriptors {
    /// The same descriptors under the same names.
    fn eq(&self, other: &Self) -> bool {
        let same = |(name, descriptor): (&String, &Arc<OwnedFd>)| {
            other.0.get(name).is_some_and(|theirs| Arc::ptr_eq(descriptor, theirs))
        };
        self.0.len() == other.0.len() && self.0.iter().all(same)
    }
}

impl Descriptors {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// A duplicate of each, in the order of the names.
    pub(crate) fn duplicate(&self) -> Result<Vec<OwnedFd>> {
        let duplicates: io::Result<_> = self.0.values().map(|descriptor| descriptor.try_clone()).collect();
        duplicates.map_err(Error::os("duplicate a descriptor for a worker"))
    }
}

impl Settings {
    /// Nothing is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program that workers run; it must use this crate as well. It is opened at once and held open: a file that replaces it later is
    /// not started before somebody says so.
    #[must_use]
    pub fn exec(mut self, path: impl Into<PathBuf>) -> Self {
        self.exec = Some(path.into());
        self
    }

    /// The arguments of the workers, in place of those before.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args = Some(args.into_iter().map(|arg| arg.as_ref().to_owned()).collect());
        self
    }

    /// The working directory. Default: the primary's.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// Sets an environment variable, on top of the primary's environment and of what was set before.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Whether what workers print goes nowhere. Default: no; it goes where [`Builder::output`](crate::Builder::output) says.
    #[must_use]
    pub fn silent(mut self, silent: bool) -> Self {
        self.silent = Some(silent);
        self
    }

    /// The user that workers run as, by number; without supplementary groups and, unless that is root, without capabilities.
    ///
    /// It takes root, and the start leaves the fast way: the program that runs the primary is started once more as a step in between, for
    /// which its `main` must call [`trampoline`](crate::supervisor::os::trampoline) first thing. Otherwise workers can't be started,
    /// and an [event](crate::Event) says why. Each start takes the primary a millisecond or two longer.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// The group that workers run as, by number. As [`uid`](Self::uid).
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// Connections of one worker at a time, at most, on all listeners together. Default: as many as its limit of open files allows.
    ///
    /// With 0 it listens and gets none: connections go to the others. If none of those who listen may have one, they wait, or are rejected,
    /// as [`Builder::when_full`](crate::Builder::when_full) says.
    #[must_use]
    pub fn max_connections_per_worker(mut self, connections: u32) -> Self {
        self.max_connections_per_worker = Some(connections);
        self
    }

    /// Hands a descriptor to workers, which [take](crate::Worker::take_descriptor) it by its name: an end of a pipe or a socket,
    /// a file. Each life of a worker gets a duplicate. Together at most some 240 per worker.
    #[must_use]
    pub fn descriptor(mut self, name: impl Into<String>, descriptor: impl Into<Arc<OwnedFd>>) -> Self {
        self.descriptors.0.insert(name.into(), descriptor.into());
        self
    }

    /// The names of the descriptors.
    pub fn descriptor_names(&self) -> impl Iterator<Item = &str> {
        self.descriptors.0.keys().map(String::as_str)
    }

    /// These, and where they say nothing, those of `base`.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let mut merged = base.clone();
        let Self { exec, args, cwd, env, silent, uid, gid, max_connections_per_worker, descriptors } =
            self.clone();
        merged.exec = exec.or(merged.exec);
        merged.args = args.or(merged.args);
        merged.cwd = cwd.or(merged.cwd);
        merged.env.extend(env);
        merged.silent = silent.or(merged.silent);
        merged.uid = uid.or(merged.uid);
        merged.gid = gid.or(merged.gid);
        merged.max_connections_per_worker = max_connections_per_worker.or(merged.max_connections_per_worker);
        merged.descriptors.0.extend(descriptors.0);
        merged
    }

    /// How to start `executable` so, with what it prints going to `printed`.
    pub(crate) fn spec(&self, executable: Arc<Executable>, printed: &Stdio) -> ChildSpec {
        let printed = if self.silent == Some(true) { Stdio::Null } else { printed.clone() };
        let mut spec = ChildSpec::new(executable).stdout(printed.clone()).stderr(printed);
        spec = spec.args(self.args.iter().flatten());
        spec = self.env.iter().fold(spec, |spec, (key, value)| spec.env(key, value));
        if let Some(cwd) = &self.cwd {
            spec = spec.directory(cwd);
        }
        if self.uid.is_some() || self.gid.is_some() {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            spec = spec.user(User::new(self.uid.unwrap_or(uid), self.gid.unwrap_or(gid)));
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe_end() -> Arc<OwnedFd> {
        Arc::new(io::pipe().unwrap().0.into())
    }

    #[test]
    fn what_is_not_set_stays_as_it_was() {
        let (one, another) = (pipe_end(), pipe_end());
        let base = Settings::new()
            .exec("/bin/a")
            .args(["x", "y"])
            .env("A", "1")
            .env("B", "1")
            .uid(1)
            .max_connections_per_worker(1)
            .descriptor("one", Arc::clone(&one));
        let changes = Settings::new()
            .cwd("/")
            .env("B", "2")
            .silent(true)
            .gid(2)
            .max_connections_per_worker(0)
            .descriptor("two", Arc::clone(&another));
        let expected = Settings::new()
            .exec("/bin/a")
            .args(["x", "y"])
            .cwd("/")
            .env("A", "1")
            .env("B", "2")
            .silent(true)
            .uid(1)
            .gid(2)
            .max_connections_per_worker(0)
            .descriptor("one", one)
            .descriptor("two", another);
        assert_eq!(changes.over(&base), expected);
        assert_eq!(Settings::new().over(&expected), expected);
        assert_eq!(expected.descriptor_names().collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_descriptor_is_the_same_only_if_it_is_that_very_one() {
        let one = pipe_end();
        let with = |descriptor: &Arc<OwnedFd>| Settings::new().descriptor("a", Arc::clone(descriptor));
        assert_eq!(with(&one), with(&one));
        assert_ne!(with(&one), with(&pipe_end()));
        assert_ne!(with(&one), Settings::new());
    }
}
