//! How often the kernel has killed for want of memory, as control groups and the machine count it.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Where the kernel shows what it knows. A test puts files of its own there.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) proc: PathBuf,
    pub(super) cgroup: PathBuf,
}

impl Roots {
    pub(super) fn system() -> Self {
        Self { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }

    /// The cgroup (version 2) of a process, as a path below the root.
    pub(super) fn cgroup_of(&self, pid: u32) -> Option<PathBuf> {
        parse_membership(&read(&self.proc.join(pid.to_string()).join("cgroup"))?)
    }

    /// How many processes of a cgroup and those below it were killed (`memory.events`, `oom_kill`).
    ///
    /// `None` if the memory controller is off there, or the cgroup is gone.
    pub(super) fn oom_kills_in(&self, cgroup: &Path) -> Option<u64> {
        parse_counter(&read(&self.cgroup.join(cgroup).join("memory.events"))?)
    }

    /// How many processes of the whole machine were killed (`/proc/vmstat`, `oom_kill`).
    pub(super) fn oom_kills(&self) -> Option<u64> {
        parse_counter(&read(&self.proc.join("vmstat"))?)
    }
}

/// Finds the line `0::/path` of version 2 in `/proc/PID/cgroup` (`cgroups(7)`).
///
/// A path with `..` is one outside of this process's cgroup namespace: not to be found below the root.
fn parse_membership(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = PathBuf::from(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Finds the line `oom_kill 3`, which both files have.
fn parse_counter(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    // `vmstat` has some 5 KB; a path may have 4 KB.
    File::open(path).ok()?.take(1 << 16).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cgroup_of_version_2_is_found_among_those_of_version_1() {
        let text = "9:name=systemd:/\n4:memory:/old\n0::/system.slice/a b.service\n";
        assert_eq!(parse_membership(text), Some(PathBuf::from("system.slice/a b.service")));
        assert_eq!(parse_membership("0::/\n"), Some(PathBuf::new()), "the root");
        assert_eq!(parse_membership("4:memory:/old\n"), None);
    }

    #[test]
    fn a_cgroup_outside_of_the_namespace_is_not_looked_for() {
        assert_eq!(parse_membership("0::/../../other\n"), None);
        assert_eq!(parse_membership("0:://etc\n"), None);
    }

    #[test]
    fn the_counter_is_not_taken_for_one_of_a_similar_name() {
        let events = "low 0\nhigh 0\nmax 12\noom 5\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(parse_counter(events), Some(3));
        assert_eq!(parse_counter("oom 5\noom_group_kill 1\n"), None);
        assert_eq!(parse_counter("oom_kill many\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = (parse_counter(&text), parse_membership(&text));
            let cgroup = parse_membership(&format!("0::/{text}"));
            prop_assert!(cgroup.is_none_or(|path| path.is_relative()));
        }
    }
}
