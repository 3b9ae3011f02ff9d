//! What a control group uses and may use.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use super::text::{behind, number, words};
use super::{Pressure, Roots, files};

/// A control group (version 2): what its processes use together, and what they may.
///
/// The files are kept open; each call reads one. What the group doesn't have (a controller that is off, the root
/// group, version 1) is `None`, and so is everything once it has been removed.
///
/// ```
/// use cluster_health::os::Cgroup;
///
/// if let Some(cgroup) = Cgroup::of(std::process::id())
///     && let (Some(used), Some(limit)) = (cgroup.memory(), cgroup.memory_limit())
/// {
///     println!("{used} of {limit} bytes");
/// }
/// ```
#[derive(Debug)]
pub struct Cgroup {
    memory: Option<OwnedFd>,
    memory_limit: Option<OwnedFd>,
    memory_events: Option<OwnedFd>,
    cpu_limit: Option<OwnedFd>,
    pressure: Pressure,
}

impl Cgroup {
    /// The group that a process is in now. `None` if there is none of version 2 that can be seen from here.
    pub fn of(pid: u32) -> Option<Self> {
        Self::of_in(&Roots::new(), pid)
    }

    /// The same with other roots.
    pub fn of_in(roots: &Roots, pid: u32) -> Option<Self> {
        let file = File::open(roots.proc_path().join(pid.to_string()).join("cgroup")).ok()?;
        // A line per hierarchy, each with a path of up to 4 KB. Version 2 comes last.
        let mut buffer = [0; 1 << 14];
        let path = parse_membership(files::read(&file, &mut buffer).ok()?)?;
        Self::at(&mount(roots.cgroup_path())?.join(path))
    }

    /// The group of this folder.
    pub fn at(folder: &Path) -> Option<Self> {
        if !folder.is_dir() {
            return None;
        }
        let open = |name| File::open(folder.join(name)).ok().map(OwnedFd::from);
        Some(Self {
            memory: open("memory.current"),
            memory_limit: open("memory.max"),
            memory_events: open("memory.events"),
            cpu_limit: open("cpu.max"),
            pressure: Pressure::of_cgroup(folder),
        })
    }

    /// Memory that is charged to the group, in bytes, caches of files too (`memory.current`).
    pub fn memory(&self) -> Option<u64> {
        self.read(&self.memory, number)
    }

    /// How many bytes that may be (`memory.max`). `None` without a limit; groups above may have a lower one.
    pub fn memory_limit(&self) -> Option<u64> {
        self.read(&self.memory_limit, number)
    }

    /// How many processes of it, and of those below, were killed for want of memory (`memory.events`, `oom_kill`).
    pub fn oom_kills(&self) -> Option<u64> {
        self.read(&self.memory_events, |text| number(behind(text, "oom_kill ")?))
    }

    /// How many processors' time it may use (`cpu.max`): 1.5 is one and a half. `None` without a limit; groups above
    /// may have a lower one.
    pub fn cpu_limit(&self) -> Option<f64> {
        self.read(&self.cpu_limit, parse_quota)
    }

    /// How much it loses to waiting.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    fn read<T>(&self, file: &Option<OwnedFd>, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut buffer = [0; 512];
        parse(files::read(file.as_ref()?, &mut buffer).ok()?)
    }
}

/// Where version 2 is mounted: at the root, or beside version 1 as systemd's hybrid has it.
fn mount(root: &Path) -> Option<PathBuf> {
    let candidates = [root.to_owned(), root.join("unified")];
    candidates.into_iter().find(|folder| folder.join("cgroup.controllers").exists())
}

/// Finds the line `0::/path` of version 2 in `/proc/PID/cgroup` (`cgroups(7)`).
///
/// A path with `..` is one outside of this process's cgroup namespace: not to be found below the root.
fn parse_membership(text: &[u8]) -> Option<PathBuf> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    let path = PathBuf::from(std::str::from_utf8(line).ok()?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// `150000 100000` is one and a half; `max 100000` is no limit.
fn parse_quota(text: &[u8]) -> Option<f64> {
    let mut numbers = words(text).map(number);
    let (quota, period) = (numbers.next()??, numbers.next()??);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quota_is_a_number_of_processors() {
        assert_eq!(parse_quota(b"150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota(b"max 100000\n"), None);
        assert_eq!((parse_quota(b"1 0\n"), parse_quota(b"1\n"), parse_quota(b"")), (None, None, None));
    }

    #[test]
    fn the_group_of_version_2_is_found_among_those_of_version_1() {
        let text = b"9:name=systemd:/\n4:memory:/old\n0::/system.slice/a b.service\n";
        assert_eq!(parse_membership(text), Some(PathBuf::from("system.slice/a b.service")));
        assert_eq!(parse_membership(b"0::/\n"), Some(PathBuf::new()), "the root");
        for outside in [&b"4:memory:/old\n"[..], b"0::/../../other\n", b"0:://etc\n", b"0::/\xff\n"] {
            assert_eq!(parse_membership(outside), None, "{:?}", outside.escape_ascii().to_string());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_quota(&bytes);
            let membership = [b"0::/", &bytes[..]].concat();
            prop_assert!(parse_membership(&membership).is_none_or(|path| path.is_relative()));
        }
    }
}
