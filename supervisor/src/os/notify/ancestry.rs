//! Who descends from whom: a walk up the tree of processes, without I/O of its own.

/// How many parents are looked at: far more than real trees have, and an end should the links form a circle while
/// they change under us.
const MAX_DEPTH: usize = 1024;

/// Whether `pid` is `ancestor` or descends from it. A process that can't be looked at any more descends from nobody.
pub(super) fn descends(pid: u32, ancestor: u32, parent_of: impl Fn(u32) -> Option<u32>) -> bool {
    let line = std::iter::successors(Some(pid), |pid| parent_of(*pid).filter(|parent| *parent != 0));
    line.take(MAX_DEPTH).any(|pid| pid == ancestor)
}

/// The parent's pid in a `/proc/PID/stat`. The program's name may hold anything, brackets too.
pub(super) fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The parent of a process, as `/proc` has it.
pub(super) fn parent_of(pid: u32) -> Option<u32> {
    // Bytes: a name need not be UTF-8.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parent_in_stat(&String::from_utf8_lossy(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 ← 10 ← 100 ← 1000, and 20 ← 200 with 20's parent unknown; 7 and 8 form a circle.
    fn family(pid: u32) -> Option<u32> {
        match pid {
            10 => Some(1),
            100 => Some(10),
            1000 => Some(100),
            200 => Some(20),
            7 => Some(8),
            8 => Some(7),
            1 => Some(0),
            _ => None,
        }
    }

    #[test]
    fn a_process_descends_from_itself_and_those_above() {
        for ancestor in [1000, 100, 10, 1] {
            assert!(descends(1000, ancestor, family), "{ancestor}");
        }
        assert!(!descends(100, 1000, family), "not the other way round");
        assert!(!descends(200, 10, family));
        assert!(!descends(1000, 0, family), "0 is no process");
        assert!(!descends(7, 1, family), "a circle has an end");
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat("12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("12 (a) S 9 (b) R 7 12"), Some(7));
        assert_eq!(parent_in_stat("12 (sh"), None);
        assert_eq!(parent_in_stat("12 (sh) S"), None);
        assert_eq!(parent_in_stat(""), None);
    }

    #[test]
    fn proc_knows_our_parent() {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
        assert_eq!(parent_of(std::process::id()), Some(parent));
    }
}
